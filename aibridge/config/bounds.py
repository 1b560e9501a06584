"""Bounds of time and of memory: the sections `timeouts` and `limits`. How much may be used is in `rate_limits`."""

from typing import Annotated

from pydantic import ByteSize, Field

from aibridge.config.values import KIB, MIB, Natural, Seconds, Section, Size


class Timeouts(Section):
    """Deadlines, in seconds, all above zero."""

    connect: Seconds = 10.0
    """To have a connection to the upstream, TLS included."""
    response: Seconds = 600.0
    """From the request's last byte to the upstream's response head."""
    idle: Seconds = 300.0
    """Between two chunks of the upstream."""
    client_stall: Seconds = 60.0
    """How long a client's full buffer may stay full."""
    ping: Seconds = 10.0
    """Silence after which a streaming client gets a ping."""
    commit_after: Seconds = 15.0
    """Silence before the first byte, after which a streaming client gets its head, and pings from then on."""
    keep_alive_upstream: Seconds = 15.0
    """How long an idle upstream connection is kept."""
    request_body: Seconds = 60.0
    """For a client to send its request body."""


class TimeoutOverrides(Section):
    """What one provider does otherwise than `timeouts`; in seconds."""

    connect: Seconds | None = None
    response: Seconds | None = None
    idle: Seconds | None = None
    keep_alive_upstream: Seconds | None = None


class Limits(Section):
    """Bounds of memory; sizes in bytes, or text like `32MiB`."""

    max_request_bytes: Size = ByteSize(32 * MIB)
    max_response_bytes: Size = ByteSize(64 * MIB)
    """Of an answer that is not streamed."""
    max_frame_bytes: Annotated[ByteSize, Field(gt=0, le=24 * MIB)] = ByteSize(16 * MIB)
    """Of one AWS event-stream message."""
    max_event_bytes: Size = ByteSize(32 * MIB)
    """Of one server-sent event."""
    client_buffer_bytes: Size = ByteSize(64 * KIB)
    """The high-water mark of a client's send buffer; above it the upstream is not read."""
    max_connections: Natural = 0
    """To one upstream; 0 is no limit."""
