"""The token counts of the Responses API, as records have them."""

from typing import Any

from aibridge.dialects.counts import MOST_COUNTS, counts_in
from aibridge.values import Usage


def read_usage(usage: Any) -> Usage | None:
    """Return the counts of a response's `usage`; None where it tells none.

    The API counts tokens read from the cache, and written to it, as input: here they are taken out. The rest keeps the
    API's names; details of the input are told apart from those of the output by `input_`.
    """
    if not isinstance(usage, dict):
        return None
    counts = counts_in(usage.get("output_tokens_details"))
    counts |= {f"input_{name}": count for name, count in counts_in(usage.get("input_tokens_details")).items()}
    counts |= counts_in(usage)
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
        extras=tuple(sorted(counts.items())[:MOST_COUNTS]),
    )
