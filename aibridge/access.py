"""Who was let in, and what is open to him: providers, routes, models. Pure."""

from fnmatch import fnmatchcase
from typing import NamedTuple

from aibridge.content import ContentChoice
from aibridge.errors import RequestRejected
from aibridge.values import Actor


class Access(NamedTuple):
    """What a gateway key opens, and what is kept of what it is used for; None: all, and as the provider has it.

    `routes` are patterns as the metrics have them (`/v1/messages`), `models` globs over the names that clients write.
    """

    providers: frozenset[str] | None = None
    routes: frozenset[str] | None = None
    models: tuple[str, ...] | None = None
    content: ContentChoice | None = None

    def check(self, route: str, provider: str | None = None, model: str | None = None) -> None:
        """Raise `RequestRejected` where a request is not open, as far as it is known where it goes; None: not known."""
        if self.routes is not None and route not in self.routes:
            raise RequestRejected("route_not_allowed", 403, f"this gateway key does not open the route {route}")
        if self.providers is not None and provider is not None and provider not in self.providers:
            raise RequestRejected("provider_not_allowed", 403, f"this gateway key does not open provider {provider}")
        if self.models is None or model is None:
            return
        if not any(fnmatchcase(model, pattern) for pattern in self.models):
            raise RequestRejected("model_not_allowed", 403, f"this gateway key does not open model {model[:200]!r}")


EVERYTHING = Access()


class Allowance(NamedTuple):
    """How much a gateway key may be used for; None: as the configuration has it."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    nanodollars_per_day: int | None = None
    nanodollars_per_month: int | None = None


class Identity(NamedTuple):
    """Who asks, with which gateway key, what is open to him, and how much of it."""

    actor: Actor
    access: Access = EVERYTHING
    key_id: str = ""
    """Of a key of the store its id, of one in the configuration its name; empty for tokens, and without keys."""
    allowance: Allowance | None = None
