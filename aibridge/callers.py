"""Which program calls: a guess from its headers, out of a closed set of names. Pure; names nobody's user.

The names are metric labels, so a caller cannot invent one.
"""

from aibridge.values import Headers, first_header

UNKNOWN = "Unknown"
CURSOR = "Cursor"

# The lower-case User-Agent begins so, or the header `originator` says so; the first line that fits decides.
_CALLERS = (
    (b"mux/", None, "Mux"),
    (b"xum/", None, "Xum"),
    (b"claude", None, "Claude Code"),
    (b"codex", None, "Codex"),
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

CLIENT_NAMES = frozenset(name for _, _, name in _CALLERS) | {CURSOR, UNKNOWN}
"""Every name that `client_name` can give."""


def client_name(headers: Headers) -> str:
    """Return the calling program's name, `Unknown` where nothing tells it."""
    agent = _value(headers, b"user-agent")
    originator = _value(headers, b"originator")
    for beginning, origin, client in _CALLERS:
        if agent.startswith(beginning) or (originator and originator == origin):
            return client
    return CURSOR if _value(headers, b"x-cursor-client-version") else UNKNOWN


def _value(headers: Headers, name: bytes) -> bytes:
    return (first_header(headers, name) or b"").strip().lower()
