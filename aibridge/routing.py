"""Paths to routes: an allow list by method *and* path. What is not on it is a 404: the key behind may be an admin's."""

import re
from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple

from aibridge.dialects import DIALECTS, Dialect
from aibridge.errors import RequestRejected
from aibridge.providers.base import Provider


class Action(Enum):
    """What is done with a request."""

    INTERCEPT = auto()
    """Understood, recorded, its stream observed."""
    PASSTHROUGH = auto()
    """Relayed only."""


class Route(NamedTuple):
    """Where a request goes. `pattern` is the metric label, `path` what stands behind the provider's name."""

    provider: Provider
    dialect: Dialect
    action: Action
    pattern: str
    path: str


class _Rule(NamedTuple):
    method: str
    path: re.Pattern[str]
    pattern: str
    action: Action
    dialect: str


# A model id holds no slash and is no dot segment, encoded or not: it cannot lead to another path of the upstream.
_MESSAGES = (
    _Rule("POST", re.compile(r"/v1/messages"), "/v1/messages", Action.INTERCEPT, "messages"),
    _Rule(
        "POST", re.compile(r"/v1/messages/count_tokens"), "/v1/messages/count_tokens", Action.PASSTHROUGH, "messages"
    ),
    _Rule("GET", re.compile(r"/v1/models"), "/v1/models", Action.PASSTHROUGH, "messages"),
    _Rule("GET", re.compile(r"/v1/models/(?!\.)[A-Za-z0-9._:@-]+"), "/v1/models/{id}", Action.PASSTHROUGH, "messages"),
    _Rule("HEAD", re.compile(r"/?"), "/", Action.PASSTHROUGH, "messages"),
)

_RULES = {"anthropic": _MESSAGES, "bedrock": _MESSAGES}
"""By kind of provider. Each path is matched whole."""


class RouteTable:
    """Knows the providers by name."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        self._providers = {provider.name: provider for provider in providers}

    def resolve(self, method: str, path: str) -> Route:
        """Return the route of a request.

        Raises:
            RequestRejected: there is none.
        """
        name, slash, rest = path[1:].partition("/")
        provider = self._providers.get(name) if path.startswith("/") else None
        if provider is not None:
            for rule in _RULES[provider.kind]:
                if rule.method == method and rule.path.fullmatch(slash + rest):
                    return Route(provider, DIALECTS[rule.dialect], rule.action, rule.pattern, slash + rest or "/")
        raise RequestRejected("unknown_route", 404, f"no such route: {method[:20]} {path[:200]}")
