"""Which of several keys is asked, and what its answers make of it. The clock is the test's."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibridge.keypool import (
    FIRST_LIMIT,
    FIRST_REFUSAL,
    LONGEST,
    NEXT,
    PROBE,
    Exhausted,
    Fact,
    KeyChoice,
    KeyPool,
    KeyState,
)
from aibridge.poolkey import PoolKey
from aibridge.values import ResponseHead

A, B, C = (PoolKey(f"sk-secret-{name}-0123456789", f"sk-{name}", name) for name in "abc")
T = 1000.0


def head(status, **headers):
    pairs = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return ResponseHead(status, ((b"date", b"Fri, 27 Nov 2026 12:00:00 GMT"), *pairs))


def left(remaining, limit=1000, reset="30s", kind="requests"):
    return {
        f"x_ratelimit_limit_{kind}": str(limit),
        f"x_ratelimit_remaining_{kind}": str(remaining),
        f"x_ratelimit_reset_{kind}": reset,
    }


@pytest.fixture
def pool():
    return KeyPool([A, B, C])


@pytest.fixture
def spread():
    return KeyPool([A, B, C], KeyChoice.SPREAD)


def counts(pool, now):
    return tuple(pool.states(now)[state,] for state in KeyState)


def test_the_table_is_total():
    assert set(NEXT) == set(itertools.product(KeyState, Fact))


# states


def test_the_first_key_is_asked_while_it_is_valid(pool):
    assert [pool.choose(session, T) for session in ("", "s-1", "s-2")] == [A, A, A]
    assert counts(pool, T) == (3, 0, 0)


def test_a_limited_key_cools_and_comes_back_by_itself(pool):
    assert pool.heard(A, head(429, retry_after="7"), T)
    assert counts(pool, T) == (2, 1, 0)
    assert [pool.choose("", now) for now in (T, T + 6.9, T + 7)] == [B, B, A]
    assert counts(pool, T + 7) == (3, 0, 0)


def test_a_refused_key_comes_back_by_itself(pool):
    assert pool.heard(A, head(401), T)
    assert counts(pool, T) == (2, 0, 1)
    due = T + FIRST_REFUSAL
    assert pool.choose("", due - 0.1) is B
    assert pool.choose("", due) is A  # a probe
    assert pool.choose("", due) is B  # nobody else tries meanwhile
    assert counts(pool, due) == (2, 0, 1)
    assert not pool.heard(A, head(200), due + 1)
    assert counts(pool, due + 1) == (3, 0, 0)
    assert pool.choose("", due + 1) is A


def test_a_probe_that_is_refused_rests_for_twice_as_long(pool):
    now, rests = T, []
    pool.heard(A, head(401), now)
    for _ in range(9):
        due = next(at for at in itertools.count(now + 1) if pool.choose("", at) is A)
        rests.append(due - now)
        now = due
        pool.heard(A, head(401), now)
    assert rests == [FIRST_REFUSAL * 2**n for n in range(6)] + [LONGEST] * 3


def test_an_accepted_answer_makes_the_next_refusal_a_first_one(pool):
    pool.heard(A, head(401), T)
    pool.choose("", T + FIRST_REFUSAL)
    pool.heard(A, head(200), T + FIRST_REFUSAL)
    now = T + 10 * FIRST_REFUSAL
    pool.heard(A, head(401), now)
    assert pool.choose("", now + FIRST_REFUSAL) is A


def test_a_probe_that_nobody_answers_is_sent_again(pool):
    pool.heard(A, head(401), T)
    due = T + FIRST_REFUSAL
    assert pool.choose("", due) is A
    assert pool.choose("", due + PROBE - 0.1) is B
    assert pool.choose("", due + PROBE) is A


def test_limits_that_are_not_told_are_waited_for_ever_longer(pool):
    """Short at first: a request that is larger than a limit is turned away with every key."""
    now, rests = T, []
    for _ in range(8):
        pool.heard(A, head(429), now)
        pool.heard(A, head(429), now)  # two at once are one
        due = next(at for at in itertools.count(now + 1) if pool.choose("", at) is A)
        rests.append(due - now)
        now = due
    assert rests == [2, 4, 8, 16, 32, 60, 60, 60]
    pool.heard(A, head(200), now)
    pool.heard(A, head(429), now)
    assert pool.choose("", now + FIRST_LIMIT) is A


def test_a_row_of_limits_does_not_lengthen_a_refusal(pool):
    now = T
    for _ in range(5):
        pool.heard(A, head(429), now)
        now += 100
    pool.heard(A, head(401), now)
    assert pool.choose("", now + FIRST_REFUSAL) is A


def test_many_refusals_at_once_are_one(pool):
    for moment in range(20):
        assert pool.heard(A, head(401), T + moment)
    assert pool.choose("", T + FIRST_REFUSAL) is A


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [
        ([head(429)], FIRST_LIMIT),
        ([head(429, retry_after="0")], 1),
        ([head(429, retry_after="5"), head(429, retry_after="2")], 5),
        ([head(429, retry_after="2"), head(429, retry_after="5")], 5),
        ([head(429, retry_after="2", retry_after_ms="3000")], 3),
        ([head(429, retry_after="2", **left(0, reset="9s"))], 9),
        ([head(429, retry_after="2", **left(0, reset="9s"), **left(0, reset="11s", kind="tokens"))], 11),
        ([head(429, retry_after="20", **left(0, reset="9s"))], 20),
        ([head(429, retry_after="2", **left(300, reset="9s"))], 2),
        ([head(429, retry_after="9" * 9)], LONGEST),
        ([head(429, retry_after="9" * 99)], LONGEST),
        ([head(401, retry_after="2")], FIRST_REFUSAL),
        ([head(401, retry_after="200")], 200),
    ],
)
def test_how_long_a_key_rests(pool, answers, seconds):
    for answer in answers:
        pool.heard(A, answer, T)
    assert pool.choose("", T + seconds - 0.01) is B
    assert pool.choose("", T + seconds) is A


@pytest.mark.parametrize("status", [200, 400, 403, 404, 408, 413, 422, 500, 502, 503, 529])
def test_no_other_status_rotates(pool, status):
    assert not pool.heard(A, head(status, retry_after="60"), T)
    assert pool.choose("", T) is A


@pytest.mark.parametrize(("status", "state"), [(200, "valid"), (400, "valid"), (403, "refused"), (503, "refused")])
def test_what_makes_a_refused_key_valid(pool, status, state):
    pool.heard(A, head(401), T)
    pool.choose("", T + FIRST_REFUSAL)
    pool.heard(A, head(status), T + FIRST_REFUSAL)
    assert pool.states(T + FIRST_REFUSAL)[KeyState(state),] == (3 if state == "valid" else 1)


def test_an_earlier_requests_answer_does_not_end_a_pause(pool):
    pool.heard(A, head(429, retry_after="60"), T)
    pool.heard(A, head(200), T + 1)
    assert pool.choose("", T + 2) is B


def test_after_an_accepted_probe_a_short_limit_is_short(pool):
    pool.heard(A, head(401), T)
    due = T + FIRST_REFUSAL
    pool.choose("", due)
    pool.heard(A, head(200), due)
    pool.heard(A, head(429, retry_after="2"), due)
    assert pool.choose("", due + 2) is A


def test_a_probe_that_is_limited_is_a_good_key(pool):
    pool.heard(A, head(401), T)
    due = T + FIRST_REFUSAL
    pool.choose("", due)
    assert pool.heard(A, head(429, retry_after="2"), due)
    assert counts(pool, due) == (2, 1, 0)
    assert pool.choose("", due + 2) is A


# no key


def test_all_limited(pool):
    assert pool.heard(A, head(429, retry_after="30"), T)
    assert pool.heard(B, head(429, retry_after="20"), T)
    assert not pool.heard(C, head(429, retry_after="40"), T)
    assert pool.choose("s", T) == Exhausted(20)
    assert pool.choose("s", T + 18.5) == Exhausted(2)
    assert pool.choose("s", T + 19.9) == Exhausted(1)
    assert pool.choose("s", T + 20) is B


def test_all_refused(pool):
    assert [pool.heard(key, head(401), T) for key in (A, B, C)] == [True, True, False]
    assert pool.choose("", T) == Exhausted(None)
    assert pool.choose("", T + FIRST_REFUSAL) is A


def test_one_that_cools_is_waited_for_where_the_others_are_refused(pool):
    pool.heard(A, head(401), T)
    pool.heard(B, head(429, retry_after="50"), T)
    pool.heard(C, head(401), T)
    assert pool.choose("", T) == Exhausted(50)


def test_what_is_relayed_only_goes_out_whatever_the_limits(pool):
    assert pool.soonest(T) is A
    pool.heard(A, head(401), T)
    pool.heard(B, head(429, retry_after="50"), T)
    assert pool.soonest(T) is C
    pool.heard(C, head(429, retry_after="20"), T)
    assert pool.soonest(T) is C
    assert pool.soonest(T + FIRST_REFUSAL) is B  # no probe: whoever asks for a list learns nothing from a 401


# the choice


def test_a_session_keeps_to_its_key_while_that_is_valid(spread):
    keys = {session: spread.choose(session, T) for session in map(str, range(300))}
    assert all(spread.choose(session, T) is key for session, key in keys.items())
    spread.heard(B, head(429, retry_after="60"), T)
    moved = {session: spread.choose(session, T) for session in keys}
    assert {key for session, key in moved.items() if keys[session] is B} == {A, C}
    assert all(moved[session] is key for session, key in keys.items() if key is not B)
    assert {session: spread.choose(session, T + 60) for session in keys} == keys


def test_the_order_of_the_configuration_does_not_move_a_session(spread):
    other = KeyPool([C, A, B], KeyChoice.SPREAD)
    assert all(spread.choose(session, T) == other.choose(session, T) for session in map(str, range(100)))


def test_sessions_are_spread_by_weight():
    light, heavy = A, B._replace(weight=3.0)
    pool = KeyPool([light, heavy], KeyChoice.SPREAD)
    shares = Counter(pool.choose(f"session-{number}", T) for number in range(4000))
    assert 0.22 < shares[light] / 4000 < 0.28


def test_without_a_session_the_least_used_key_is_asked(spread):
    assert Counter(spread.choose("", T) for _ in range(300)) == {A: 100, B: 100, C: 100}
    pool = KeyPool([A, B._replace(weight=2.0)], KeyChoice.SPREAD)
    assert Counter(pool.choose("", T).name for _ in range(300)) == {"a": 100, "b": 200}


def test_a_key_that_comes_back_does_not_catch_up(spread):
    spread.heard(A, head(429, retry_after="60"), T)
    for _ in range(100):
        spread.choose("", T)
    shares = Counter(spread.choose("", T + 60) for _ in range(30))
    assert all(9 <= shares[key] <= 11 for key in (A, B, C))


def test_a_key_of_which_nearly_nothing_is_left_is_chosen_last(pool, spread):
    for one in (pool, spread):
        one.heard(A, head(200, **left(50, 1000)), T)
        assert A not in {one.choose(session, T) for session in map(str, range(50))}
        one.heard(B, head(429, retry_after="60"), T)
        one.heard(C, head(429, retry_after="60"), T)
        assert one.choose("s", T) is A  # still better than none
        assert one.choose("s", T) is A
    assert pool.choose("", T + 30) is A


def test_it_is_so_until_its_reset_or_until_more_is_told(pool):
    pool.heard(A, head(200, **left(50, 1000, reset="30s")), T)
    assert [pool.choose("", now) for now in (T + 29.9, T + 30)] == [B, A]
    pool.heard(A, head(200, **left(50, 1000, reset="30s")), T)
    pool.heard(A, head(200, **left(51, 1000, reset="30s")), T + 1)
    assert pool.choose("", T + 1) is A


def test_where_all_have_nearly_nothing_left_the_order_is_as_ever(pool):
    for key in (A, B, C):
        pool.heard(key, head(200, **left(0)), T)
    assert pool.choose("", T) is A


# what is told


def test_what_is_left_is_told_by_name_and_kind(pool):
    pool.heard(A, head(200, **left(40, 1000), **left(999_000, 1_000_000, kind="tokens")), T)
    pool.heard(B, head(200, anthropic_ratelimit_input_tokens_remaining="12"), T)
    told = {("a", "requests"): 40, ("a", "tokens"): 999_000, ("b", "input-tokens"): 12}
    assert pool.remaining(T) == told
    assert pool.remaining(T + 30) == {**told, ("a", "requests"): 1000}


def test_no_text_of_it_holds_a_secret(pool):
    chosen = pool.choose("", T)
    texts = [f(one) for f in (repr, str, ascii) for one in (pool, chosen, [chosen], {"key": chosen})]
    assert [text for text in texts if "secret" in text] == []
    assert pool.secrets == (A.secret, B.secret, C.secret)


HEARD = st.tuples(
    st.sampled_from((A, B, C)),
    st.sampled_from((200, 400, 401, 403, 429, 500)),
    st.sampled_from(({}, {"retry_after": "0"}, {"retry_after": "999999999"}, left(0, reset="9000h"), left(900))),
    st.floats(0, 4000),
)


@pytest.mark.parametrize("choice", KeyChoice)
@given(heard=st.lists(HEARD, max_size=30), sessions=st.lists(st.sampled_from(("", "s-1", "s-2")), min_size=30))
def test_whatever_is_heard_no_key_is_asked_in_its_pause_and_none_is_lost(choice, heard, sessions):
    pool, now = KeyPool([A, B, C], choice), T
    for (key, status, headers, seconds), session in zip(heard, sessions, strict=False):
        before = pool.states(now)
        chosen = pool.choose(session, now)
        if isinstance(chosen, PoolKey):
            assert pool.state(chosen, now) is not KeyState.COOLING
        else:
            assert before[KeyState.VALID,] == 0
            assert chosen.seconds is None or 1 <= chosen.seconds <= LONGEST
        assert sum(before.values()) == 3
        others = pool.heard(key, head(status, **headers), now)
        assert not others or status in {401, 429}
        now += seconds
    later = now + LONGEST
    assert pool.states(later)[KeyState.COOLING,] == 0
    assert isinstance(pool.choose("", later), PoolKey)
