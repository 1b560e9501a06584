"""Which requests get tools, and which credentials they bring for tool servers. Pure."""

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import NamedTuple

from aibridge.values import Headers, first_header

SWITCH = b"x-aibridge-mcp"
"""With the value `off` a request gets no tools. As all of `x-aibridge-` it never goes upstream."""

CREDENTIAL_PREFIX = "x-aibridge-mcp-"
"""Behind it stands a server's name: in this header an actor sends its credential for that server."""


class Rules(NamedTuple):
    """Which requests get tools; an empty list means all."""

    models: tuple[str, ...] = ()
    """Globs over the names that clients write."""
    actors: tuple[str, ...] = ()


Credentials = tuple[tuple[str, str], ...]
"""Pairs of a server's name and an actor's credential for it, sorted."""


def wants_tools(rules: Rules, model: str, actor: str, headers: Headers) -> bool:
    """Whether a request gets tools: its model and its actor may have them, and its client does not switch them off."""
    if rules.actors and actor not in rules.actors:
        return False
    if rules.models and not any(fnmatchcase(model, glob) for glob in rules.models):
        return False
    return (first_header(headers, SWITCH) or b"").strip().lower() != b"off"


def credentials_of(servers: Collection[str], headers: Headers) -> Credentials:
    """Return the credentials that a request brings, of `servers` that take an actor's own.

    One that is blank, or that could not stand in a header, is as good as none.
    """
    found = []
    for server in sorted(servers):
        value = first_header(headers, f"{CREDENTIAL_PREFIX}{server}".encode()) or b""
        text = value.decode("latin-1").strip()
        if text and text.isascii() and text.isprintable():
            found.append((server, text))
    return tuple(found)
