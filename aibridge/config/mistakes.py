"""Checks what was written, and says what is wrong with it: a line for each mistake, none of which holds a secret."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aibridge.config.providers import KINDS, AnyProvider
from aibridge.config.settings import Settings
from aibridge.errors import ConfigError
from aibridge.secretsource import SecretReader


def validate(
    raw: object,
    mistakes: Mapping[str, str],
    names: Mapping[str, str] | None = None,
    files: set[Path] | None = None,
) -> Settings:
    """Check all of it.

    Args:
        raw: as it was written.
        mistakes: that are known already, by key.
        names: what to call a key in a text.
        files: gets those that secrets stand in.

    Raises:
        ConfigError: a line for each mistake.
    """
    names = names or {}
    lines = dict(mistakes)
    try:
        settings = Settings.model_validate(raw, context=SecretReader(set() if files is None else files))
    except ValidationError as invalid:
        for details in invalid.errors(include_url=False, include_context=True, include_input=False):
            key, text = _explain(details)
            lines.setdefault(key, text)
        settings = None
    if settings is None or lines:
        texts = [f"{_called(key, names)}: {text}" if key else text for key, text in lines.items()]
        raise ConfigError("\n".join(texts))
    return settings


def _called(key: str, names: Mapping[str, str]) -> str:
    """Return what to call a key: the variable that set it, or that set the list it is in."""
    return next((name for prefix, name in names.items() if f"{key}.".startswith(f"{prefix}.")), key)


def _explain(details: ErrorDetails) -> tuple[str, str]:
    """Return the key, as the operator wrote it, and what is wrong."""
    location = [step for step in details["loc"] if step != "[key]"]
    kind = details["type"]
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _key(location) + ".kind", f"should be one of {', '.join(KINDS)}"
    if kind == "extra_forbidden":
        return _key([*location[:-1], _shown(str(location[-1]))]), _unknown(location)
    if kind == "missing":
        return _key(location), "is needed"
    return _key(location), details["msg"].replace("Input should", "should")


def _key(location: list[str | int]) -> str:
    # Behind a provider's name pydantic puts its kind, which the operator wrote elsewhere.
    if location[:1] == ["providers"]:
        location = [*location[:2], *location[3:]]
    return ".".join(str(step) for step in location)


def _shown(unknown_key: str) -> str:
    """Return a key as it may be told: it may be a secret where a key belongs (`- sk-1a2b: alice`)."""
    return unknown_key if re.fullmatch("[A-Za-z_-]{1,40}", unknown_key) else f"{unknown_key[:4]}..."


def _unknown(location: list[str | int]) -> str:
    key = str(location[-1])
    owners = [kind for kind, model in KINDS.items() if key in model.model_fields]
    if location[0] == "providers" and len(location) == 4 and owners:  # noqa: PLR2004 - providers.name.kind.key
        return f"unknown key here; it belongs to kind {owners[0]!r}"
    near = difflib.get_close_matches(key, _keys_beside(location), n=1)
    return f"unknown key; did you mean {near[0]!r}?" if near else "unknown key"


def _keys_beside(location: list[str | int]) -> list[str]:
    """Return the keys known at the place of the location's last step."""
    here: Any = Settings
    for step in location[:-1]:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = here.model_fields[str(step)].annotation
        elif here == AnyProvider:
            here = KINDS[str(step)]
        else:  # dict[str, X], tuple[X, ...]
            arguments = get_args(here)
            here = arguments[1] if get_origin(here) is dict else arguments[0]
        if NoneType in get_args(here):
            here = get_args(here)[0]
        if get_origin(here) is Annotated:
            here = get_args(here)[0]
    return [field.alias or name for name, field in here.model_fields.items()]
