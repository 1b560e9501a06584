"""Which program calls, and in which session of its own: a guess from its headers. Pure; names nobody's user.

The names are a closed set: they are metric labels, so a caller cannot invent one. Sessions are whatever callers say.
"""

import functools
import re
from collections.abc import Callable

from aibridge import jsontext
from aibridge.errors import PayloadError
from aibridge.values import Headers, first_header

UNKNOWN = "Unknown"
CURSOR = "Cursor"
_CLAUDE_CODE = "Claude Code"
_CODEX = "Codex"

# The lower-case User-Agent begins so, or the header `originator` says so; the first line that fits decides.
_CALLERS = (
    (b"mux/", None, "Mux"),
    (b"xum/", None, "Xum"),
    (b"claude", None, _CLAUDE_CODE),
    (b"codex", None, _CODEX),
    (b"zed/", None, "Zed"),
    (b"githubcopilotchat/", None, "GitHub Copilot (VS Code)"),
    (b"copilot/", None, "GitHub Copilot (CLI)"),
    (b"kilo-code/", b"kilo-code", "Kilo Code"),
    (b"roo-code/", b"roo-code", "Roo Code"),
    (b"coder-agents/", None, "Coder Agents"),
    (b"charm crush/", None, "Charm Crush"),
    (b"charm-crush/", None, "Charm Crush"),
    (b"opencode/", None, "OpenCode"),
    (b"junie:", None, "Junie"),
)

_SESSION_HEADERS = {
    "Mux": (b"x-mux-workspace-id",),
    _CLAUDE_CODE: (b"x-claude-code-session-id",),
    _CODEX: (b"session-id", b"session_id", b"conversation_id", b"x-client-request-id"),
    "GitHub Copilot (VS Code)": (b"x-interaction-id",),
    "GitHub Copilot (CLI)": (b"x-client-session-id",),
    "Kilo Code": (b"x-kilocode-taskid",),
    "Coder Agents": (b"x-coder-chat-id",),
    "OpenCode": (b"x-opencode-session", b"x-session-affinity", b"x-session-id", b"session-id"),
}
"""Where the callers that have sessions tell them; of several headers the first that is not blank."""
_IN_USER_ID = re.compile(r"_session_(.+)$")
MAX_SESSION_CHARACTERS = 256
"""Of a session's id: they are UUIDs, mostly."""

_LONGEST = 64
"""Bytes of a header that are looked at: more than any name above has, so that nothing longer is taken for one."""

CLIENT_NAMES = frozenset(name for _, _, name in _CALLERS) | {CURSOR, UNKNOWN}
"""Every name that `client_name` can give."""


def client_name(headers: Headers) -> str:
    """Return the calling program's name, `Unknown` where nothing tells it."""
    values = dict(headers[::-1])  # of repeated ones the first
    agent = values.get(b"user-agent", b"").strip()[:_LONGEST]
    named = _named(agent, values.get(b"originator", b"").strip()[:_LONGEST])
    if named is not None:
        return named
    return CURSOR if values.get(b"x-cursor-client-version", b"").strip() else UNKNOWN


@functools.lru_cache(maxsize=256)
def _named(agent: bytes, originator: bytes) -> str | None:
    """Return the caller that one of the two headers names; both are cut, so that what is kept in mind is small."""
    agent, originator = agent.lower(), originator.lower()
    for beginning, origin, client in _CALLERS:
        if agent.startswith(beginning) or (originator and originator == origin):
            return client
    return None


def session_id(client: str, headers: Headers, user_id: Callable[[], str]) -> str:
    """Return the caller's own id of its session, or the empty string.

    Args:
        client: the calling program's name.
        headers: of the request.
        user_id: gives what in the body tells where the headers do not: `metadata.user_id`, or `prompt_cache_key`.
    """
    for name in _SESSION_HEADERS.get(client, ()):
        value = (first_header(headers, name) or b"").decode("latin-1").strip()
        if value:
            return value[:MAX_SESSION_CHARACTERS]
    said = _IN_BODY[client](user_id()) if client in _IN_BODY else ""
    return said[:MAX_SESSION_CHARACTERS]


def _session_in(user_id: str) -> str:
    """Return the session in Claude Code's user id: a JSON object in a string, in older versions `…_session_<id>`."""
    try:
        fields = jsontext.loads(user_id.encode("utf-8", "replace"))
    except PayloadError:
        fields = None
    if isinstance(fields, dict):
        value = fields.get("session_id")
        return value.strip() if isinstance(value, str) else ""
    found = _IN_USER_ID.search(user_id)
    return found[1].strip() if found else ""


_IN_BODY: dict[str, Callable[[str], str]] = {_CLAUDE_CODE: _session_in, _CODEX: str.strip}
"""How callers tell their session in the body. Codex's `prompt_cache_key` is its session's id itself."""
