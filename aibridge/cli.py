"""The command line: `serve`, `simulate`, `check`, `audit`, `mcp`, `version`, and the reports on the records."""

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
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop

from aibridge import __version__, config, jsontext, keycommands, orphans, pricefile, pricereports, reports
from aibridge.app import App
from aibridge.assembly import build_tool_servers
from aibridge.audit import audit, report
from aibridge.compiled import MODULES
from aibridge.config import AuthMode, Config
from aibridge.demo import show_one_stream, show_record
from aibridge.errors import AibridgeError
from aibridge.mcp import report as mcp
from aibridge.mcp.values import ServerState, State
from aibridge.share import Share
from aibridge.simulator import command as simulator
from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings as SimulatorSettings
from aibridge.supervisor import Supervisor, command
from aibridge.telemetry import genai, log, tracing
from aibridge.telemetry.metrics import Metrics
from aibridge.wire import IMPLEMENTATION
from aibridge.worker import Worker

_COLLECT_EVERY = 10_000
"""Objects between collections. A request makes no cycles that reference counting would leave behind."""

logger = logging.getLogger("aibridge")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0 fine, 1 it failed, 2 it was called or configured wrongly."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except AibridgeError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        hint = "; AIBRIDGE_PORT and AIBRIDGE_ADMIN_PORT name others" if error.errno == errno.EADDRINUSE else ""
        print(f"aibridge: {error}{hint}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aibridge",
        description="An AI gateway that relays bytes untouched and tells the truth about how each stream ended.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = _add(commands, "serve", _serve, "start the gateway; without a file, from the environment")
    serve.add_argument("--config", metavar="FILE", help="a YAML file (default: the environment alone)")
    serve.add_argument("--workers", metavar="N", type=int, help="processes behind one port (default: as configured, 1)")
    serve.add_argument("--share", help=argparse.SUPPRESS)  # what a worker has of its supervisor
    serve.add_argument(
        "--demo",
        action="store_true",
        help="on the simulator: send one request through the gateway, and show its record",
    )
    simulate = _add(commands, "simulate", _simulate, "play the providers' APIs and every fault of theirs")
    simulator.add_arguments(simulate)
    check = _add(commands, "check", _check, "check a configuration file, and print what it comes to")
    check.add_argument("file", metavar="FILE")
    checked = _add(commands, "audit", _audit, "check that the records add up; exit status 1 where they do not")
    where = checked.add_mutually_exclusive_group()
    where.add_argument("path", nargs="?", metavar="STORE", help="the file of the records (default: as `serve` would)")
    where.add_argument("--config", metavar="FILE", help="a YAML file that names it")
    keys = commands.add_parser("keys", help="make, list, end and replace gateway keys")
    keycommands.add_commands(keys)
    reports.add_commands(functools.partial(_add, commands))
    tool_servers = _add(commands, "mcp", _list_tool_servers, "look at the tool servers")
    asked = tool_servers.add_subparsers(dest="question", required=True, metavar="QUESTION")
    told = "show them, their tools and what is left out; exit status 1 where one is down"
    listing = _add(asked, "list", _list_tool_servers, told)
    listing.add_argument("-c", "--config", metavar="FILE", help="a YAML file (default: as `serve` would)")
    listing.add_argument("--json", action="store_true", help="for programs")
    pricereports.add_commands(functools.partial(_add, commands))
    _add(commands, "version", _version, "print the version and which wire is in use")
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def _version(_: argparse.Namespace) -> int:
    print(f"aibridge {__version__}, {IMPLEMENTATION} wire, {MODULES} modules, Python {sys.version.split()[0]}")
    return 0


def _check(options: argparse.Namespace) -> int:
    checked = config.load(options.file)
    pricefile.load(checked.prices.path)
    for note in checked.notes:
        print(f"note: {note}", file=sys.stderr)
    print(jsontext.dumps(config.describe(checked)).decode())
    return 0


def _audit(options: argparse.Namespace) -> int:
    path = Path(options.path) if options.path else _load(options).records.path
    result = audit(path)
    for line in report(result):
        print(line)
    return 1 if result.differences else 0


def _list_tool_servers(options: argparse.Namespace) -> int:
    states = uvloop.run(_ask_tool_servers(_load(options)))
    if options.json:
        print(jsontext.dumps(mcp.values(states)).decode())
    else:
        for line in mcp.lines(states):
            print(line)
        if not states:
            print("no tool servers are configured")
    return 1 if any(state.state is State.DOWN for state in states) else 0


async def _ask_tool_servers(loaded: Config) -> list[ServerState]:
    servers = build_tool_servers(loaded, Metrics())
    if servers is None:
        return []
    await servers.start()
    await servers.connected()
    states = servers.states()
    await servers.close()
    return states


def _simulate(options: argparse.Namespace) -> int:
    return _run(simulator.serve(options))


def _serve(options: argparse.Namespace) -> int:
    loaded = _load(options)
    if options.workers is not None:
        loaded = loaded.with_workers(options.workers)
    share = None if options.share is None else Share.of_argument(options.share)
    log.setup(loaded.log.level, whole_lines=loaded.workers > 1)
    _raise_open_files()
    if share is not None:
        return _run(serve(loaded, share=share))
    for note in loaded.notes:
        logger.warning(note)
    if loaded.workers == 1:
        return _run(serve(loaded, demo=options.demo))
    if options.demo:
        logger.warning("no demonstration: it is for one worker")
    return uvloop.run(orphans.burying(supervise(loaded)))


def _load(options: argparse.Namespace) -> Config:
    return config.load(options.config) if options.config else config.from_environment()


def _run(main: Coroutine[Any, Any, None]) -> int:
    uvloop.run(orphans.burying(main))
    return 0


async def supervise(loaded: Config) -> int:
    """Keep workers until SIGTERM or SIGINT, at once at the second; SIGUSR2 replaces them. Returns the exit status."""
    supervisor = Supervisor(loaded, command())
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unheard)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(signal.SIGUSR2, supervisor.renew)
    return await supervisor.run()


async def serve(loaded: Config, *, demo: bool = False, share: Share | None = None) -> None:
    """Serve until SIGTERM or SIGINT; a simulated configuration starts its simulator too.

    Args:
        loaded: the configuration.
        demo: whether to send a request.
        share: of a worker, which serves until its supervisor says so too, or is gone.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unheard)
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    # Ctrl-C reaches the whole group: a worker waits for its supervisor's word.
    loop.add_signal_handler(signal.SIGINT, stopped.set if share is None else _ignore)
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
            logger.info("aibridge started", extra={"fields": _start_fields(loaded, app)})
        else:
            worker = Worker(app, stopped.set)
            await worker.report(share.control, _start_fields(loaded, app))
        if demo and loaded.simulated:  # with credentials it would be a request that somebody pays for
            await _demonstrate(app, loaded)
        await stopped.wait()
        if share is None:
            logger.info("draining", extra={"fields": {"live": app.gateway.live, "deadline_s": loaded.drain_deadline}})
        await app.stop()
    if share is None:
        logger.info("aibridge stopped")


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
        "aws_credentials": app.credential_sources,
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
