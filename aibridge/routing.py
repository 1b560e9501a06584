"""Paths to routes: an allow list by method *and* path. What is not on it is a 404: the key behind may be an admin's."""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto
from typing import NamedTuple

from aibridge.body import read_body, replaced
from aibridge.dialects import DIALECTS, Dialect
from aibridge.errors import RequestRejected
from aibridge.headers import CREDENTIALS, without
from aibridge.jsontext import dumps
from aibridge.providers.base import Provider
from aibridge.providers.router import Router
from aibridge.values import ClientRequest


class Action(Enum):
    """What is done with a request."""

    INTERCEPT = auto()
    """Understood, recorded, its stream observed."""
    PASSTHROUGH = auto()
    """Relayed only."""
    NO_UPGRADE = auto()
    """Asked for with an upgrade to another protocol, refused; without one, not known."""


class Route(NamedTuple):
    """Where a request goes. `pattern` is the metric label, `path` what stands behind the provider's name."""

    provider: Provider
    dialect: Dialect
    action: Action
    pattern: str
    path: str

    @property
    def name(self) -> str:
        """The name that the path begins with."""
        return self.provider.name


class OpenRoute(NamedTuple):
    """A route whose provider the request's model decides."""

    router: Router
    dialect: Dialect
    action: Action
    pattern: str
    path: str

    @property
    def name(self) -> str:
        """The name that the path begins with."""
        return self.router.name


class _Rule(NamedTuple):
    method: str
    path: re.Pattern[str]
    pattern: str
    action: Action
    dialect: str


# An id holds no slash and is no dot segment, encoded or not: it cannot lead to another path of the upstream.
_ID = r"(?!\.)[A-Za-z0-9._:@-]+"
_PARTS = {"{id}": _ID, "{item}": _ID, "/{path}": rf"(?:/{_ID})*/?"}


def _rules(action: Action, dialect: str, methods: str, *patterns: str) -> Iterator[_Rule]:
    """Yield a rule for each method and pattern: `{id}` and `{item}` are one segment, `/{path}` any of them or none."""
    for pattern in patterns:
        path = re.escape(pattern)
        for part, expression in _PARTS.items():
            path = path.replace(re.escape(part), expression)
        yield from [_Rule(method, re.compile(path), pattern, action, dialect) for method in methods.split()]


_MESSAGES = (
    *_rules(Action.INTERCEPT, "messages", "POST", "/v1/messages"),
    *_rules(Action.PASSTHROUGH, "messages", "POST", "/v1/messages/count_tokens"),
    *_rules(Action.PASSTHROUGH, "messages", "GET", "/v1/models", "/v1/models/{id}"),
    _Rule("HEAD", re.compile(r"/?"), "/", Action.PASSTHROUGH, "messages"),
)

# What spends tokens is intercepted, at each path of its own; the rest reads, counts, ends or deletes.
_OPENAI = (
    *_rules(Action.INTERCEPT, "chat", "POST", "/v1/chat/completions"),
    *_rules(Action.INTERCEPT, "responses", "POST", "/v1/responses", "/v1/responses/compact"),
    *_rules(Action.NO_UPGRADE, "responses", "GET", "/v1/responses"),
    *_rules(Action.PASSTHROUGH, "chat", "GET", "/v1/models", "/v1/models/{id}"),
    *_rules(Action.PASSTHROUGH, "responses", "POST", "/v1/responses/input_tokens", "/v1/responses/{id}/cancel"),
    *_rules(Action.PASSTHROUGH, "responses", "GET DELETE", "/v1/responses/{id}"),
    *_rules(Action.PASSTHROUGH, "responses", "GET", "/v1/responses/{id}/input_items"),
    *_rules(Action.PASSTHROUGH, "responses", "POST", "/v1/conversations"),
    *_rules(Action.PASSTHROUGH, "responses", "GET POST DELETE", "/v1/conversations/{id}"),
    *_rules(Action.PASSTHROUGH, "responses", "GET POST", "/v1/conversations/{id}/items"),
    *_rules(Action.PASSTHROUGH, "responses", "GET DELETE", "/v1/conversations/{id}/items/{item}"),
)

_COPILOT = (
    *_rules(Action.INTERCEPT, "chat", "POST", "/chat/completions"),
    *_rules(Action.INTERCEPT, "responses", "POST", "/responses"),
    *_rules(Action.INTERCEPT, "messages", "POST", "/v1/messages"),
    *_rules(Action.NO_UPGRADE, "responses", "GET", "/responses"),
    *_rules(Action.PASSTHROUGH, "chat", "GET", "/_ping", "/models", "/models/{id}", "/.well-known/{path}"),
    *_rules(Action.PASSTHROUGH, "chat", "POST", "/models/session", "/models/{id}/policy"),
    *_rules(Action.PASSTHROUGH, "chat", "GET POST", "/auto"),
    *_rules(Action.PASSTHROUGH, "chat", "GET POST DELETE", "/agents/{path}", "/mcp/{path}"),
)

