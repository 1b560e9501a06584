"""The command `mcp list`: the tool servers, as a gateway would find them now."""

import argparse

import uvloop

from aibridge import jsontext
from aibridge.assembly import build_tool_servers
from aibridge.commands.parser import Commands, add_json
from aibridge.commands.reporting import configuration
from aibridge.commands.terminal import print_lines
from aibridge.config import Config
from aibridge.mcp import report
from aibridge.mcp.values import ServerState, State

_PAGE = "docs/tools.md"


def add_commands(commands: Commands) -> None:
    """Add `mcp`, and the command below it."""
    below = commands.group("mcp", "look at the tool servers", ["mcp list --config aibridge.yaml"], _PAGE)
    listing = below.add(
        "list",
        _list,
        "show them, their tools and what is left out; exit status 1 where one is down",
        ["mcp list --config aibridge.yaml", "mcp list --json | jq '.[].tools'"],
        _PAGE,
    )
    listing.add_argument("-c", "--config", metavar="FILE", help="a YAML file (default: as `serve` would)")
    add_json(listing)


def _list(options: argparse.Namespace) -> int:
    states = uvloop.run(_ask(configuration(options)))
    if options.json:
        print_lines([jsontext.dumps(report.values(states)).decode()], as_json=True)
    else:
        print_lines(report.lines(states) if states else ["no tool servers are configured"], as_json=False)
    return 1 if any(state.state is State.DOWN for state in states) else 0


async def _ask(configured: Config) -> list[ServerState]:
    servers = build_tool_servers(configured)
    if servers is None:
        return []
    await servers.start()
    await servers.connected()
    states = servers.states()
    await servers.close()
    return states
