"""The section `routers`: names in paths whose provider the model chooses."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BeforeValidator, model_validator

from aibridge.config.values import Section, Text, mistake


class RouterTarget(Section):
    """Where a router sends a model's requests: a provider, or a mapping of it and the model's name there."""

    provider: Text
    model: Text | None = None


class RouterPrefix(RouterTarget):
    """The same for all models whose names begin so."""

    strip_prefix: bool = False

    @model_validator(mode="after")
    def _has_one_name(self) -> Self:
        if self.strip_prefix and self.model is not None:
            raise mistake("strip_prefix is of no use with model")
        return self


def _as_target(value: object) -> object:
    return {"provider": value} if isinstance(value, str) else value


_Target = Annotated[RouterTarget, BeforeValidator(_as_target, json_schema_input_type=str | RouterTarget)]
_Prefix = Annotated[RouterPrefix, BeforeValidator(_as_target, json_schema_input_type=str | RouterPrefix)]


class Router(Section):
    """A name in paths that stands for several providers: the request's model says which. The longest prefix wins."""

    models: dict[Text, _Target] = {}
    prefixes: dict[Text, _Prefix] = {}
    default: _Target | None = None
    """For all other models, and for requests that name none."""
    byok: bool = False
    """Let a client's own credential go on to the provider that is chosen."""

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not (self.models or self.prefixes or self.default):
            raise mistake("one of models, prefixes and default is needed")
        return self

    def targets(self) -> Iterator[tuple[str, RouterTarget]]:
        """Yield all targets, each with its key."""
        for section, targets in (("models", self.models), ("prefixes", self.prefixes)):
            for name, target in targets.items():
                yield f"{section}.{name}", target
        if self.default is not None:
            yield "default", self.default
