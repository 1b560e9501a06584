"""OpenTelemetry spans. A door to opentelemetry.

An interception is a root `Intercept` with a child `Intercept.ProcessRequest`, and in that an
`Intercept.ProcessRequest.Upstream` for each attempt, over the whole of its answer, and an
`Intercept.ProcessRequest.ToolCall` for each tool that was run; a request that is relayed only is a `Passthrough`.
Spans carry the times of our own values. All but the root are made at the end, when all that they tell is known; the id
of the span that an upstream continues is drawn when the request goes out.
"""

import importlib
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aibridge.errors import RequestRejected
from aibridge.lifecycle import Cause, Termination
from aibridge.telemetry import exporters
from aibridge.telemetry.conventions import (
    FAILED,
    MAX_TEXT_BYTES,
    Attributes,
    Semconv,
    answer_attributes,
    attempt_attributes,
    error_type,
    first_chunk,
    request_attributes,
    tool_attributes,
)
from aibridge.text import bounded
from aibridge.values import (
    Attempt,
    ClientRequest,
    Headers,
    Interception,
    Learned,
    Outcome,
    ToolRun,
    UpstreamRequest,
    address_of,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.trace import Span, SpanContext

MAX_ERROR_BYTES = 1024

_FIRST_ERROR_STATUS = 400
_PORTS = {"http": 80, "https": 443}
_CONTEXT = frozenset({b"traceparent", b"tracestate"})


def build(environ: Mapping[str, str], *, version: str = "", semconv: str = Semconv.STABLE_NOW) -> "Tracing | None":
    """Return what sends spans as the `OTEL_*` variables say; None where they ask for nothing.

    Args:
        environ: the process's own.
        version: of the program, told with each span.
        semconv: which conventions the attributes follow.

    Raises:
        ConfigError: as `exporters.span_exporter`.
    """
    exporter = exporters.span_exporter(environ)
    return None if exporter is None else Tracing(exporter, version=version, semconv=Semconv(semconv))


class _Open:
    """What is held of an interception until its end."""

    __slots__ = ("attempts", "reserved", "root", "tools")

    def __init__(self, root: "Span") -> None:
        self.root = root
        self.reserved: int | None = None
        """The id of the span of the attempt under way, where the upstream was told it."""
        self.attempts: list[tuple[Attempt, int | None]] = []
        self.tools: list[tuple[ToolRun, float]] = []
        """With the time at which each ended, UTC."""


class Tracing:
    """A `Listener` that makes spans.

    A completed interception's spans, and those of a client that went, have their status unset; others are errors,
    described by the cause and the upstream's words.

    Args:
        exporter: gets the spans in batches, on a thread of its own.
        version: of the program.
        semconv: which conventions the attributes follow.
    """

    def __init__(self, exporter: "SpanExporter", *, version: str = "", semconv: Semconv = Semconv.STABLE_NOW) -> None:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        propagation = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
        self._api = importlib.import_module("opentelemetry.trace")
        self._semconv = semconv
        # It says of each header that is no good what is in it, kilobytes long: a client would fill the log.
        logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
        self._ids = _Ids(importlib.import_module("opentelemetry.sdk.trace.id_generator").RandomIdGenerator())
        self._provider = sdk.TracerProvider(
            resource=exporters.resource(version), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("aibridge", version)
        self._propagator = propagation.TraceContextTextMapPropagator()
        self._no_parent: Context = importlib.import_module("opentelemetry.context").Context()
        self._open: dict[str, _Open] = {}

    def opened(self, interception: Interception) -> None:
        """Begin the root, below the client's own span where it told one."""
        parent = self._parent(interception.traceparent, interception.tracestate)
        root = self._tracer.start_span(
            "Intercept",
            parent,
            self._api.SpanKind.SERVER,
            _attributes(interception),
            start_time=_ns(interception.started_at),
        )
        self._open[interception.id] = _Open(root)

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:  # noqa: ARG002 - the contract's
        """Keep a tool that was run. No content goes into a span."""
        if isinstance(fact, ToolRun) and (spans := self._open.get(interception.id)) is not None:
            spans.tools.append((fact, time.time()))

    def carry(self, interception: Interception, request: UpstreamRequest) -> UpstreamRequest:
        """Return the request with the context of its own span in the place of the client's. For each attempt anew."""
        spans = self._open.get(interception.id)
        if spans is None:
            return request
        spans.reserved = self._ids.draw()
        return _carrying(request, spans.root.get_span_context(), spans.reserved)

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Keep the attempt: its span tells the usage too, which is known at the interception's end."""
        spans = self._open.get(interception.id)
        if spans is not None:
            spans.attempts.append((attempt, spans.reserved))
            spans.reserved = None

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """End the root, and make the spans below it."""
        spans = self._open.pop(interception.id, None)
        if spans is None:
            return
        # The wall clock may have been set back meanwhile; a span must not end before it began.
        end = _ns(max(outcome.ended_at, interception.started_at))
        status = outcome.evidence.http_status
        if outcome.address is not None:
            spans.root.set_attribute("aibridge.answered_by", outcome.address.provider)
        if spans.root.is_recording():
            process = self._child(
                "Intercept.ProcessRequest", spans.root, _attributes(interception), interception.started_at
            )
            for attempt, span_id in spans.attempts[:-1]:
                self._upstream(process, interception, attempt, span_id)
            for attempt, span_id in spans.attempts[-1:]:
                self._upstream(process, interception, attempt, span_id, outcome)
            for run, ended_at in spans.tools:
                self._tool_call(process, interception, run, ended_at)
            self._end(process, outcome.termination, outcome.cause, outcome.error, status, end)
        self._end(spans.root, outcome.termination, outcome.cause, outcome.error, status, end)

    @contextmanager
    def passthrough(self, request: ClientRequest, path: str, outgoing: UpstreamRequest) -> "Iterator[Passing]":
        """Span a request that is relayed only; an error where the upstream fails, or answers with an error."""
        first = {name: value.decode("latin-1") for name, value in reversed(request.headers) if name in _CONTEXT}
        parent = self._parent(first.get(b"traceparent", ""), first.get(b"tracestate", ""))
        # Without the queries: nobody knows what they hold.
        attributes = {
            "passthrough_url": path,
            "passthrough_method": request.method,
            "passthrough_upstream_url": outgoing.origin + outgoing.target.partition("?")[0],
        }
        span: Span = self._tracer.start_span("Passthrough", parent, self._api.SpanKind.SERVER, attributes)
        passing = Passing(_carrying(outgoing, span.get_span_context(), span.get_span_context().span_id))
        try:
            yield passing
        except RequestRejected as rejection:
            self._fail(span, rejection.reason, rejection.message)
            raise
        except Exception as error:  # its text is not ours, and may hold anything
            self._fail(span, "internal", type(error).__name__)
            raise
        finally:
            if passing.status is not None:
                span.set_attribute("http.response.status_code", passing.status)
                if passing.status >= _FIRST_ERROR_STATUS:
                    self._fail(span, str(passing.status), f"status {passing.status}")
            span.end()

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all ended spans were exported, `timeout` seconds at most. Blocks. Returns whether they were."""
        flushed: bool = self._provider.force_flush(int(timeout * 1000))
        return flushed

    def shutdown(self) -> None:
        """Export what is left, and stop. Blocks: not for the event loop."""
        exporters.shut_down(self._provider.shutdown)

    def _parent(self, traceparent: str, tracestate: str) -> "Context":
        if not traceparent:
            return self._no_parent
        context: Context = self._propagator.extract(
            {"traceparent": traceparent, "tracestate": tracestate}, self._no_parent
        )
        return context

    def _child(self, name: str, parent: "Span", attributes: Attributes, started_at: float, **more: Any) -> "Span":
        context = self._api.set_span_in_context(parent, self._no_parent)
        span: Span = self._tracer.start_span(name, context, attributes=attributes, start_time=_ns(started_at), **more)
        return span

    def _upstream(
        self,
        process: "Span",
        interception: Interception,
        attempt: Attempt,
        span_id: int | None,
        outcome: Outcome | None = None,
    ) -> None:
        """Make an attempt's span, from its start to its end. The last one's tells of the answer too."""
        interception = address_of(interception, attempt)
        attributes: Attributes = _attributes(interception) | _where(attempt.origin) | {"attempt": attempt.number}
        if attempt.evidence.http_status is not None:
            attributes["http.response.status_code"] = attempt.evidence.http_status
        if self._semconv is not Semconv.OFF:
            attributes |= request_attributes(interception)
            first = first_chunk(interception, attempt)
            if first is not None:
                attributes["gen_ai.response.time_to_first_chunk"] = first
            attributes |= attempt_attributes(attempt, self._semconv)
            if outcome is not None:
                attributes |= answer_attributes(outcome)
        self._ids.next = span_id
        span = self._child(
            "Intercept.ProcessRequest.Upstream",
            process,
            attributes,
            attempt.started_at,
            kind=self._api.SpanKind.CLIENT,
        )
        end = _ns(attempt.started_at + attempt.duration)
        self._end(span, attempt.termination, attempt.cause, attempt.error, attempt.evidence.http_status, end)

    def _tool_call(self, process: "Span", interception: Interception, run: ToolRun, ended_at: float) -> None:
        attributes = _attributes(interception)
        attributes |= {"mcp_tool_name": bounded(run.use.name, MAX_TEXT_BYTES), "mcp_server_name": run.server}
        if self._semconv is not Semconv.OFF:
            attributes |= tool_attributes(run)
        started_at = ended_at - run.latency
        span = self._child("Intercept.ProcessRequest.ToolCall", process, attributes, started_at)
        if run.error:
            self._fail(span, run.outcome, bounded(run.error, MAX_ERROR_BYTES))
        span.end(_ns(ended_at))

    def _end(
        self, span: "Span", termination: Termination, cause: Cause, error: str, http_status: int | None, end: int
    ) -> None:
        span.set_attribute("aibridge.termination", termination.value)
        span.set_attribute("aibridge.cause", cause.value)
        if termination in FAILED:
            text = bounded(error, MAX_ERROR_BYTES)
            kind = error_type(termination, cause, http_status)
            self._fail(span, kind or cause.value, f"{cause.value}: {text}" if text else cause.value)
        span.end(end)

    def _fail(self, span: "Span", kind: str, description: str) -> None:
        span.set_attribute("error.type", kind)
        span.set_status(self._api.StatusCode.ERROR, description)


class Passing:
    """A request that is relayed only, under way. `request` goes out; `status` is set when the answer came."""

    __slots__ = ("request", "status")

    def __init__(self, request: UpstreamRequest) -> None:
        self.request = request
        self.status: int | None = None


class _Ids:
    """A generator of random ids that gives one span the id that was drawn for it before."""

    def __init__(self, random: "IdGenerator") -> None:
        self.draw = random.generate_span_id
        self.generate_trace_id = random.generate_trace_id
        self.next: int | None = None

    def generate_span_id(self) -> int:
        drawn, self.next = self.next, None
        return self.draw() if drawn is None else drawn

    def is_trace_id_random(self) -> bool:
        return True


def _carrying(request: UpstreamRequest, context: "SpanContext", span_id: int) -> UpstreamRequest:
    traceparent = f"00-{context.trace_id:032x}-{span_id:016x}-{context.trace_flags:02x}"
    ours: Headers = ((b"traceparent", traceparent.encode()),)
    if state := context.trace_state.to_header():
        ours += ((b"tracestate", state.encode("latin-1")),)
    return request._replace(headers=(*(pair for pair in request.headers if pair[0] not in _CONTEXT), *ours))


def _attributes(interception: Interception) -> Attributes:
    return {
        "request_path": interception.request_path,
        "interception_id": interception.id,
        "user_id": interception.actor.id,
        "provider": interception.provider,
        "model": bounded(interception.model, MAX_TEXT_BYTES),
        "streaming": interception.streaming,
        "aws_bedrock": interception.provider_kind == "bedrock",
    }


@lru_cache(maxsize=64)
def _where(origin: str) -> Attributes:
    url = urlsplit(origin)
    return {"server.address": url.hostname or origin, "server.port": url.port or _PORTS.get(url.scheme, 0)}


def _ns(seconds: float) -> int:
    # By way of microseconds: a float of today's time times a milliard has no exact nanoseconds left.
    return round(seconds * 1_000_000) * 1000
