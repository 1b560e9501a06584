"""What a usage object of Chat Completions says, of OpenAI and of servers that are compatible."""

from typing import Any

from aibridge.dialects.counts import MOST_COUNTS, counts_in
from aibridge.values import Usage

_CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
"""Tokens read from a cache: OpenAI in the details, Moonshot at the top; DeepSeek; LiteLLM."""

_WRITTEN = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
"""Tokens written to one: OpenAI and OpenRouter; LiteLLM in the details and at the top."""


def usage_in(fields: dict[str, Any]) -> dict[str, Any] | None:
    """Return the usage object of an event, wherever servers put it; None where there is none."""
    for place in places_of_usage(fields):
        usage: dict[str, Any] = place["usage"]
        return usage
    return None


def places_of_usage(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """List the objects of an event that hold a usage object.

    The event itself (OpenAI), its `x_groq` (Groq), a choice (Moonshot).
    """
    choices = fields.get("choices")
    places = (fields, fields.get("x_groq"), *(choices if isinstance(choices, list) else ()))
    return [place for place in places if isinstance(place, dict) and isinstance(place.get("usage"), dict)]


def read_usage(usage: dict[str, Any]) -> Usage | None:
    """Return the counts of a usage object; None where it has none.

    The API's prompt tokens hold those that a cache gave or took; ours do not. Details of the prompt that are extras get
    `prompt_` before their names: some have the names of details of the completion.
    """
    top = counts_in(usage)
    if not top:
        return None
    prompt = counts_in(usage.get("prompt_tokens_details"))
    completion = counts_in(usage.get("completion_tokens_details"))
    cached, written = _take(_CACHED, prompt, top), _take(_WRITTEN, prompt, top)
    whole = top.pop("prompt_tokens", None)
    output = top.pop("completion_tokens", None)
    extras = {**{f"prompt_{name}": count for name, count in prompt.items()}, **completion, **top}
    return Usage(
        input_tokens=None if whole is None else max(0, whole - (cached or 0) - (written or 0)),
        output_tokens=output,
        cache_read_input_tokens=cached,
        cache_creation_input_tokens=written,
        extras=tuple(sorted(extras.items())[:MOST_COUNTS]),
    )


def _take(names: tuple[str, ...], *places: dict[str, int]) -> int | None:
    """Take the counts of these names out, which all say the same; return the first."""
    said = [place.pop(name) for place in places for name in names if name in place]
    return said[0] if said else None
