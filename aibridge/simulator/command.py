"""`aibridge simulate`: the simulator as a program of its own."""

import argparse
import asyncio
import contextlib
import math
import signal
from pathlib import Path
from typing import IO

from aibridge.simulator.faults import SPECS, signature
from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings
from aibridge.simulator.sigv4 import TEST_ACCESS_KEY, TEST_SECRET_KEY
from aibridge.simulator.values import Shape

_LAST_PORT = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the program's options to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"{parser.epilog or ''}\n\n".lstrip() + (
        "A fault is played where its word stands in the header x-sim-fault, or in the model's name behind a plus:\n"
        "claude-sim+cut@120, gpt-sim+no_done. Words combine: many:500+slow:20+rst@100. K counts events, left out it is "
        "the middle.\n\n"
        f"{_words()}\n\n"
        f"Bedrock requests are signed with the key {TEST_ACCESS_KEY} and the secret {TEST_SECRET_KEY}."
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="to listen on (default: %(default)s)")
    text = "0 takes one from the kernel (default: %(default)s)"
    parser.add_argument("--port", type=_port, default=8900, metavar="PORT", help=text)
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="write a line of JSON for each request")
    parser.add_argument("--pace", type=_pace, default=0.0, metavar="MS", help="milliseconds between events")
    parser.add_argument("--any-credentials", action="store_true", help="check no keys and no signatures")


def _port(text: str) -> int:
    if not (text.isdecimal() and len(text) <= len(str(_LAST_PORT)) and int(text) <= _LAST_PORT):
        raise argparse.ArgumentTypeError(f"should be a number from 0 to {_LAST_PORT}, not {text!r}")
    return int(text)


def _pace(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (found := float(text)) < math.inf:
            return found
    raise argparse.ArgumentTypeError(f"should be milliseconds from 0 on, not {text!r}")


async def serve(options: argparse.Namespace) -> None:
    """Play until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    settings = Settings(shape=Shape(pace_s=options.pace / 1000), any_credentials=options.any_credentials)
    with contextlib.ExitStack() as files:
        ledger: IO[str] | None = None
        if options.ledger is not None:
            ledger = files.enter_context(options.ledger.open("a", encoding="utf-8"))
        simulator = Simulator(settings, ledger)
        await simulator.start(options.host, options.port)
        print(_greeting(simulator.url), flush=True)  # noqa: T201 - its one line
        await stopped.wait()
        await simulator.stop()


def _greeting(url: str) -> str:
    return (
        f"simulator at {url} : ANTHROPIC_BASE_URL={url} or OPENAI_BASE_URL={url}/v1 with any key, "
        f"ANTHROPIC_BEDROCK_BASE_URL={url} with AWS_ACCESS_KEY_ID={TEST_ACCESS_KEY} "
        f"AWS_SECRET_ACCESS_KEY={TEST_SECRET_KEY}; faults: simulate --help"
    )


def _words() -> str:
    """Return the list of faults, a line each."""
    return "\n".join(f"  {signature(word):32} {spec.says}" for word, spec in SPECS.items())
