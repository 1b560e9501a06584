"""Counters in Valkey or Redis, for gateways of many hosts. The door to its client, `redis`.

Each question is one script, in one round trip. A counter is two keys there: a sorted set of slots by the time at which
they end, and a hash of their amounts, with the sum under `+`. The server's clock counts: times are shifted by what the
caller's clock differs. All keys have one hash tag, as a cluster wants it of a script.
"""

import ssl
from collections.abc import Awaitable, Sequence
from typing import Any

import redis.asyncio as client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from aibridge.errors import LimitStoreUnavailable
from aibridge.limits.values import Claim, Entry, Lease, Refusal

_MAX_CONNECTIONS = 16
_MAX_WORDS = 200

_COMMON = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local shift = now - ARGV[1]
local function pass(ends, amounts)
    while true do
        local over = redis.call('ZRANGEBYSCORE', ends, '-inf', string.format('%.6f', now), 'LIMIT', 0, 500)
        if #over == 0 then break end
        for _, slot in ipairs(over) do
            redis.call('HINCRBY', amounts, '+', '-' .. redis.call('HGET', amounts, slot))
        end
        redis.call('HDEL', amounts, unpack(over))
        redis.call('ZREM', ends, unpack(over))
    end
    return tonumber(redis.call('HGET', amounts, '+') or '0')
end
local function put(ends, amounts, slot, amount, until_)
    local had = redis.call('HGET', amounts, slot) or '0'
    redis.call('HINCRBY', amounts, '+', string.format('%.0f', amount - had))
    if amount == 0 then
        redis.call('HDEL', amounts, slot)
        redis.call('ZREM', ends, slot)
    else
        redis.call('HSET', amounts, slot, string.format('%.0f', amount))
        redis.call('ZADD', ends, string.format('%.6f', until_), slot)
    end
    local last = redis.call('ZRANGE', ends, -1, -1, 'WITHSCORES')
    local gone = string.format('%.0f', (last[2] or now) + 2)
    redis.call('EXPIREAT', ends, gone)
    redis.call('EXPIREAT', amounts, gone)
end
local function add(ends, amounts, slot, amount, until_)
    local had = tonumber(redis.call('HGET', amounts, slot) or '0')
    local sum = math.max(0, had + amount)
    if sum > 0 or had > 0 then
        put(ends, amounts, slot, sum, math.max(until_, tonumber(redis.call('ZSCORE', ends, slot) or '0')))
    end
    return sum
end
"""

_RESERVE = (
    _COMMON
    + """
for i = 1, #KEYS / 2 do
    local ends, amounts, at = KEYS[2 * i - 1], KEYS[2 * i], 4 * i - 2
    local amount, limit = tonumber(ARGV[at + 1]), ARGV[at + 3]
    local held = pass(ends, amounts)
    if limit ~= '' and held + amount > tonumber(limit) then
        local over, until_ = held + amount - limit, now
        local entries = redis.call('ZRANGE', ends, 0, 499, 'WITHSCORES')
        for j = 1, #entries, 2 do
            over, until_ = over - redis.call('HGET', amounts, entries[j]), tonumber(entries[j + 1])
            if over <= 0 then break end
        end
        return {i - 1, string.format('%.6f', until_ - shift)}
    end
end
for i = 1, #KEYS / 2 do
    local at = 4 * i - 2
    add(KEYS[2 * i - 1], KEYS[2 * i], ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2] + shift)
end
return false
"""
)

_SETTLE = (
    _COMMON
    + """
local leases, sums = tonumber(ARGV[2]), {}
for i = 1, #KEYS / 2 do
    local ends, amounts, at = KEYS[2 * i - 1], KEYS[2 * i], 3 * i
    pass(ends, amounts)
    local slot, amount, until_ = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2] + shift
    if i <= leases then
        put(ends, amounts, slot, amount, until_)
    else
        sums[i - leases] = add(ends, amounts, slot, amount, until_)
    end
end
return sums
"""
)


class ValkeyStore:
    """A `CounterStore` on a server.

    Args:
        url: as `redis://user:password@host:port/0`, or `rediss://` for TLS.
        prefix: begins the names of all keys: gateways that share limits share it.
        patience: seconds for the server to answer.
    """

    def __init__(self, url: str, prefix: str, patience: float) -> None:
        pool = client.BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=patience,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 0),  # what was done, and not heard of, must not be done twice
        )
        self._client = client.Redis(connection_pool=pool)
        self._reserve = self._client.register_script(_RESERVE)
        self._settle = self._client.register_script(_SETTLE)
        self._prefix = f"{{{prefix}}}"

    async def reserve(self, now: float, claims: Sequence[Claim]) -> Refusal | None:
        """Take all or nothing; see `CounterStore`."""
        arguments: list[str | int] = [repr(now)]
        for claim in claims:
            arguments += [claim.slot, claim.amount, repr(claim.until), "" if claim.limit is None else claim.limit]
        refusal = await self._run(self._reserve, [claim.counter for claim in claims], arguments)
        return None if refusal is None else Refusal(int(refusal[0]), float(refusal[1]))

    async def settle(self, now: float, leases: Sequence[Lease], adds: Sequence[Claim]) -> list[int]:
        """Set and add; see `CounterStore`."""
        arguments: list[str | int] = [repr(now), len(leases)]
        entries: list[Entry] = [*leases, *adds]
        for entry in entries:
            arguments += [entry.slot, entry.amount, repr(entry.until)]
        sums = await self._run(self._settle, [entry.counter for entry in entries], arguments)
        return [int(one) for one in sums]

    async def start(self) -> None:
        """See that the server is there."""
        await self._bounded(self._client.ping())

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def _run(self, script: Any, counters: Sequence[str], arguments: list[str | int]) -> Any:
        keys = [f"{self._prefix}:{part}:{counter}" for counter in counters for part in ("ends", "amounts")]
        return await self._bounded(script(keys=keys, args=arguments))

    async def _bounded(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except (RedisError, OSError, ssl.SSLError) as error:
            raise LimitStoreUnavailable(f"{type(error).__name__}: {error}"[:_MAX_WORDS]) from error
