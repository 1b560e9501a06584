"""One base URL for several upstreams: the request's model says which provider gets it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from aibridge import jsontext
from aibridge.errors import RequestRejected
from aibridge.headers import JSON
from aibridge.providers.base import Answer, Provider

_MODELS = "/v1/models"


class Target(NamedTuple):
    """Where a model's requests go. `model` is its name there; empty: as the client wrote it."""

    provider: Provider
    model: str = ""
    strip_prefix: bool = False
    """Whether the prefix that led here is left out of the name."""


class Choice(NamedTuple):
    """A provider, and the model's name there."""

    provider: Provider
    model: str


@dataclass(frozen=True, kw_only=True)
class Router:
    """A name in paths that stands for several providers.

    `models` are whole names; of `prefixes` the longest that fits counts, and after it `default`, which gets also what
    names no model. `byok`: a credential of the client goes on to the provider, which does with it as it is configured.
    """

    name: str
    models: Mapping[str, Target] = field(default_factory=dict)
    prefixes: Mapping[str, Target] = field(default_factory=dict)
    default: Target | None = None
    byok: bool = False

    kind = "router"

    def choose(self, model: str) -> Choice | None:
        """Return who gets a model's requests; None where nobody does."""
        target = self.models.get(model)
        if target is not None:
            return Choice(target.provider, target.model or model)
        prefix = max((prefix for prefix in self.prefixes if model.startswith(prefix)), key=len, default=None)
        if prefix is not None:
            target = self.prefixes[prefix]
            return Choice(
                target.provider, target.model or (model.removeprefix(prefix) if target.strip_prefix else model)
            )
        if self.default is None:
            return None
        return Choice(self.default.provider, self.default.model or model)

    def answer(self, method: str, path: str) -> Answer | None:
        """Answer what needs no provider: probes, and the list of the models that have names here.

        Raises:
            RequestRejected: there is no such model.
        """
        if method == "HEAD":
            return Answer(200, JSON, b"")
        if method != "GET" or not path.startswith(_MODELS):
            return None
        wanted = path.removeprefix(_MODELS).removeprefix("/")
        if not wanted:
            listed = [self._card(model) for model in self.models]
            return Answer(200, JSON, jsontext.dumps({"object": "list", "data": listed, "has_more": False}))
        if wanted not in self.models:
            raise RequestRejected("unknown_model", 404, f"no such model here: {wanted[:200]}")
        return Answer(200, JSON, jsontext.dumps(self._card(wanted)))

    def _card(self, model: str) -> dict[str, object]:
        """Describe a model as OpenAI does, and as Anthropic does: their clients read what they know."""
        owner = self.models[model].provider.name
        created = {"created": 0, "created_at": "1970-01-01T00:00:00Z"}  # they are required, and nobody tells them
        return {"id": model, "object": "model", "type": "model", "display_name": model, "owned_by": owner, **created}
