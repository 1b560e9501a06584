"""The recording policy: what of prompts, arguments and thoughts is kept."""

import hashlib
import hmac

import pytest

from aibridge.content import NOTHING, ContentPolicy, ContentRules, Keep
from aibridge.text import CUT
from aibridge.values import MAX_CONTENT_BYTES, Thought, ToolUse, UserPrompt

KEY = b"a-key"
FULL = ContentPolicy(prompts=Keep.FULL, arguments=Keep.FULL, thoughts=Keep.FULL)
HASHED = ContentPolicy(prompts=Keep.HASHED, arguments=Keep.HASHED, thoughts=Keep.HASHED, hash_key=KEY)
TOOL, THOUGHT = ToolUse("toolu_1", "Read", '{"path":"/é"}'), Thought("hm", "thinking")


def hashed(text):
    data = text.encode("utf-8", "replace")
    return f"hmac-sha256:{hmac.new(KEY, data, hashlib.sha256).hexdigest()}:{len(data)}"


def test_full():
    assert FULL.prompt("hello") == UserPrompt("hello")
    assert (FULL.keep(TOOL), FULL.keep(THOUGHT)) == (TOOL, THOUGHT)


def test_off_keeps_of_a_tool_what_threads_are_found_by():
    assert NOTHING.prompt("hello") is None
    assert NOTHING.keep(TOOL) == ToolUse("toolu_1", "Read", "")
    assert NOTHING.keep(THOUGHT) is None


def test_hashed():
    assert HASHED.prompt("hello") == UserPrompt(hashed("hello"))
    assert HASHED.keep(TOOL) == ToolUse("toolu_1", "Read", hashed('{"path":"/é"}'))
    assert HASHED.keep(THOUGHT) == Thought(hashed("hm"), "thinking")
    assert HASHED.prompt("\ud800") == UserPrompt(hashed("?"))


def test_a_hash_without_the_key_tells_nothing():
    other = ContentPolicy(prompts=Keep.HASHED, hash_key=b"another")
    assert other.prompt("yes") != HASHED.prompt("yes")
    assert hashlib.sha256(b"yes").hexdigest() not in HASHED.prompt("yes").text


def test_nobody_asked():
    assert FULL.prompt("") is None


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f642"])
def test_what_is_long_is_cut_and_says_so(letter):
    fits = letter * (MAX_CONTENT_BYTES // len(letter.encode()))
    assert FULL.prompt(fits) == UserPrompt(fits)
    assert FULL.prompt(fits + letter) == UserPrompt(fits + CUT)
    assert HASHED.prompt(fits + letter) == UserPrompt(hashed(fits + CUT))


def test_an_actor_has_a_policy_of_his_own():
    rules = ContentRules(FULL, {"alice": NOTHING})
    assert rules.of("alice") is NOTHING
    assert rules.of("bob") is FULL
    assert ContentRules().of("anyone") is NOTHING


def test_the_key_shows_nowhere():
    assert "a-key" not in repr(HASHED)
    assert "a-key" not in repr(ContentRules(HASHED))
