"""How much may be used: `rate_limits`, `budgets`, and who counts for them, `limit_store`."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from aibridge.config.secret import AnySecret
from aibridge.config.urls import split_url
from aibridge.config.values import Count, Seconds, Section, Text, mistake

_LimitOwner = Literal["key", "actor", "team", "model", "all"]


def _check_has_names(owner: str, match: str) -> None:
    if owner == "all" and match != "*":
        raise mistake("match is of no use with all")


class RateLimit(Section):
    """How fast the gateway may be used, by each of those whom it is for."""

    for_: Annotated[_LimitOwner, Field(alias="for")]
    """What the limit is of each of; `all` is all requests together."""
    match: Text = "*"
    """A glob over their names: of keys the ids, of models as clients write them."""
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrent: Count | None = None
    """Under way at once."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.requests_per_minute is self.tokens_per_minute is self.concurrent is None:
            raise mistake("one of requests_per_minute, tokens_per_minute and concurrent is needed")
        _check_has_names(self.for_, self.match)
        return self


_NANO = 10**9
_Dollars = Annotated[Decimal, Field(gt=0, le=10**9, decimal_places=9)]


class Budget(Section):
    """How many dollars may be spent in a day or a month of UTC, by each of those whom it is for."""

    per: _LimitOwner
    match: Text = "*"
    dollars: _Dollars
    period: Literal["day", "month"]
    mode: Literal["hard", "soft"] = "hard"
    """Whether more is refused, or told only."""
    stop_streams: bool = False
    """End what is under way when it is spent."""

    @property
    def nanodollars(self) -> int:
        """The same as a whole number."""
        return int(self.dollars * _NANO)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.stop_streams and self.mode == "soft":
            raise mistake("stop_streams is of no use with mode soft")
        _check_has_names(self.per, self.match)
        return self


def _clean_store_url(secret: SecretStr) -> SecretStr:
    url = split_url(secret.get_secret_value())
    kinds = {"redis": "redis", "valkey": "redis", "rediss": "rediss", "valkeys": "rediss"}
    if url.scheme not in kinds or not url.hostname:
        raise mistake("should be a valkey:// or redis:// URL with a host, or valkeys:// or rediss:// for TLS")
    return SecretStr(url._replace(scheme=kinds[url.scheme]).geturl())


class LimitStore(Section):
    """Who counts for limits and budgets: this process, a file for the processes of one host, or a server for many."""

    kind: Literal["memory", "sqlite", "valkey"] | None = None
    """None: memory with one worker; with several a file beside the gateway keys, else it has to be said."""
    path: Path | None = None
    """Of kind sqlite."""
    url: Annotated[AnySecret, AfterValidator(_clean_store_url)] | None = None
    """Of kind valkey; a secret, since it may hold a password."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "aibridge"
    """Of kind valkey: begins all keys. Gateways that share limits share it."""
    when_away: Literal["allow", "deny"] = "allow"
    """What becomes of requests that have limits while it cannot be asked."""
    timeout: Seconds = 1.0
    """After which it cannot."""
    lease: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """How long what is under way counts when its process was killed."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.kind == "sqlite") != (self.path is not None):
            raise mistake("path and kind: sqlite belong together")
        if (self.kind == "valkey") != (self.url is not None):
            raise mistake("url and kind: valkey belong together")
        return self
