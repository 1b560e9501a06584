"""An OpenTelemetry collector on loopback: takes OTLP over HTTP, as protobuf, and keeps what it was sent."""

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Point(NamedTuple):
    """What a metric came to, for one choice of attributes: a counter's `value`, or a histogram's rest."""

    attributes: dict
    value: float | None = None
    sum: float | None = None
    count: int | None = None
    bounds: tuple[float, ...] = ()


class Collector:
    """`spans` as they came; the last value of each metric; which paths were posted to."""

    def __init__(self, url):
        self.url = url
        self.posts = []
        self.raw = []
        self.resources = []
        self.spans = []
        self._metrics = {}

    def take(self, path, content_type, body):
        self.raw.append(body)
        self.posts.append((path, content_type))
        if path.endswith("metrics"):
            for whole in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resources.append(told(whole.resource.attributes))
                self._metrics |= {metric.name: metric for scope in whole.scope_metrics for metric in scope.metrics}
        else:
            for whole in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(told(whole.resource.attributes))
                self.spans += [span for scope in whole.scope_spans for span in scope.spans]

    @property
    def metrics(self):
        return set(self._metrics)

    def unit(self, name):
        return self._metrics[name].unit

    def points(self, name):
        metric = self._metrics[name]
        if metric.HasField("sum"):
            return [Point(told(one.attributes), number(one)) for one in metric.sum.data_points]
        return [
            Point(told(one.attributes), None, one.sum, one.count, tuple(one.explicit_bounds))
            for one in metric.histogram.data_points
        ]


def number(point):
    return point.as_int if point.HasField("as_int") else point.as_double


def told(attributes):
    """Return attributes as plain values."""
    return {one.key: plain(one.value) for one in attributes}


def plain(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    return getattr(value, kind)


@contextmanager
def collecting():
    """Run a collector."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.take(self.path, self.headers["content-type"], body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield collector
        server.shutdown()
        thread.join()
