"""Variables in the values of a file: `${NAME}`, `${NAME:-default}`, and `$${NAME}`, which is none."""

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"(\$?)\$\{([^}]*)\}")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class _Missing(Exception):
    pass


def interpolate(raw: object, environ: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """Fill in the variables. Returns the value and, by key, what is wrong with it.

    A value whose variable is missing keeps its text, so that the checks which follow see a key that is there.
    """
    mistakes: dict[str, str] = {}

    def walk(value: object, key: str) -> object:
        if isinstance(value, dict):
            pairs = ((str(name), walk(item, f"{key}.{name}" if key else str(name))) for name, item in value.items())
            # An empty value is a key that is not there: `limits:` with all its lines commented out.
            return {name: item for name, item in pairs if item is not None or key == "providers"}
        if isinstance(value, list):
            return [walk(item, f"{key}.{index}") for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        try:
            return _REFERENCE.sub(lambda match: _expand(match, environ), value) or None
        except _Missing as missing:
            mistakes[key] = str(missing)
            return value

    return walk(raw, ""), mistakes


def _expand(match: re.Match[str], environ: Mapping[str, str]) -> str:
    escaped, inside = match.groups()
    if escaped:  # $${NAME} stands for ${NAME} itself
        return match.group()[1:]
    variable = _VARIABLE.fullmatch(inside)
    if variable is None:
        raise _Missing("should be ${NAME} or ${NAME:-default}")
    name, default = variable.groups()
    value = environ.get(name) or default
    if value is None:
        state = "is empty" if name in environ else "is not set"
        raise _Missing(f"the environment variable {name} {state}")
    return value
