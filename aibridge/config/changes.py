"""What differs between two configurations."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from aibridge.config.configuration import Config
from aibridge.config.settings import Settings


def changed_keys(before: Config, after: Config) -> list[str]:
    """Return the keys that differ, by name alone. A provider that one of the two has not is one key."""
    keys: dict[str, None] = {}
    for name in Settings.model_fields:
        keys |= dict.fromkeys(_differing(name, getattr(before, name), getattr(after, name)))
    files = {**before.digests, **after.digests}
    return [*keys | dict.fromkeys(key for key in files if before.digests.get(key) != after.digests.get(key))]


def _differing(key: str, before: object, after: object) -> Iterator[str]:
    if before == after:
        return
    one, other = _members(before), _members(after)
    if type(before) is not type(after) or one is None or other is None:
        yield key
        return
    for name in {**one, **other}:
        inner = f"{key}.{name}"
        if name in one and name in other:
            yield from _differing(inner, one[name], other[name])
        else:
            yield inner


def _members(value: object) -> dict[str, Any] | None:
    """Return the keys of a section, or the sections of a mapping of them; None where there is nothing to go into."""
    if isinstance(value, BaseModel):
        return dict(iter(value))  # not dict(value): a section may have a key `keys`
    if isinstance(value, dict) and all(isinstance(item, BaseModel) for item in value.values()):
        return value
    return None
