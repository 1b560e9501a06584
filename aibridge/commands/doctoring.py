"""The command `doctor`: looks at all that a gateway needs, one by one, and says what to do where something is wrong."""

import argparse
from collections import Counter
from collections.abc import AsyncIterator

import uvloop

from aibridge import jsontext
from aibridge.commands.parser import Commands, add_json
from aibridge.commands.reporting import configuration
from aibridge.commands.terminal import Colour, painter, plain, print_lines
from aibridge.config import Config
from aibridge.doctor.house import look, look_at_ports
from aibridge.doctor.upstreams import Upstream
from aibridge.doctor.values import Finding, State
from aibridge.errors import ConfigError

_COLOURS = {State.OK: Colour.GREEN, State.NOTE: Colour.YELLOW, State.FAILED: Colour.RED, State.SKIPPED: Colour.DIM}


def add_commands(commands: Commands) -> None:
    """Add the command of this file."""
    doctor = commands.add(
        "doctor",
        _doctor,
        "look at all that a gateway needs, and say what to do where something is wrong; exit status 1 where it is",
        [
            "doctor --config aibridge.yaml",
            "doctor --provider bedrock --send  # a model answers, for some tokens",
            "doctor --json | jq '.[] | select(.state == \"failed\")'",
        ],
        "docs/cli.md, docs/configuration.md",
    )
    doctor.add_argument("--config", metavar="FILE", help="a YAML file (default: as `serve` would)")
    doctor.add_argument("--provider", metavar="NAME", help="this upstream alone")
    doctor.add_argument(
        "--model", default="", metavar="NAME", help="to try this model (default: one that costs little)"
    )
    doctor.add_argument(
        "--send", action="store_true", help="make a model of each provider answer: it costs some tokens"
    )
    add_json(doctor, "one JSON array of findings")


def _doctor(options: argparse.Namespace) -> int:
    configured = configuration(options)
    if options.provider is not None and options.provider not in configured.providers:
        names = ", ".join(sorted(configured.providers))
        raise ConfigError(f"--provider {options.provider}: the configuration has {names}")
    found = uvloop.run(_look(configured, options))
    if options.json:
        print_lines([jsontext.dumps([finding._asdict() for finding in found]).decode()], as_json=True)
    else:
        counts = Counter(finding.state for finding in found)
        print_lines(["", ", ".join(f"{counts[state]} {state}" for state in State if counts[state])], as_json=False)
    return 1 if any(finding.state is State.FAILED for finding in found) else 0


async def _look(configured: Config, options: argparse.Namespace) -> list[Finding]:
    """Look, and tell a person each finding as it comes."""
    paint, about, found = painter(), "", []
    async for finding in _findings(configured, options):
        found.append(finding)
        if options.json:
            continue
        heading = [finding.about] if finding.about != about else []
        about = finding.about
        state = paint(f"{finding.state:<8}", _COLOURS[finding.state])
        told = ("\n" + " " * 25).join(map(plain, finding.detail.splitlines()))
        lines = [*heading, f"  {state}{finding.check:<15}{told}"]
        if finding.advice:
            lines.append(f"{'':25}-> {plain(finding.advice)}")
        print_lines(lines, as_json=False)
    return found


async def _findings(configured: Config, options: argparse.Namespace) -> AsyncIterator[Finding]:
    if options.provider is None:
        source = options.config or "the environment"
        for finding in look(configured, source):
            yield finding
        async for finding in look_at_ports(configured):
            yield finding
    if configured.simulated:
        text = "set ANTHROPIC_API_KEY, OPENAI_API_KEY, or AWS_REGION with AWS credentials; or name a file with --config"
        yield Finding("", "upstreams", State.NOTE, "no credentials are found: the simulator would answer", text)
        return
    for name in [options.provider] if options.provider else sorted(configured.providers):
        async for finding in Upstream(name, configured, model=options.model, send=options.send).look():
            yield finding
