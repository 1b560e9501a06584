"""Sums over the turns of an interception, which are one answer to its client. Pure."""

from aibridge.values import Outcome, Usage, UsageSource


def together(earlier: Outcome, last: Outcome) -> Outcome:
    """Return the end of the last turn with the sums of all: the client has got one answer of them."""
    had, has = earlier.evidence, last.evidence
    first = had.time_to_first_event
    turns = [turn for turn in (*(earlier.turns or (earlier.usage,)), last.usage) if turn != Usage()]
    return last._replace(
        evidence=has._replace(
            events=had.events + has.events,
            bytes_in=had.bytes_in + has.bytes_in,
            bytes_out=had.bytes_out + has.bytes_out,
            time_to_first_event=has.time_to_first_event if first is None else first,
        ),
        usage=sum_of(earlier.usage, last.usage),
        usage_source=last.usage_source if earlier.usage_source is last.usage_source else UsageSource.PROVIDER_PARTIAL,
        message_id=last.message_id or earlier.message_id,
        response_model=last.response_model or earlier.response_model,
        turns=tuple(turns) if len(turns) > 1 else (),
    )


def sum_of(first: Usage, second: Usage) -> Usage:
    """Return the counts of two answers together. What neither told stays untold; of words the later one stands."""
    extras = dict(first.extras)
    for name, count in second.extras:
        extras[name] = extras.get(name, 0) + count
    return Usage(
        input_tokens=_plus(first.input_tokens, second.input_tokens),
        output_tokens=_plus(first.output_tokens, second.output_tokens),
        cache_read_input_tokens=_plus(first.cache_read_input_tokens, second.cache_read_input_tokens),
        cache_creation_input_tokens=_plus(first.cache_creation_input_tokens, second.cache_creation_input_tokens),
        extras=tuple(sorted(extras.items())),
        service_tier=second.service_tier or first.service_tier,
        region=second.region or first.region,
    )


def _plus(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other
