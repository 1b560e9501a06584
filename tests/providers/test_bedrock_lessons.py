"""What is learned of AWS's refusals: read from its words, and kept within bounds."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibridge.providers.bedrock_lessons import NOTHING, Lessons, RefusedField, complaint_of, holds_refusal

A, B = RefusedField(("a",)), RefusedField(("b",))
OPTIONAL = (
    'Malformed input request: #: subject must not be valid against schema {"required":["messages"]}#: extraneous key '
    "[stream] is not permitted#: extraneous key [speed] is not permitted, please reformat your input and try again."
)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("a: Extra inputs are not permitted", [("a",)]),
        ("Oh: a: Extra inputs are not permitted; b_c: Extra inputs are not permitted", [("a",), ("b_c",)]),
        ("tools.0.custom.eager: Extra inputs are not permitted", [("tools", "*", "custom", "eager")]),
        ("thinking.adaptive.display: Extra inputs are not permitted", [("thinking", "adaptive", "display")]),
        (
            "messages.0.content.3.text.cache_control.ephemeral.ttl: Extra inputs are not permitted",
            [],
        ),
        (OPTIONAL, [("stream",), ("speed",)]),
        ("#/thinking: extraneous key [display] is not permitted", [("thinking", "display")]),
        ("#/tools/0: extraneous key [strict] is not permitted", [("tools", "*", "strict")]),
        ("tools.1.x: Extra inputs are not permitted, tools.7.x: Extra inputs are not permitted", [("tools", "*", "x")]),
        # without these another question would be answered
        ("messages: Extra inputs are not permitted", []),
        ("system: Extra inputs are not permitted", []),
        ("tools: Extra inputs are not permitted", []),
        ("max_tokens: Extra inputs are not permitted", []),
        ("messages.0.content.0.text.citations: Extra inputs are not permitted", []),
        # other words
        ("a: Field required", []),
        ("", []),
        (f"{'x' * 3000}: Extra inputs are not permitted", []),
        (f"a.{'0.' * 20}b: Extra inputs are not permitted", []),
        (" " * 9000 + "a: Extra inputs are not permitted", []),
    ],
)  # fmt: skip
def test_fields_that_are_named(words, fields):
    found = complaint_of(words, [])
    assert list(found.fields) == fields
    assert not found.some_beta


@pytest.mark.parametrize(
    ("words", "betas"),
    [
        ("invalid beta flag", set()),
        ("The model returned the following errors: Invalid beta flag", set()),
        ("invalid beta flag: good-1", {"good-1"}),
        ("Unexpected value(s) `bad-2`, `good-1` for the `anthropic-beta` header.", {"good-1", "bad-2"}),
        ("Unsupported beta header: bad-2", {"bad-2"}),
    ],
)
def test_betas_that_are_wrong(words, betas):
    found = complaint_of(words, ["good-1", "bad-2", "other-3"])
    assert (found.some_beta, found.betas) == (True, betas)


def test_a_beta_in_words_about_something_else_is_not_blamed():
    assert complaint_of("good-1 says that messages are empty", ["good-1"]) == ((), frozenset(), False)


@pytest.mark.parametrize(
    "words", ["a" * 9000, "a." * 4500, "a-" * 4500, "#/" + "a" * 9000, "#/a" * 3000, "unknown " * 1200]
)
def test_no_words_cost_much(words):
    """Each took up to half a second, in which nobody was served."""
    complaint_of(words, ["b"])
    began = time.process_time()
    complaint_of(words, ["b"])
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize(
    ("body", "held"),
    [
        (b'{"a":"b: Extra inputs are not permitted"}', True),
        (b'{"#: extraneous key [b] is not permitted":1}', True),
        (b'{"a":"b: \\u0045xtra inputs are not permitted"}', True),
        (b'{"a":"\\u0045xtra inputs"}', False),
        (b'{"a":"\\ud800"}', False),
        (b"{}", False),
    ],
)
def test_a_body_that_holds_a_refusal(body, held):
    assert holds_refusal(body) is held


@given(st.text(max_size=300))
def test_any_words_can_be_read(words):
    assert isinstance(complaint_of(words, ["b"]).fields, tuple)


def test_what_is_learned_is_kept_by_model():
    lessons = Lessons()
    lessons.learn("m", [A], frozenset({"x", "y"}))
    lessons.learn("m", [B, A], frozenset())
    lessons.learn("m", [], frozenset({"x", "y"}))
    assert lessons.of("m") == ((A, B), (frozenset({"x", "y"}),))
    assert lessons.of("n") is NOTHING
    assert lessons.of("m").refused_of({"x", "z"}) == frozenset()
    assert lessons.of("m").refused_of({"x", "y", "z"}) == {"x", "y"}


def test_memory_is_bounded():
    lessons = Lessons()
    for number in range(1000):
        lessons.learn("m", [RefusedField((f"field{number}",))], frozenset({f"beta{number}"}))
    assert len(lessons.of("m").fields) == len(lessons.of("m").beta_sets) == 64
    for number in range(1000):
        lessons.learn(f"m{number}", [A], frozenset())
    assert lessons.of("m") is NOTHING, "forgotten, as the one that was longest not heard of"
    assert lessons.of("m999") is not NOTHING
    assert sum(lessons.of(f"m{number}") is not NOTHING for number in range(1000)) == 256


def test_names_that_clients_choose_are_bounded():
    lessons = Lessons()
    lessons.learn("m", [], frozenset({"x" * 3000}))
    lessons.learn("m", [], frozenset(f"beta-{number}" for number in range(5000)))
    lessons.learn("m", [RefusedField(("a",), frozenset({"x" * 3000}))], frozenset())
    assert lessons.of("m") == ((), ())
    words = ", ".join(f"f{number}: Extra inputs are not permitted" for number in range(100))
    assert len(complaint_of(words, []).fields) == 16


@pytest.mark.parametrize("name", ["a b", "\ud800", "a\nb", "é"])
def test_names_that_no_label_can_hold_are_not_read(name):
    assert complaint_of(f"#: extraneous key [{name}] is not permitted", []).fields == ()
