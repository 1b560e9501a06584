"""The recording policy: what of prompts, arguments and thoughts is kept."""

import hashlib
import hmac

import pytest

from aibridge.content import NOTHING, ContentChoice, ContentPolicy, ContentRules, Keep, stricter
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


def test_a_key_has_a_policy_of_its_own():
    rules = ContentRules(HASHED, choices=True)
    assert rules.of(None) is HASHED
    own = rules.of(ContentChoice(prompts=Keep.OFF, thoughts=Keep.FULL))
    assert (own.prompts, own.arguments, own.thoughts) == (Keep.OFF, Keep.HASHED, Keep.FULL)
    assert own.hash_key == HASHED.hash_key
    assert rules.of(ContentChoice(prompts=Keep.OFF, thoughts=Keep.FULL)) is own


def test_where_nothing_is_recorded_no_key_has_a_choice():
    assert ContentRules().of(ContentChoice(prompts=Keep.FULL)) is NOTHING


def test_without_a_key_to_hash_with_a_hash_that_is_chosen_is_nothing():
    own = ContentRules(FULL, choices=True).of(ContentChoice(prompts=Keep.HASHED))
    assert (own.prompts, own.arguments) == (Keep.OFF, Keep.FULL)


def test_the_key_shows_nowhere():
    assert "a-key" not in repr(HASHED)
    assert "a-key" not in repr(ContentRules(HASHED))


@pytest.mark.parametrize("first", list(Keep))
@pytest.mark.parametrize("second", list(Keep))
def test_of_two_policies_the_stricter_counts_for_each_kind(first, second):
    one = ContentPolicy(prompts=first, arguments=second, thoughts=Keep.OFF, hash_key=b"k")
    other = ContentPolicy(prompts=second, arguments=Keep.FULL, thoughts=first)
    both = stricter(one, other)
    order = [Keep.FULL, Keep.HASHED, Keep.OFF]
    assert both.prompts == order[max(order.index(first), order.index(second))]
    assert (both.arguments, both.thoughts, both.hash_key) == (second, Keep.OFF, b"k")
    assert stricter(other, one) == both
