"""From what a server lists to the tools that models are offered. Pure.

One tool that an API does not take (a name, a schema) fails each request that offers it. So what is not surely good is
left out, with the reason. A tool's id follows from its server and its own name alone, so that it stays what it is
whatever else the server lists: tools stand at the beginning of the prompts that providers cache.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from aibridge.mcp.values import LeftOut, Listed, ServerSettings
from aibridge.text import shortened
from aibridge.toolloop.base import PREFIX, Tool

MAX_ID = 64
"""Characters; what all APIs take."""
MAX_NAME = 256
"""Characters of a name as the server writes it."""
MAX_DESCRIPTION_BYTES = 8 * 1024
MAX_SCHEMA_BYTES = 64 * 1024
MAX_CATALOG_BYTES = 4 * 1024 * 1024
"""Of all tools of a server."""

_DIGEST = 8
"""Hexadecimal digits of the hash of a name that could not stay as it is."""
_NOT_ALLOWED = re.compile("[^a-zA-Z0-9_-]")


class Catalog(NamedTuple):
    """The tools of a server, sorted by id, and those that are left out, sorted by name."""

    tools: tuple[Tool, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


class _Unfit(Exception):
    """Says why a tool cannot be offered."""


def tool_id(server: str, name: str) -> str:
    """Return what models call a tool.

    A name that is too long, or has characters that are not allowed, is cut and cleaned, and ends in its hash.
    """
    plain = f"{PREFIX}{server}_{name}"
    clean = _NOT_ALLOWED.sub("_", plain)
    if clean == plain and len(plain) <= MAX_ID:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{clean[: MAX_ID - _DIGEST - 1]}_{digest}"


def catalog_of(server: str, settings: ServerSettings, listed: Iterable[Listed]) -> Catalog:
    """Return what is offered of a server's list."""
    tools: dict[str, Tool] = {}
    left_out: list[LeftOut] = []
    for item in listed:
        try:
            tool = _tool(server, settings, item)
            _check_new(tool, tools.get(tool.id))
        except _Unfit as reason:
            left_out.append(LeftOut(_shown(item.name), str(reason)))
            continue
        tools[tool.id] = tool
    kept = list(_within_bounds([tools[key] for key in sorted(tools)], left_out))
    return Catalog(tuple(kept), tuple(sorted(left_out)))


def _check_new(tool: Tool, other: Tool | None) -> None:
    if other is not None:
        raise _Unfit("listed twice" if other.name == tool.name else f"its id {tool.id} is that of {other.name!r}")


def _within_bounds(tools: list[Tool], left_out: list[LeftOut]) -> Iterator[Tool]:
    left = MAX_CATALOG_BYTES
    for tool in tools:
        left -= len(tool.schema) + len(tool.description.encode())
        if left >= 0:
            yield tool
        else:
            left_out.append(LeftOut(tool.name, f"the tools before it take up {MAX_CATALOG_BYTES} bytes"))


def _tool(server: str, settings: ServerSettings, item: Listed) -> Tool:
    if not item.name or len(item.name) > MAX_NAME:
        raise _Unfit(f"its name should have 1 to {MAX_NAME} characters")
    if settings.deny is not None and settings.deny.search(item.name):
        raise _Unfit("denied")
    if settings.allow is not None and not settings.allow.search(item.name):
        raise _Unfit("not allowed")
    description = shortened(_text(item.description), MAX_DESCRIPTION_BYTES)
    return Tool(tool_id(server, item.name), server, item.name, description, _schema(item.schema))


def _schema(schema: dict[str, Any]) -> bytes:
    kind = schema.get("type", "object")
    if kind != "object":
        raise _Unfit("its input schema is not of type object")
    try:
        whole = {**schema, "type": kind}
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):  # half a surrogate pair is one, too: not every API reads it
        raise _Unfit("its input schema is not JSON that can be written") from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise _Unfit(f"its input schema is longer than {MAX_SCHEMA_BYTES} bytes")
    return text


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _shown(name: str) -> str:
    return shortened(_text(name), MAX_NAME)
