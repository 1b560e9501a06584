"""What `aibridge mcp list` tells of the tool servers. No secret is known here."""

from collections.abc import Iterable, Iterator
from typing import Any

from aibridge.mcp.values import ServerState, State


def lines(states: Iterable[ServerState]) -> Iterator[str]:
    """Yield what a person reads."""
    for state in states:
        yield f"{state.name}  {state.url}  {_where_it_stands(state)}"
        for tool in state.tools:
            yield f"  {tool.id}  {_printable(tool.name)}"
        for left in state.left_out:
            yield f"  left out  {_printable(left.name)}: {_printable(left.why)}"


def values(states: Iterable[ServerState]) -> list[dict[str, Any]]:
    """Return the same for programs."""
    return [
        {
            "name": state.name,
            "url": state.url,
            "state": state.state.value,
            "why": state.why,
            "credential_header": state.credential_header,
            "tools": [
                {"id": tool.id, "name": tool.name, "description": tool.description, "schema_bytes": len(tool.schema)}
                for tool in state.tools
            ],
            "left_out": [{"name": left.name, "why": left.why} for left in state.left_out],
        }
        for state in states
    ]


def _where_it_stands(state: ServerState) -> str:
    if state.state is State.PER_ACTOR:
        return f"asked with each actor's own credential, from {state.credential_header}"
    if state.state is State.UP:
        return f"up, {len(state.tools)} tools"
    return f"down: {_printable(state.why)}"


def _printable(text: str) -> str:
    """Return a text of a server's, on one line and without commands to a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
