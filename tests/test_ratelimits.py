"""What heads tell of limits: both spellings, resets as moments and as durations, and what is no such thing."""

import pytest

from aibridge.ratelimits import KINDS, Limit, limits_in, reset_of, told_pause
from aibridge.values import ResponseHead

DATE = ("date", "Fri, 27 Nov 2026 12:00:00 GMT")


def head(*headers, status=200):
    return ResponseHead(status, tuple((name.encode(), value.encode("latin-1")) for name, value in headers))


def test_anthropics_headers():
    kinds = {
        kind: [
            (f"anthropic-ratelimit-{kind}-limit", "4000"),
            (f"anthropic-ratelimit-{kind}-remaining", str(number)),
            (f"anthropic-ratelimit-{kind}-reset", "2026-11-27T12:00:07Z"),
        ]
        for number, kind in enumerate(KINDS)
    }
    told = head(DATE, *(pair for pairs in kinds.values() for pair in pairs))
    found = limits_in(told)
    assert found == {kind: Limit(4000, number, b"2026-11-27T12:00:07Z") for number, kind in enumerate(KINDS)}
    assert reset_of(found["tokens"], told) == 7.0


def test_openais_headers():
    told = head(
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-limit-tokens", "150000"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-remaining-tokens", "149984"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    )
    found = limits_in(told)
    assert found == {"requests": Limit(60, 59, b"1s"), "tokens": Limit(150000, 149984, b"6m0s")}
    assert {kind: reset_of(limit, told) for kind, limit in found.items()} == {"requests": 1.0, "tokens": 360.0}


def test_whatever_else_is_said_is_not_kept():
    hostile = [(f"anthropic-ratelimit-kind{number}-limit", "1") for number in range(1000)]
    hostile += [(f"x-ratelimit-limit-kind{number}", "1") for number in range(1000)]
    hostile += [("anthropic-ratelimit-requests-limit", "9" * 400), ("x-ratelimit-remaining-tokens", "-1")]
    hostile += [("x-ratelimit-remaining-tokens", "nine"), ("x-ratelimit-limit-input-tokens", "1")]
    assert limits_in(head(*hostile)) == {"requests": Limit(), "tokens": Limit()}


def test_of_two_headers_of_one_name_the_first_counts():
    said = head(("x-ratelimit-remaining-requests", "7"), ("x-ratelimit-remaining-requests", "0"))
    assert limits_in(said) == {"requests": Limit(None, 7)}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("20", 20.0),
        ("1.5", 1.5),
        ("20ms", 0.02),
        ("7.66s", 7.66),
        ("2m59.56s", 179.56),
        ("1h0m0s", 3600.0),
        ("1h2m3s4ms", 3723.004),
        ("2026-11-27T12:00:30Z", 30.0),
        ("2026-11-27T12:00:30.5+00:00", 30.5),
        ("2026-11-27T14:01:00+02:00", 60.0),
        ("2026-11-27T12:00:10", 10.0),
        ("2026-11-27T11:00:00Z", 0.0),
        ("", 60.0),
        ("soon", 60.0),
        ("s", 60.0),
        ("-1", 60.0),
        ("9" * 400, 60.0),
        ("é", 60.0),
    ],
)
def test_when_a_limit_is_restored(text, seconds):
    assert reset_of(Limit(reset=text.encode("latin-1")), head(DATE)) == pytest.approx(seconds)


def test_a_moment_means_nothing_without_the_date_of_who_tells_it():
    assert reset_of(Limit(reset=b"2026-11-27T12:00:30Z"), head()) == 60.0


USED_UP = [
    ("anthropic-ratelimit-tokens-remaining", "0"),
    ("anthropic-ratelimit-tokens-reset", "2026-11-27T12:00:30Z"),
]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([("retry-after", "3")], 3.0),
        ([("retry-after-ms", "1500")], 1.5),
        ([("retry-after-ms", "1500"), ("retry-after", "2")], 2.0),
        ([("retry-after-ms", "2500"), ("retry-after", "2")], 2.5),
        ([("retry-after", "Fri, 27 Nov 2026 12:00:45 GMT")], 45.0),
        ([("retry-after", "Fri, 27 Nov 2026 11:00:45 GMT")], 0.0),
        ([("retry-after", "tomorrow")], None),
        ([("retry-after", "-3")], None),
        (USED_UP, 30.0),
        ([*USED_UP, ("retry-after", "3")], 30.0),
        ([*USED_UP, ("retry-after", "40")], 40.0),
        ([("anthropic-ratelimit-tokens-remaining", "1"), USED_UP[1], ("retry-after", "3")], 3.0),
        ([("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "8.64s")], 8.64),
    ],
)
def test_the_longest_pause_that_is_told_wins(headers, seconds):
    told = head(DATE, *headers, status=429)
    assert told_pause(told, limits_in(told)) == seconds


@pytest.mark.parametrize(
    ("limit", "scarce"),
    [
        (Limit(), False),
        (Limit(100), False),
        (Limit(100, 6), False),
        (Limit(100, 5), True),
        (Limit(100, 0), True),
        (Limit(None, 1), False),
        (Limit(None, 0), True),
    ],
)
def test_when_nearly_nothing_remains(limit, scarce):
    assert limit.scarce is scarce
