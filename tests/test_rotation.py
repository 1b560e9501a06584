"""How one interception goes on with another key. The clock is the test's."""

import pytest

from aibridge.keypool import Exhausted, KeyChoice, KeyPool, with_key
from aibridge.poolkey import PoolKey
from aibridge.rotation import Rotation
from aibridge.values import Credential, CredentialKind, ResponseHead, UpstreamRequest

A, B, C = (PoolKey(f"sk-secret-{name}-0123456789", f"hint-{name}", name) for name in "abc")
T = 1000.0


def head(status, seconds=60):
    return ResponseHead(status, ((b"retry-after", b"%d" % seconds),))


def request(key, header=b"x-api-key", form=b"%b"):
    return UpstreamRequest(
        method="POST",
        origin="http://upstream",
        target="/v1/messages",
        headers=((b"host", b"upstream"), (header, form % key.secret.encode()), (b"x-note", b"kept")),
        body=b"{}",
        credential=Credential(CredentialKind.CENTRALIZED, key.hint),
        key=key,
    )


@pytest.fixture
def pool():
    return KeyPool([A, B, C])


@pytest.fixture
def rotated():
    return []


@pytest.fixture
def rotation(pool, rotated):
    return Rotation(pool, pool.choose("", T), "", rotated.append)


@pytest.mark.parametrize(
    ("header", "form"), [(b"x-api-key", b"%b"), (b"authorization", b"Bearer %b"), (b"api-key", b"%b")]
)
def test_the_same_request_with_another_key(header, form):
    assert with_key(request(A, header, form), B) == request(B, header, form)


def test_a_request_that_has_no_key_of_a_pool_stays_as_it_is():
    own = request(A)._replace(key=None)
    assert with_key(own, B) is own


def test_the_key_is_kept_while_it_is_valid(rotation, rotated):
    rotation.hear(head(200), T)
    assert (rotation.goes_on, rotation.turned_away) == (False, False)
    sent = request(A)
    assert rotation.following(sent, T) is sent
    assert rotated == []


def test_a_key_that_is_turned_away_gives_its_place(rotation, rotated):
    rotation.hear(head(429), T)
    assert (rotation.goes_on, rotation.turned_away) == (True, True)
    assert rotation.following(request(A), T) == request(B)
    # A later turn's request was made with the first key.
    assert rotation.following(request(A), T) == request(B)
    rotation.hear(head(401), T)
    assert rotation.following(request(B), T) == request(C)
    assert rotated == ["cooling", "refused"]


def test_no_key_is_left(rotation):
    for _ in range(2):
        rotation.hear(head(429, 30), T)
        rotation.following(request(A), T)
    rotation.hear(head(429, 20), T)
    assert (rotation.goes_on, rotation.turned_away) == (False, True)
    assert rotation.following(request(A), T) == Exhausted(20)


def test_a_retry_that_waited_as_long_as_was_told_is_sent_with_the_same_key(rotated):
    rotation = Rotation(KeyPool([A]), A, "", rotated.append)
    rotation.hear(head(429, 1), T)
    assert rotation.following(request(A), T + 0.998) == Exhausted(1)
    assert rotation.following(request(A), T + 1) == request(A)
    assert rotated == []


def test_a_key_that_others_have_used_up_is_not_asked_again(pool, rotation, rotated):
    pool.heard(A, head(429), T)
    assert rotation.following(request(A), T) == request(B)
    assert rotated == ["cooling"]


def test_keys_that_are_back_at_once_do_not_make_it_endless(pool, rotation):
    """Each key is turned away after a second, as long as the one before has to rest."""
    asked, now = 1, T
    rotation.hear(head(429, 0), now)
    while rotation.goes_on:
        now += 1
        asked += 1
        rotation.following(request(A), now)
        rotation.hear(head(429, 0), now)
    assert asked == len(pool)
    assert pool.exhausted(now) == Exhausted(1)


def test_a_good_answer_begins_the_count_anew(rotation):
    for turn in range(10):
        rotation.hear(head(429, 0), T + 2 * turn)
        assert rotation.goes_on
        rotation.following(request(A), T + 2 * turn)
        rotation.hear(head(200), T + 2 * turn)


def test_the_session_says_which_is_next(rotated):
    for number in range(20):
        pool, session = KeyPool([A, B, C], KeyChoice.SPREAD), f"session-{number}"
        first = pool.choose(session, T)
        pool.heard(first, head(429), T)
        expected = pool.choose(session, T)
        assert Rotation(pool, first, session, rotated.append).following(request(first), T) == request(expected)
