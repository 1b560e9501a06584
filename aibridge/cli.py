"""The command line: which command is run, and the servers, `serve` and `simulate`. The others are in `commands/`."""

import argparse
import asyncio
import contextlib
import errno
import functools
import gc
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import uvloop

from aibridge import __version__, config, orphans
from aibridge.app import App
from aibridge.commands import (
    checking,
    completing,
    doctoring,
    following,
    importing,
    keys,
    prices,
    replaying,
    reports,
    toolservers,
)
from aibridge.commands.parser import Commands, Parser
from aibridge.compiled import MODULES
from aibridge.config import AuthMode, Config
from aibridge.demo import show_one_stream, show_record
from aibridge.errors import AibridgeError
from aibridge.reload import Looks, Read, ReloadCounts, Reloader, Target, look_at
from aibridge.share import Share
from aibridge.simulator import command as simulator
from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings as SimulatorSettings
from aibridge.supervisor import Supervisor, command
from aibridge.telemetry import genai, log, tracing
from aibridge.wire import IMPLEMENTATION
from aibridge.worker import Worker

_COLLECT_EVERY = 10_000
"""Objects between collections. A request makes no cycles that reference counting would leave behind."""

logger = logging.getLogger("aibridge")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0 fine, 1 it failed, 2 it was called or configured wrongly."""
    said = sys.argv[1:] if arguments is None else arguments
    if not said:
        print(_START)
        return 0
    options = parser().parse_args(said)
    try:
        return int(options.run(options))
    except AibridgeError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        others = "--port names another" if "port" in options else "AIBRIDGE_PORT and AIBRIDGE_ADMIN_PORT name others"
        hint = f"; {others}" if error.errno == errno.EADDRINUSE else ""
        print(f"aibridge: {error}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        # Of an error that is not ours the kind alone, and the place: its text may hold anything.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {place.filename}, line {place.lineno}"
        print(f"aibridge: a bug: {where}; PYTHONDEVMODE=1 shows more", file=sys.stderr)
        return 1


_INTERRUPTED = 130
"""What shells say of a program that Ctrl-C has ended: 128, and the signal's number."""

_START = f"""aibridge {__version__}: an AI gateway that tells the truth about how each stream ended

  $ aibridge serve --demo                 start it; without credentials on a simulator, with one stream to see
  $ aibridge serve --config aibridge.yaml
  $ aibridge doctor                       does everything work that it needs? what is to be done where not?
  $ aibridge tail                         watch how streams end

`aibridge --help` lists all commands, `aibridge COMMAND --help` teaches one."""


def parser() -> Parser:
    """Return the parser of the whole command line."""
    whole = Parser(
        prog="aibridge",
        description="An AI gateway that relays bytes untouched and tells the truth about how each stream ended.",
        epilog="exit status: 0 fine, 1 it failed or found something, 2 it was called or configured wrongly\n"
        "more: docs/cli.md",
    )
    commands = Commands(whole)
    _add_servers(commands)
    for room in (checking, doctoring, following, reports, replaying, keys, prices, toolservers, importing):
        room.add_commands(commands)
    completing.add_commands(commands, whole)
    return whole


def _add_servers(commands: Commands) -> None:
    serve = commands.add(
        "serve",
        _serve,
        "start the gateway; without a file, from the environment",
        [
            "serve --demo  # try it: without credentials at hand, on the built-in simulator",
            "serve --config aibridge.yaml",
            "serve --config aibridge.yaml --workers 4",
        ],
        "docs/configuration.md, docs/operations.md",
    )
    serve.add_argument("--config", metavar="FILE", help="a YAML file (default: the environment alone)")
    serve.add_argument("--workers", metavar="N", type=int, help="processes behind one port (default: as configured, 1)")
    serve.add_argument("--share", help=argparse.SUPPRESS)  # what a worker has of its supervisor
    serve.add_argument(
        "--demo",
        action="store_true",
        help="on the simulator: send one request through the gateway, and show its record",
    )
    simulate = commands.add(
        "simulate",
        _simulate,
        "play the providers' APIs and every fault of theirs",
        ["simulate --port 8900", "simulate --any-credentials --ledger asked.jsonl"],
    )
    simulator.add_arguments(simulate)


def _simulate(options: argparse.Namespace) -> int:
    return _run(simulator.serve(options))


def _serve(options: argparse.Namespace) -> int:
    files: set[Path] = set()
    loaded = _read(options, files)
    known = look_at(files)
    read = functools.partial(_read, options) if options.config else None
    share = None if options.share is None else Share.of_argument(options.share)
    log.setup(loaded.log.level, whole_lines=loaded.workers > 1)
    _raise_open_files()
    if share is not None:
        return _run(serve(loaded, share=share, read=read))
    for note in loaded.notes:
        logger.warning(note)
    if loaded.workers == 1:
        return _run(serve(loaded, demo=options.demo, read=read, known=known))
    if options.demo:
        logger.warning("no demonstration: it is for one worker")
    return uvloop.run(orphans.burying(supervise(loaded, read=read, known=known)))


def _read(options: argparse.Namespace, files: set[Path]) -> Config:
    loaded = config.load(options.config, files=files) if options.config else config.from_environment()
    return loaded if options.workers is None else loaded.with_workers(options.workers)


def _run(main: Coroutine[Any, Any, None]) -> int:
    uvloop.run(orphans.burying(main))
    return 0


