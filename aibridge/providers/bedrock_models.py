"""Which Bedrock id a model's name means: the models that there are, their inference profiles, and one rule. Pure.

Sources: Anthropic's pages on model ids and on Claude in Amazon Bedrock, AWS's model cards, and the lists that AWS gave
in November 2026. A model that is newer than this file is written by the rule that Anthropic has kept since Claude 4.6:
`anthropic.` and the name. What is wrong for an account is mended by `model_map` in the configuration.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple


class Routing(StrEnum):
    """Which inference profile a name gets."""

    AUTO = "auto"
    """The one of the region's geography; where the model has none there, the global one."""
    GEO = "geo"
    """The one of the region's geography, and never the global one: nothing leaves the geography."""
    GLOBAL = "global"
    """The global one, wherever the region is."""


class Model(NamedTuple):
    """One model. `profiles` are the prefixes of its inference profiles.

    `created` is the day of its snapshot, or of its release; empty for unknown.
    """

    name: str
    display_name: str
    created: str
    profiles: frozenset[str]
    bedrock_name: str
    aliases: tuple[str, ...] = ()

    @property
    def foundation_id(self) -> str:
        """The id of the model itself, without a profile."""
        return f"anthropic.{self.bedrock_name}"


def _model(name: str, display_name: str, created: str, profiles: str, suffix: str = "", *aliases: str) -> Model:
    """Return a row. A `suffix` that begins with a date makes the dated name an alias of its own."""
    dated = re.match(r"-\d{8}", suffix)
    names = (name + dated[0], *aliases) if dated else aliases
    return Model(name, display_name, created, frozenset(profiles.split()), name + suffix, names)


MODELS = (
    _model("claude-fable-5-1", "Claude Fable 5.1", "", "us global"),
    _model("claude-opus-5-5", "Claude Opus 5.5", "2026-09-22", "us eu jp au global"),
    _model("claude-sonnet-5-5", "Claude Sonnet 5.5", "2026-09-28", "us eu global"),
    _model("claude-haiku-5-5", "Claude Haiku 5.5", "", "us eu jp au global"),
    _model("claude-opus-5", "Claude Opus 5", "2026-07-24", "us eu jp au in global"),
    _model("claude-sonnet-5", "Claude Sonnet 5", "2026-06-30", "us eu jp au in global"),
    _model("claude-fable-5", "Claude Fable 5", "", "us eu global"),
    _model("claude-opus-4-8", "Claude Opus 4.8", "2026-05-28", "us eu jp au global"),
    _model("claude-opus-4-7", "Claude Opus 4.7", "2026-04-16", "us eu jp au global"),
    _model("claude-opus-4-6", "Claude Opus 4.6", "", "us eu au global", "-v1"),
    _model("claude-sonnet-4-6", "Claude Sonnet 4.6", "", "us eu jp au global"),
    _model("claude-opus-4-5", "Claude Opus 4.5", "2025-11-01", "us eu global", "-20251101-v1:0"),
    _model("claude-haiku-4-5", "Claude Haiku 4.5", "2025-10-01", "us eu jp au in global", "-20251001-v1:0"),
    _model("claude-sonnet-4-5", "Claude Sonnet 4.5", "2025-09-29", "us eu jp au global", "-20250929-v1:0"),
    _model("claude-opus-4-1", "Claude Opus 4.1", "2025-08-05", "us", "-20250805-v1:0"),
    _model(
        "claude-sonnet-4", "Claude Sonnet 4", "2025-05-14", "us eu apac global", "-20250514-v1:0", "claude-sonnet-4-0"
    ),
)
"""Newest first, as model lists are told."""

_BY_NAME = {name: model for model in MODELS for name in (model.name, *model.aliases)}

