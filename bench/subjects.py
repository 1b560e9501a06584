"""What is measured. Each is started as a child in front of the upstream."""

from collections.abc import Callable

import house
import proxies
from doors import Starter, Subject, nothing_missing, raw_routes
from peers import PEER_SUBJECTS
from scenarios import CORE, FULL, PEERS

VARIANT_SCENARIOS = ("json", "burst", "trickle-apart", "trickle-together", "bedrock-burst", "bedrock-trickle")


def variant(name: str, says: str, start: Starter, missing: Callable[[], str] = house.aibridge_missing) -> Subject:
    """Return aibridge in another configuration, for the scenarios where that makes a difference."""
    return Subject(name, says, start, missing, house.routes, only=VARIANT_SCENARIOS, sets=(FULL,))


SUBJECTS = (
    Subject(
        "direct",
        "the load generator straight at the upstream, never over TLS",
        proxies.start_direct,
        nothing_missing,
        raw_routes,
        tls=True,
        sets=(CORE, FULL, PEERS),
    ),
    Subject(
        "nginx",
        "proxy_pass, buffering off, keep-alive, 1 worker; relays, does not look",
        proxies.start_nginx,
        proxies.nginx_missing,
        raw_routes,
        tls=True,
        sets=(CORE, FULL, PEERS),
    ),
    Subject(
        "haproxy",
        "mode http, http-no-delay, 1 thread; relays, does not look",
        proxies.start_haproxy,
        proxies.haproxy_missing,
        raw_routes,
        tls=True,
        sets=(FULL, PEERS),
    ),
    Subject(
        "aiohttp",
        "a plain pass-through handler on uvloop (passthrough.py); relays, does not look",
        proxies.start_aiohttp,
        proxies.aiohttp_missing,
        raw_routes,
        tls=True,
        sets=(FULL, PEERS),
    ),
    Subject(
        "aibridge",
        "verifies, counts, logs and records every stream; compiled wire",
        house.start_aibridge,
        house.aibridge_missing,
        house.routes,
        tls=True,
        sets=(CORE, FULL, PEERS),
    ),
    variant(
        "aibridge-unrecorded",
        "the same without journal and store; with them the process that writes the store counts too",
        house.start_unrecorded,
    ),
    variant(
        "aibridge-limited",
        "the same with records, a gateway key, three limits and a budget, which are counted and never reached",
        house.start_limited,
    ),
    variant(
        "aibridge-pure",
        "the same with records and the pure wire",
        house.start_pure,
        house.pure_missing,
    ),
    variant(
        "aibridge-two",
        "the same with records, the compiled wire, and two workers",
        house.start_two,
    ),
    *PEER_SUBJECTS,
)