async def supervise(loaded: Config, *, read: Read | None = None, known: Looks = MappingProxyType({})) -> int:
    """Keep workers until SIGTERM or SIGINT, at once at the second. Returns the exit status.

    SIGUSR2 replaces them, SIGHUP has them take the configuration that is there then.

    Args:
        loaded: the configuration.
        read: reads it again; None: there is no file.
        known: what its files looked like when it was read.
    """
    counts = ReloadCounts()
    supervisor = Supervisor(loaded, command(), read, () if read is None else counts.families)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unheard)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(signal.SIGUSR2, supervisor.renew)
    async with _reloading(supervisor, read, known, counts):
        return await supervisor.run()


@contextlib.asynccontextmanager
async def _reloading(target: Target, read: Read | None, known: Looks, counts: ReloadCounts) -> AsyncIterator[None]:
    """Reload the configuration at SIGHUP, and when a file changes; without a file, leave SIGHUP its usual meaning."""
    if read is None:
        yield
        return
    reloader = Reloader(read, target, known, counts)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.ask)
    try:
        yield
    finally:
        await reloader.stop()


async def serve(
    loaded: Config,
    *,
    demo: bool = False,
    share: Share | None = None,
    read: Read | None = None,
    known: Looks = MappingProxyType({}),
) -> None:
    """Serve until SIGTERM or SIGINT; a simulated configuration starts its simulator too.

    Args:
        loaded: the configuration.
        demo: whether to send a request.
        share: of a worker, which serves until its supervisor says so too, or is gone.
        read: reads the configuration again; None: there is no file.
        known: what its files looked like when it was read.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unheard)
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    if share is not None:  # the terminal's signals reach the whole group: a worker waits for its supervisor's word
        for number in (signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, _ignore)
    else:
        loop.add_signal_handler(signal.SIGINT, stopped.set)
        if read is not None:
            loop.add_signal_handler(signal.SIGHUP, _ignore)  # it starts with what was read just now
    async with contextlib.AsyncExitStack() as stack:
        if loaded.simulated:
            simulated = await stack.enter_async_context(Simulator(SimulatorSettings()))
            loaded = loaded.with_simulator(simulated.url)
            if share is None or share.number == 0:
                logger.warning("no credentials found: every answer comes from the built-in simulator")
        app = App(loaded, tracing=_build_tracing(loaded), genai=_build_genai(loaded), share=share)
        await app.start()
        _spare_the_collector()
        if share is None:
            await _serve_alone(app, read, known, stopped, demo=demo)
        else:
            worker = Worker(app, stopped.set, read)
            await worker.report(share.control, _start_fields(loaded, app))
            await stopped.wait()
        await app.stop()
    if share is None:
        logger.info("aibridge stopped")


async def _serve_alone(app: App, read: Read | None, known: Looks, stopped: asyncio.Event, *, demo: bool) -> None:
    counts = ReloadCounts()
    if read is not None:
        for family in counts.families:
            app.metrics.registry.register(family)
    async with _reloading(app, read, known, counts):
        logger.info("aibridge started", extra={"fields": _start_fields(app.config, app)})
        if demo and app.config.simulated:  # with credentials it would be a request that somebody pays for
            await _demonstrate(app, app.config)
        await stopped.wait()
        fields = {"live": app.live, "deadline_s": app.config.drain_deadline}
        logger.info("draining", extra={"fields": fields})


def _ignore() -> None:
    pass


def _log_unheard(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that nobody waited for. asyncio's own words would show the objects at hand, with all they hold."""
    logger.error(context["message"], exc_info=context.get("exception"))


def _build_tracing(loaded: Config) -> tracing.Tracing | None:
    return tracing.build(os.environ, version=__version__, semconv=loaded.tracing.semconv)


def _build_genai(loaded: Config) -> genai.GenAIMetrics | None:
    return genai.build(
        os.environ,
        version=__version__,
        semconv=loaded.tracing.semconv,
        models=loaded.known_models(),
        max_models=loaded.metrics.max_models,
    )


async def _demonstrate(app: App, loaded: Config) -> None:
    if loaded.auth.effective_mode is AuthMode.KEYS and not (loaded.auth.keys and loaded.auth.keys[0].clear):
        logger.warning("no demonstration: it needs a gateway key in clear, the first of auth.keys")
        return
    try:
        interception_id = await show_one_stream(app.port, loaded)
    except OSError:
        logger.exception("the demonstration failed; the gateway goes on")
        return
    if app.recorder is not None and await asyncio.to_thread(app.recorder.flush):
        show_record(app.port, loaded, interception_id)


def _start_fields(loaded: Config, app: App) -> dict[str, Any]:
    host = loaded.listen.host
    shown = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - compared, not bound
    return {
        "version": __version__,
        "wire": IMPLEMENTATION,
        "modules": MODULES,
        "data": f"http://{shown}:{app.port}",
        "admin": f"http://{loaded.admin.host}:{app.admin_port}",
        "providers": sorted(loaded.providers),
        "aws_credentials": app.generation.credential_sources,
        "records": str(loaded.records.path) if loaded.records.enabled else "off",
        "auth": loaded.auth.effective_mode.value,
        "gateway_keys": len(loaded.auth.keys),
        "key_store": str(loaded.auth.key_store.path) if loaded.auth.key_store else "off",
    }


def _spare_the_collector() -> None:
    """What was made at the start lives to the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 20, 20)


def _raise_open_files() -> None:
    """Two sockets a stream: let the process open as many files as the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
