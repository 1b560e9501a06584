"""What the admin port answers without a key: health, and metrics. Of one process, or of all workers of a supervisor."""

from collections.abc import Callable, Mapping
from typing import Any

from aibridge import jsontext
from aibridge.clientstream import ClientStream
from aibridge.headers import JSON

HEALTH_PATHS = frozenset({"/healthz", "/readyz"})

Render = Callable[[], tuple[bytes, str]]
"""Returns the page of a scrape, and its content type."""


PATHS = HEALTH_PATHS | {"/metrics"}


def answer(client: ClientStream, health: Callable[[], Mapping[str, Any]], render: Render) -> None:
    """Answer a request for one of `PATHS`."""
    if client.method not in {"GET", "HEAD"}:
        client.reusable = False
        client.respond(405, (*JSON, (b"allow", b"GET, HEAD")), b"{}")
    elif client.path in HEALTH_PATHS:
        tell(client, health())
    else:
        body, content_type = render()
        client.respond(200, ((b"content-type", content_type.encode()),), body)


def tell(client: ClientStream, health: Mapping[str, Any]) -> None:
    """Answer how it is; whoever asks for readiness gets 503 where the status is not `ok`."""
    status = 200 if health["status"] == "ok" or client.path == "/healthz" else 503
    client.respond(status, JSON, jsontext.dumps(health))
