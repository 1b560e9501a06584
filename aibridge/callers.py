"""Which program calls: a guess from its headers, out of a closed set of names. Pure; names nobody's user.

The names are metric labels, so a caller cannot invent one.
"""

from aibridge.values import Headers

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

_BEGINNINGS = tuple(beginning for beginning, _, _ in _CALLERS)

CLIENT_NAMES = frozenset(name for _, _, name in _CALLERS) | {CURSOR, UNKNOWN}
"""Every name that `client_name` can give."""


def client_name(headers: Headers) -> str:
    """Return the calling program's name, `Unknown` where nothing tells it."""
    values = dict(headers[::-1])  # of repeated ones the first
    agent = values.get(b"user-agent", b"").strip().lower()
    originator = values.get(b"originator", b"").strip().lower()
    if originator or agent.startswith(_BEGINNINGS):
        for beginning, origin, client in _CALLERS:
            if agent.startswith(beginning) or (originator and originator == origin):
                return client
    return CURSOR if values.get(b"x-cursor-client-version", b"").strip() else UNKNOWN
