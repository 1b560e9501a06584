"""The way to an upstream, step by step: the proxy, the host's name, a connection, TLS and its certificate."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from aibridge.doctor import advice
from aibridge.doctor.asking import PATIENCE_S
from aibridge.doctor.values import Finding, State
from aibridge.errors import UpstreamFailure
from aibridge.upstream import Origin, Pool

_ENDS_SOON_S = 14 * 86_400.0


class Way:
    """The way to one upstream.

    Args:
        name: the provider's.
        url: where it leads.
        pool: the connections of a gateway; one that was opened stays there.
        ca_file: certificate authorities; None for the system's.
        region: of AWS, where the host's name is made of it.
    """

    def __init__(self, name: str, url: str, pool: Pool, ca_file: Path | None, *, region: str) -> None:
        self._name = name
        self._url = url
        self._pool = pool
        self._ca_file = ca_file
        self._region = region

    def _finding(self, check: str, state: State, detail: str, what_to_do: str = "") -> Finding:
        return Finding(self._name, check, state, detail, what_to_do)

    async def look(self) -> AsyncIterator[Finding]:
        """Yield what is found; the first that failed is the last."""
        origin = Origin.of(self._url)
        try:
            hop = self._pool.first_hop(origin)
        except UpstreamFailure as error:
            yield self._finding("proxy", State.FAILED, str(error), "mend proxy.url, or HTTPS_PROXY")
            return
        if hop != origin:
            yield self._finding("proxy", State.NOTE, f"{hop.authority} is asked to lead to {origin.authority}")
        yield (addresses := await self._names(hop))
        if addresses.state is State.FAILED:
            return
        yield (reached := await self._reaches(hop))
        if reached.state is State.OK and origin.scheme == "https":
            yield await self._tls(origin)
        elif reached.state is State.OK and not _is_here(origin.host):
            yield self._finding(
                "tls", State.NOTE, f"{self._url} is plain http: keys and prompts can be read on the way"
            )

    async def _names(self, hop: Origin) -> Finding:
        try:
            async with asyncio.timeout(PATIENCE_S):
                infos = await asyncio.get_running_loop().getaddrinfo(hop.host, hop.port)
        except (OSError, UnicodeError, TimeoutError) as error:
            text = "look at this machine's name server (`getent hosts NAME`), and at the spelling in base_url"
            if self._region:
                text += f"; is there a region {self._region} that has Bedrock?"
            words = getattr(error, "strerror", None) or "no answer in time"
            return self._finding("dns", State.FAILED, f"{hop.host}: {words}", text)
        shown = ", ".join(dict.fromkeys(str(info[4][0]) for info in infos))
        return self._finding("dns", State.OK, f"{hop.host} is {shown}")

    async def _reaches(self, hop: Origin) -> Finding:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                _, writer = await asyncio.open_connection(hop.host, hop.port)
        except (OSError, TimeoutError) as error:
            words = getattr(error, "strerror", None) or f"no connection within {PATIENCE_S:g} s"
            return self._finding("tcp", State.FAILED, f"{hop.authority}: {words}", advice.about_connection(words))
        writer.close()
        return self._finding("tcp", State.OK, f"{hop.host}:{hop.port} in {(time.monotonic() - began) * 1000:.0f} ms")

    async def _tls(self, origin: Origin) -> Finding:
        try:
            async with asyncio.timeout(PATIENCE_S):
                connection = await self._pool.connect(origin)
        except (UpstreamFailure, TimeoutError) as error:
            words = str(error) or f"no handshake within {PATIENCE_S:g} s"
            text = f"{advice.about_connection(words)}; authorities come from {self._authorities}"
            return self._finding("tls", State.FAILED, words, text)
        peer = connection.tls
        certificate = peer.getpeercert() if peer is not None else None
        version = peer.version() if peer is not None else None
        self._pool.put(connection)
        if not certificate:
            text = "set tls.verify to true: anybody between here and there can read and change what is said"
            return self._finding("tls", State.NOTE, f"{version}; certificates are not checked (tls.verify)", text)
        left = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
        detail = (
            f"{version}; certificate of {_issuer_in(certificate)}, good for {left / 86_400:.0f} days;"
            f" authorities from {self._authorities}"
        )
        if left < _ENDS_SOON_S:
            return self._finding("tls", State.NOTE, detail, "the server's operator should renew the certificate soon")
        return self._finding("tls", State.OK, detail)

    @property
    def _authorities(self) -> str:
        paths = ssl.get_default_verify_paths()
        return str(self._ca_file or paths.cafile or paths.capath or "nowhere: this system has none")


def _issuer_in(certificate: Mapping[str, Any]) -> str:
    """Return who signed a certificate, as `ssl.SSLObject.getpeercert` tells it."""
    parts = dict(pair for names in certificate.get("issuer", ()) for pair in names)
    return str(parts.get("organizationName") or parts.get("commonName") or "?")


def _is_here(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
