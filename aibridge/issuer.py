"""Fetches an issuer's keys (JWKS, RFC 7517) beside the requests: at the start, now and then, and when one is missed."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aibridge import jsontext
from aibridge.errors import AibridgeError, UpstreamFailure
from aibridge.lifecycle import Signal
from aibridge.tokens import Tokens
from aibridge.upstream import Origin, Pool
from aibridge.values import Credential, CredentialKind, ResponseHead, UpstreamRequest

REFRESH_S = 300.0
"""Keys that the issuer withdraws are out of use this much later."""
RETRY_S = (1.0, 60.0)
"""Between two tries that fail: the first pause, which doubles, and the longest."""
MISSED_S = 10.0
"""Between two fetches because of keys that are not known, at least: anybody can name one."""
PATIENCE_S = 10.0
_MAX_BYTES = 1024 * 1024
_OK = 200

_logger = logging.getLogger(__name__)


class Issuer:
    """Keeps `tokens` supplied with keys.

    Args:
        tokens: needs them.
        pool: connections.
        url: of the keys; empty: the issuer's own metadata tells it (OpenID Connect Discovery 1.0, section 4).
        name: the issuer.
        max_age: seconds for which the last keys go on while none can be fetched.
    """

    def __init__(self, tokens: Tokens, pool: Pool, url: str, name: str, max_age: float) -> None:
        self.tokens = tokens
        self._pool = pool
        self._url = url
        self._name = name
        self._max_age = max_age
        self._fetched_at = -math.inf
        self._missed_at = -math.inf
        self._wanted = asyncio.Event()
        self._fetching = False
        self._task: asyncio.Task[None] | None = None
        tokens.asked = self

    @property
    def age(self) -> float:
        """Seconds since the keys were fetched."""
        return time.monotonic() - self._fetched_at

    async def start(self) -> None:
        """Fetch the keys, and again from now on. Where they cannot be had, tokens are not taken before they can."""
        fetched = await self._fetch()
        self._task = asyncio.create_task(self._run(REFRESH_S if fetched else RETRY_S[0]))

    async def stop(self) -> None:
        """Fetch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._pool.close()

    def ask(self) -> bool:
        """Fetch the keys soon, where that was not done just now. Returns whether it is being done."""
        now = time.monotonic()
        if not self._fetching and now - self._missed_at >= MISSED_S:
            self._missed_at = now
            self._fetching = True
            self._wanted.set()
        return self._fetching

    async def _run(self, pause: float) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            self._wanted.clear()
            if await self._fetch():
                pause = REFRESH_S
            else:
                pause = RETRY_S[0] if pause == REFRESH_S else min(pause * 2, RETRY_S[1])

    async def _fetch(self) -> bool:
        """Fetch the keys. Returns whether they came."""
        self._fetching = True
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                self.tokens.take(await self._keys())
        except Exception as error:  # noqa: BLE001 - whatever it is, the next try may be better
            self.tokens.stale = self.age > self._max_age
            words = str(error) if isinstance(error, AibridgeError) else type(error).__name__
            fields = {"issuer": self._name, "error": words, "stale": self.tokens.stale}
            _logger.warning("the issuer's keys cannot be fetched", extra={"fields": fields})
            return False
        finally:
            self._fetching = False
        self._fetched_at = began
        return True

    async def _keys(self) -> Sequence[Mapping[str, Any]]:
        url = self._url
        if not url:
            told = await self._get(self._name.rstrip("/") + "/.well-known/openid-configuration")
            url = str(told.get("jwks_uri"))
            if told.get("issuer") != self._name or not url.startswith(self._name.partition("://")[0] + "://"):
                raise UpstreamFailure("the issuer's metadata is not its own")
        keys = (await self._get(url)).get("keys")
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise UpstreamFailure("the issuer's keys are no list")
        return keys

    async def _get(self, url: str) -> Mapping[str, Any]:
        origin = Origin.of(url)
        target = "/" + url.partition("://")[2].partition("/")[2]
        headers = ((b"host", origin.authority.encode()), (b"accept", b"application/json"), (b"connection", b"close"))
        connection = await self._pool.connect(origin)
        answer = _Gathered()
        try:
            connection.send(
                UpstreamRequest("GET", url, target, headers, b"", Credential(CredentialKind.CENTRALIZED, "")), answer
            )
            status, body = await answer.whole
        finally:
            connection.close()
        told = jsontext.loads(body) if status == _OK else None
        if not isinstance(told, dict):
            raise UpstreamFailure(f"{url}: status {status}, and no JSON object")
        return told


class _Gathered:
    """A sink that keeps one small answer."""

    def __init__(self) -> None:
        self.whole: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._body = bytearray()

    def head_received(self, head: ResponseHead) -> None:
        """Keep the status."""
        self._status = head.status

    def data_received(self, data: bytes) -> None:
        """Keep a piece, within bounds."""
        self._body += data
        if len(self._body) > _MAX_BYTES:
            self._fail(f"an answer over {_MAX_BYTES} bytes")

    def body_ended(self) -> None:
        """All came."""
        if not self.whole.done():
            self.whole.set_result((self._status, bytes(self._body)))

    def upstream_failed(self, signal: Signal, error: str) -> None:  # noqa: ARG002 - the contract's
        """It broke off."""
        self._fail(error)

    def _fail(self, error: str) -> None:
        if not self.whole.done():
            self.whole.set_exception(UpstreamFailure(error))
