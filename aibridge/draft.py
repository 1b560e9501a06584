"""What a request to an upstream is made of, before it is rewritten and signed: each turn of a tool loop has its own."""

import dataclasses
from collections.abc import Awaitable
from typing import NamedTuple

from aibridge.body import read_body
from aibridge.providers.base import Provider, Reading
from aibridge.values import ClientRequest, Interception, UpstreamRequest


class Draft(NamedTuple):
    """A client's request, what was learned from it, and who is to answer it."""

    provider: Provider
    request: ClientRequest
    reading: Reading
    interception: Interception

    def missing(self) -> Awaitable[object] | None:
        """Return what must be waited for before `prepare`; see `Provider`."""
        return self.provider.missing(self.reading)

    def prepare(self) -> UpstreamRequest:
        """Rewrite and sign; see `Provider`."""
        return self.provider.prepare(self.request, self.reading, self.interception)

    def with_body(self, raw: bytes) -> "Draft":
        """Return the same with another body, a JSON object. All that was learned from the client's own stays."""
        reading = dataclasses.replace(self.reading, body=read_body(raw))
        return self._replace(request=self.request._replace(body=raw), reading=reading)