_RULES = {
    "anthropic": _MESSAGES,
    "bedrock": _MESSAGES,
    "openai": _OPENAI,
    "copilot": _COPILOT,
    "router": _OPENAI + _MESSAGES,
}
"""By kind of provider. Each path is matched whole."""

PATTERNS = frozenset(rule.pattern for rules in _RULES.values() for rule in rules)
"""Of all routes that there are."""

_LOOKS = (
    (re.compile(r"/chat/completions(?:/|$)"), "chat"),
    (re.compile(r"/(?:responses|conversations)(?:/|$)"), "responses"),
    (re.compile(r"/messages(?:/|$)"), "messages"),
)
"""Which API a path looks like that has no route."""
_USUALLY = {"openai": "chat", "copilot": "chat", "router": "chat"}
"""Which API a kind speaks where the path tells nothing; the others speak Messages."""


class RouteTable:
    """Knows the providers and routers by name.

    Args:
        providers: that requests can be sent to.
        routers: that choose one of them by model.
        dialects: by provider, those that it has otherwise than others.
    """

    def __init__(
        self,
        providers: Iterable[Provider],
        routers: Iterable[Router] = (),
        dialects: Mapping[str, Mapping[str, Dialect]] | None = None,
    ) -> None:
        self._named: dict[str, Provider | Router] = {one.name: one for one in providers}
        self._named.update((one.name, one) for one in routers)
        self._dialects = {name: {**DIALECTS, **own} for name, own in (dialects or {}).items()}

    def resolve(self, method: str, path: str, *, upgrade: bool = False) -> Route | OpenRoute:
        """Return the route of a request.

        Args:
            method: the request's.
            path: the request's.
            upgrade: it asks for another protocol.

        Raises:
            RequestRejected: there is none, or it is for another protocol only.
        """
        name, slash, rest = path[1:].partition("/")
        owner = self._named.get(name) if path.startswith("/") else None
        rule = None if owner is None else _rule_for(owner.kind, method, slash + rest)
        if owner is not None and rule is not None:
            if rule.action is not Action.NO_UPGRADE:
                path = slash + rest or "/"
                if isinstance(owner, Router):
                    return OpenRoute(owner, DIALECTS[rule.dialect], rule.action, rule.pattern, path)
                return self._route(owner, rule, path)
            if upgrade:
                raise RequestRejected("upgrade_refused", 426, "no other protocol is spoken here: send it as a POST")
        raise RequestRejected("unknown_route", 404, f"no such route: {method[:20]} {path[:200]}")

    def decide(self, route: OpenRoute, request: ClientRequest) -> tuple[Route, ClientRequest, str]:
        """Choose the provider of a routed request by its model.

        Returns:
            Its route, the request as the provider is to have it, and the model as the client wrote it.

        Raises:
            RequestRejected: the body is not JSON, or nobody has that model in that API.
        """
        body = read_body(request.body) if request.body else None
        model = "" if body is None else body.model
        choice = route.router.choose(model)
        rule = None if choice is None else _rule_for(choice.provider.kind, request.method, route.path)
        if choice is None or rule is None:
            raise RequestRejected("unknown_model", 404, f"no provider here has the model {model[:200]!r} in this API")
        if not route.router.byok:
            request = request._replace(headers=without(request.headers, CREDENTIALS))
        if body is not None and model and choice.model != model:
            request = request._replace(body=replaced(body, "model", dumps(choice.model)))
        return self._route(choice.provider, rule, route.path), request, model

    def dialect_of(self, path: str) -> Dialect:
        """Return the API in whose shape a path is answered that has no route."""
        for expression, dialect in _LOOKS:
            if expression.search(path):
                return DIALECTS[dialect]
        owner = self._named.get(path[1:].partition("/")[0])
        return DIALECTS[_USUALLY.get(owner.kind, "messages") if owner is not None else "messages"]

    def _route(self, provider: Provider, rule: _Rule, path: str) -> Route:
        dialect = self._dialects.get(provider.name, DIALECTS)[rule.dialect]
        return Route(provider, dialect, rule.action, rule.pattern, path)


def _rule_for(kind: str, method: str, path: str) -> _Rule | None:
    for rule in _RULES[kind]:
        if rule.method == method and rule.path.fullmatch(path):
            return rule
    return None