_GEOGRAPHIES = (
    ("us-gov-", ()),  # GovCloud has profiles of its own, and none that is global: `model_map` names them
    ("cn-", ()),
    ("us-", ("us",)),
    ("ca-", ("us",)),
    ("eu-", ("eu",)),
    ("ap-northeast-1", ("jp", "apac")),
    ("ap-northeast-3", ("jp", "apac")),
    ("ap-southeast-2", ("au", "apac")),
    ("ap-southeast-4", ("au", "apac")),
    ("ap-south-", ("in", "apac")),
    ("ap-", ("apac",)),
)
"""Beginnings of regions, and the prefixes that serve them, the narrowest first. Other regions have `global` alone."""
_NO_GLOBAL = ("us-gov-", "cn-")

_NEW_NAME = re.compile(r"claude-[a-z]+-\d{1,2}(-\d{1,2})?")
"""What Anthropic has called its models since Claude 4.6."""
_UNKNOWN_DAY = "1970-01-01"
"""What Anthropic's API tells where a model's day is not known."""


@dataclass(frozen=True, kw_only=True)
class ModelNames:
    """The names that clients of one provider may use.

    Args:
        region: the AWS region that is asked.
        model_map: names of the configuration; they win.
        default_model: what any other name means.
        routing: which inference profile a known name gets.
    """

    region: str
    model_map: Mapping[str, str] = field(default_factory=dict)
    default_model: str | None = None
    routing: Routing = Routing.AUTO

    def resolve(self, name: str) -> str:
        """Return the Bedrock id that a name means.

        In this order: what the configuration maps, to an id or to a known name; ids and ARNs, as they are; the known
        models; the default; a new name by the rule; anything else as it is, so that AWS is the one to refuse it.
        """
        mapped = self.model_map.get(name)
        if mapped is not None:
            return self._known(mapped) or mapped
        if "anthropic." in name or name.startswith("arn:"):
            return name
        known = self._known(name)
        if known is not None:
            return known
        if self.default_model is not None:
            return self._known(self.default_model) or self.default_model
        return self._with_prefix(f"anthropic.{name}", _OF_NEW_MODELS) if _NEW_NAME.fullmatch(name) else name

    def listing(self) -> list[dict[str, str]]:
        """Return the names as `/v1/models` tells them: those of the configuration first, then the known ones."""
        mapped = [_entry(name, name, "") for name in self.model_map]
        known = [_entry(model.name, model.display_name, model.created) for model in MODELS]
        return mapped + [entry for entry in known if entry["id"] not in self.model_map]

    def entry(self, name: str) -> dict[str, str] | None:
        """Return one model as `/v1/models/{id}` tells it, or None where the name means nothing known."""
        if name in self.model_map:
            return _entry(name, name, "")
        model = _BY_NAME.get(name)
        return None if model is None else _entry(model.name, model.display_name, model.created)

    def _known(self, name: str) -> str | None:
        model = _BY_NAME.get(name)
        return None if model is None else self._with_prefix(model.foundation_id, model.profiles)

    def _with_prefix(self, foundation_id: str, profiles: frozenset[str]) -> str:
        """Return the profile's id; the bare one where no profile fits, so that AWS says what is wrong."""
        prefix = next((prefix for prefix in self._prefixes if prefix in profiles), "")
        return f"{prefix}.{foundation_id}" if prefix else foundation_id

    @cached_property
    def _prefixes(self) -> tuple[str, ...]:
        """The prefixes that serve the region, those wanted first."""
        geography = next((prefixes for start, prefixes in _GEOGRAPHIES if self.region.startswith(start)), ())
        if self.routing is Routing.GEO:
            return geography
        if self.region.startswith(_NO_GLOBAL):
            return ()
        return ("global",) if self.routing is Routing.GLOBAL else (*geography, "global")


_OF_NEW_MODELS = frozenset({"us", "eu", "global"})
"""The profiles that every model has had from its first day, or soon after."""


def _entry(name: str, display_name: str, created: str) -> dict[str, str]:
    return {
        "type": "model",
        "id": name,
        "display_name": display_name,
        "created_at": f"{created or _UNKNOWN_DAY}T00:00:00Z",
    }
