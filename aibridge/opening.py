"""What is known of an interception as it begins: the key of every record."""

import time

from aibridge.ids import uuid7
from aibridge.providers.base import Reading
from aibridge.routing import Route
from aibridge.values import Actor, ClientRequest, Interception


def opened(route: Route, actor: Actor, request: ClientRequest, reading: Reading, request_bytes: int) -> Interception:
    """Return the interception that begins now. `request_bytes` are those of the body as the client sent it."""
    now = time.time()
    traceparent = request.header(b"traceparent")
    return Interception(
        id=uuid7(int(now * 1000)),
        started_at=now,
        actor=actor,
        credential=reading.credential,
        provider=route.provider.name,
        provider_kind=route.provider.kind,
        dialect=route.dialect.name,
        route=route.pattern,
        request_path=request.path,
        method=request.method,
        model=reading.model,
        upstream_model=reading.upstream_model,
        streaming=reading.streaming,
        client=reading.client,
        user_agent=(request.header(b"user-agent") or b"").decode("latin-1"),
        request_bytes=request_bytes,
        traceparent=(traceparent or b"").decode("latin-1"),
        session_id=reading.session_id,
        correlating_tool_call_id=reading.correlating_tool_call_id,
        tracestate=_tracestate(request) if traceparent else "",
    )


def _tracestate(request: ClientRequest) -> str:
    """Return the client's list, which may come in parts; it means nothing without a `traceparent`."""
    return b",".join([value for name, value in request.headers if name == b"tracestate"]).decode("latin-1")
