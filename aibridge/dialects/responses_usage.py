"""The token counts of the Responses API, as records have them."""

import re
from typing import Any

from aibridge.values import Usage

_COUNT_NAME = re.compile("[a-z][a-z0-9_]{0,63}")
"""Names of counts as the API has them. They are kept as they come: what else stands there is no name of a count."""
_MOST_COUNTS = 64
"""Of one answer; the API tells half a dozen."""


def read_usage(usage: Any) -> Usage | None:
    """Return the counts of a response's `usage`; None where it tells none.

    The API counts tokens read from the cache, and written to it, as input: here they are taken out. The rest keeps the
    API's names; details of the input are told apart from those of the output by `input_`.
    """
    if not isinstance(usage, dict):
        return None
    counts = _counts(usage.get("output_tokens_details"))
    counts |= {f"input_{name}": count for name, count in _counts(usage.get("input_tokens_details")).items()}
    counts |= _counts(usage)
    if not counts:
        return None
    whole = counts.pop("input_tokens", None)
    read = counts.pop("input_cached_tokens", None)
    written = counts.pop("input_cache_write_tokens", None)
    return Usage(
        input_tokens=None if whole is None else max(0, whole - (read or 0) - (written or 0)),
        output_tokens=counts.pop("output_tokens", None),
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        extras=tuple(sorted(counts.items())[:_MOST_COUNTS]),
    )


def _counts(fields: Any) -> dict[str, int]:
    found = fields.items() if isinstance(fields, dict) else ()
    return {name: count for name, count in found if _is_count(count) and _COUNT_NAME.fullmatch(name)}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
