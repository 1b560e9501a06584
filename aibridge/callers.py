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

CLIENT_NAMES = frozenset(name for _, _, name in _CALLERS) | {CURSOR, UNKNOWN}
"""Every name that `client_name` can give."""


def client_name(headers: Headers) -> str:
    """Return the calling program's name, `Unknown` where nothing tells it."""
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        values.setdefault(name, value.strip())
    agent = values.get(b"user-agent", b"").lower()
    originator = values.get(b"originator", b"").lower()
    for beginning, origin, client in _CALLERS:
        if agent.startswith(beginning) or originator == origin:
            return client
    return CURSOR if values.get(b"x-cursor-client-version") else UNKNOWN
