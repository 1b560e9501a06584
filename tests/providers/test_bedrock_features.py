"""What models take: the rows of the table, the configuration above it, and that a body keeps all other bytes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.body import read_body, splice
from aibridge.providers.bedrock_features import (
    CONTEXT_MANAGEMENT,
    EFFORT,
    INTERLEAVED,
    TOOL_SEARCH,
    FeatureTable,
    Override,
    Thinking,
    fit,
    less_of,
    version_of,
)
from aibridge.providers.bedrock_lessons import NOTHING, Lesson, RefusedField

SONNET_4_5 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
OPUS_4_5 = "eu.anthropic.claude-opus-4-5-20251101-v1:0"
OPUS_4_1 = "us.anthropic.claude-opus-4-1-20250805-v1:0"
OPUS_4_6 = "us.anthropic.claude-opus-4-6-v1"
OPUS_4_7 = "global.anthropic.claude-opus-4-7"
SONNET_5_5 = "us.anthropic.claude-sonnet-5-5"
TEAM = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"
TABLE = FeatureTable()


def fitted(model, body, *betas, name="", lesson=NOTHING, table=TABLE):
    """Return the body that is sent, its betas, and what was stripped."""
    scanned = read_body(body if isinstance(body, bytes) else json.dumps(body).encode())
    found = table.fit(scanned, list(betas), (model, name), lesson)
    assert found == fit(scanned, list(betas), table.of(model, name), lesson), "with or without the short way"
    return splice(scanned, drop=found.drop, replace=found.replace), found.betas, found.stripped


@pytest.mark.parametrize(
    ("names", "version"),
    [
        ((SONNET_4_5,), ("sonnet", (4, 5))),
        ((OPUS_4_6,), ("opus", (4, 6))),
        (("anthropic.claude-opus-4-20250514-v1:0",), ("opus", (4, 0))),
        (("us.anthropic.claude-3-7-sonnet-20250219-v1:0",), ("sonnet", (3, 7))),
        (("anthropic.claude-3-haiku-20240307-v1:0",), ("haiku", (3, 0))),
        (("claude-fable-5-1",), ("fable", (5, 1))),
        ((TEAM, "claude-sonnet-5"), ("sonnet", (5, 0))),
        ((TEAM, "team-model"), None),
        (("anthropic.claude-v2:1",), None),
    ],
)
def test_versions(names, version):
    assert version_of(*names) == version


ALL_FIELDS = {
    "max_tokens": 32000,
    "metadata": {"user_id": "u"},
    "service_tier": "auto",
    "container": {"type": "ephemeral"},
    "inference_geo": {"allow": ["us"]},
    "tags": {"team": "x"},
    "output_config": {"effort": "medium", "format": {"type": "json_schema"}},
    "context_management": {"edits": []},
    "something_new": 1,
}


@pytest.mark.parametrize(
    ("model", "betas", "kept", "sent"),
    [
        (SONNET_4_5, [], set(), []),
        (SONNET_4_5, [CONTEXT_MANAGEMENT, EFFORT], {"context_management"}, [CONTEXT_MANAGEMENT]),
        (OPUS_4_5, [CONTEXT_MANAGEMENT, EFFORT], {"output_config"}, [EFFORT]),
        (OPUS_4_1, [CONTEXT_MANAGEMENT, EFFORT], set(), []),
        (OPUS_4_6, [], {"output_config"}, []),
        (OPUS_4_7, [CONTEXT_MANAGEMENT], {"output_config", "context_management"}, [CONTEXT_MANAGEMENT]),
        (SONNET_5_5, [CONTEXT_MANAGEMENT], {"output_config", "context_management"}, [CONTEXT_MANAGEMENT]),
        (TEAM, [], {"output_config"}, []),
    ],
)
def test_fields(model, betas, kept, sent):
    body, betas_sent, stripped = fitted(model, ALL_FIELDS, *betas)
    assert set(json.loads(body)) == {"max_tokens", "something_new"} | kept
    assert betas_sent == sent
    gone = set(ALL_FIELDS) - set(json.loads(body))
    assert {name for name in stripped if not name.startswith("anthropic_beta.") and "." not in name} == gone


@pytest.mark.parametrize(("model", "keeps"), [(OPUS_4_6, False), (OPUS_4_7, False), (SONNET_5_5, False), (TEAM, True)])
def test_a_format_of_the_output_is_left_out_and_the_effort_stays(model, keeps):
    body, _, stripped = fitted(model, b'{"output_config": {"effort" : "max", "format":{"a":[1]}},"x":1.50}')
    if keeps:
        assert body == b'{"output_config": {"effort" : "max", "format":{"a":[1]}},"x":1.50}'
    else:
        assert body == b'{"output_config": {"effort" : "max"},"x":1.50}'
        assert stripped == ("output_config.format",)


@pytest.mark.parametrize(
    ("model", "asked", "sent"),
    [
        (SONNET_5_5, ["request-tags-2026-08-21", "a-new-one-2027-01-01"], ["a-new-one-2027-01-01"]),
        (SONNET_4_5, ["advanced-tool-use-2025-11-20"], [TOOL_SEARCH]),
        (SONNET_4_5, ["advanced-tool-use-2025-11-20", TOOL_SEARCH, "x", "x"], [TOOL_SEARCH, "x"]),
        (SONNET_5_5, ["fast-mode-2026-02-01", "skills-2025-10-02", INTERLEAVED], [INTERLEAVED]),
        (TEAM, [{"odd": 1}, 5, True, 1, "x"], [{"odd": 1}, 5, True, 1, "x"]),
    ],
)
def test_betas(model, asked, sent):
    assert json.dumps(fitted(model, {}, *asked)[1]) == json.dumps(sent)


@pytest.mark.parametrize(
    ("field", "beta"), [("speed", "fast-mode-2026-02-01"), ("mcp_servers", "mcp-client-2025-11-20")]
)
def test_half_of_a_pair_does_not_go(field, beta):
    body, betas, stripped = fitted(SONNET_5_5, {field: 1, "x": 1}, beta)
    assert (json.loads(body), betas) == ({"x": 1}, [])
    assert stripped == (f"anthropic_beta.{beta}", field)


@pytest.mark.parametrize(
    ("max_tokens", "effort", "thinking"),
    [
        (32000, None, {"type": "enabled", "budget_tokens": 25600}),
        (32000, "low", {"type": "enabled", "budget_tokens": 6400}),
        (32000, "medium", {"type": "enabled", "budget_tokens": 16000}),
        (32000, "high", {"type": "enabled", "budget_tokens": 25600}),
        (32000, "max", {"type": "enabled", "budget_tokens": 30400}),
        (1280, None, {"type": "enabled", "budget_tokens": 1024}),
        (1279, None, {"type": "disabled"}),
        (0, None, {"type": "disabled"}),
        (-5, None, {"type": "disabled"}),
        (None, None, {"type": "disabled"}),
        ("many", None, {"type": "disabled"}),
        (1e400, None, {"type": "disabled"}),
    ],
)
@pytest.mark.parametrize("model", [SONNET_4_5, OPUS_4_5, OPUS_4_1])
def test_adaptive_thinking_becomes_a_budget(model, max_tokens, effort, thinking):
    raw = {"max_tokens": max_tokens, "thinking": {"type": "adaptive", "display": "omitted"}}
    if effort:
        raw["output_config"] = {"effort": effort}
    text = json.dumps({key: value for key, value in raw.items() if value is not None}).replace("Infinity", "1e400")
    body, _, _ = fitted(model, text.encode(), EFFORT)
    assert json.loads(body)["thinking"] == thinking


@pytest.mark.parametrize(
    "model", [OPUS_4_7, "us.anthropic.claude-opus-4-8", "eu.anthropic.claude-sonnet-5", SONNET_5_5]
)
def test_a_budget_becomes_adaptive_thinking(model):
    raw = b'{"a":1.0,"thinking": {"type":"enabled", "budget_tokens": 5, "display" : "omitted"},"z":1}'
    assert fitted(model, raw)[0] == b'{"a":1.0,"thinking": {"display" : "omitted","type":"adaptive"},"z":1}'


@pytest.mark.parametrize(
    ("model", "thinking"),
    [
        (OPUS_4_6, {"type": "adaptive"}),
        (OPUS_4_6, {"type": "enabled", "budget_tokens": 2000}),
        (SONNET_4_5, {"type": "enabled", "budget_tokens": 2000}),
        (SONNET_4_5, {"type": "disabled"}),
        (SONNET_5_5, {"type": "adaptive", "display": "omitted"}),
        (SONNET_5_5, {"type": "disabled"}),
        (SONNET_5_5, {"type": "between_tools"}),
        (TEAM, {"type": "adaptive"}),
        (TEAM, {"type": "enabled", "budget_tokens": 2000}),
        (SONNET_5_5, []),
        (SONNET_5_5, {}),
        (SONNET_4_5, None),
    ],
)
def test_other_thinking_stays_byte_for_byte(model, thinking):
    raw = json.dumps({"max_tokens": 9000, "thinking": thinking}).encode()
    assert fitted(model, raw)[0] == raw.replace(b", ", b",", 1)


def test_a_profile_of_an_application_is_known_by_the_name_that_the_client_used():
    raw = {"max_tokens": 10_000, "thinking": {"type": "adaptive"}}
    assert json.loads(fitted(TEAM, raw, name="claude-sonnet-4-5")[0])["thinking"]["type"] == "enabled"


OVERRIDES = FeatureTable([
    Override("*sonnet-4-5*", None, {"mine-2027-01-01": False, EFFORT: True}, {"metadata": True, "something_new": 0}),
    Override("arn:*", Thinking.BUDGET, {}, {}),
    Override("*", None, {"skills-2025-10-02": True}, {"thinking.display": False}),
])  # fmt: skip


def test_the_configuration_stands_above_the_table():
    body, betas, _ = fitted(
        SONNET_4_5,
        {"metadata": 1, "something_new": 1, "output_config": {}, "thinking": {"type": "x", "display": "y"}},
        "mine-2027-01-01",
        EFFORT,
        "skills-2025-10-02",
        table=OVERRIDES,
    )
    assert json.loads(body) == {"metadata": 1, "output_config": {}, "thinking": {"type": "x"}}
    assert betas == [EFFORT, "skills-2025-10-02"]
    body, betas, _ = fitted(
        TEAM, {"max_tokens": 9000, "thinking": {"type": "adaptive"}}, "mine-2027-01-01", table=OVERRIDES
    )
    assert json.loads(body)["thinking"]["type"] == "enabled"
    assert betas == ["mine-2027-01-01"]


def test_what_was_learned_is_left_out():
    asked = frozenset({"a", "b", "c", "d"})
    fields = (RefusedField(("new",), asked), RefusedField(("tools", "*", "custom", "eager"), asked))
    lesson = Lesson(fields, (frozenset({"a"}), frozenset({"b", "c"})))
    raw = b'{"new":1,"tools":[{"name":"x","eager":true} , {"name" : "y"}],"z":2}'
    body, betas, stripped = fitted(SONNET_5_5, raw, "a", "b", "d", lesson=lesson)
    assert body == b'{"tools":[{"name":"x"}, {"name" : "y"}],"z":2}'
    assert betas == ["b", "d"], "c was not asked for: nothing is known of b alone"
    assert stripped == ("anthropic_beta.a", "new", "tools.*.custom.eager")
    assert fitted(SONNET_5_5, b"{}", "c", "d", "b", lesson=lesson)[1] == ["d"]


TEXTS = st.text(max_size=8)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3))


@settings(deadline=None, max_examples=80)
@given(
    fields=st.dictionaries(TEXTS.map("~{}".format), VALUES, max_size=6),
    model=st.sampled_from([SONNET_4_5, OPUS_4_7, TEAM]),
)
def test_what_no_table_names_stays_byte_for_byte(fields, model):
    raw = json.dumps(fields, separators=(",", ":")).encode()
    assert fitted(model, raw) == (raw, [], ())


# what AWS refused


def less(model, body, words, name=""):
    found = less_of(read_body(json.dumps(body).encode()), words, TABLE.of(model, name))
    return None if found is None else (json.loads(found.body), found.fields, found.betas)


def test_a_named_field_goes():
    body, fields, betas = less(SONNET_5_5, {"a": 1, "b": 2}, "a: Extra inputs are not permitted")
    assert (body, fields, betas) == ({"b": 2}, (("a",),), frozenset())


def test_a_field_that_does_not_stand_there_is_no_reason_to_ask_again():
    assert less(SONNET_5_5, {"b": 2}, "a: Extra inputs are not permitted") is None


def test_what_one_kind_does_not_take_another_keeps():
    web, own = {"type": "web_search_20250305", "input_schema": {}}, {"name": "x", "input_schema": {}}
    words = "tools.0.web_search_20250305.input_schema: Extra inputs are not permitted"
    body, fields, _ = less(SONNET_5_5, {"tools": [web, own]}, words)
    assert body == {"tools": [{"type": "web_search_20250305"}, own]}
    assert fitted(SONNET_5_5, {"tools": [own]}, lesson=Lesson(tuple(map(RefusedField, fields)))) == (
        json.dumps({"tools": [own]}).encode(),
        [],
        (),
    )


def test_a_field_that_wants_a_beta_is_left_to_who_asks_for_it():
    """Without its beta a field is an extra one; who sends both shall not lose it to who forgot the one."""
    lesson = Lesson((RefusedField(("new",), frozenset({"x-1"})),))
    for betas, left in (([], {}), (["x-1"], {}), (["new-2026"], {"new": 1}), (["x-1", "new-2026"], {"new": 1})):
        body, sent, _ = fitted(SONNET_5_5, {"new": 1}, *betas, lesson=lesson)
        assert (json.loads(body), sent) == (left, betas)


def test_words_that_the_client_wrote_itself_are_no_lesson():
    """A validator quotes names: whose words `thinking: …` are, nobody can tell, and every client would lose it."""
    quoted = "x; thinking: Extra inputs are not permitted; y"
    body = {"thinking": {"type": "adaptive"}, quoted: 1}
    assert less(SONNET_5_5, body, f"{quoted}: Extra inputs are not permitted") is None


def test_a_path_begins_at_the_body():
    words = "custom.messages: Extra inputs are not permitted, x.max_tokens: Extra inputs are not permitted"
    assert less(SONNET_5_5, {"messages": [], "max_tokens": 1}, words) is None


def test_a_model_that_takes_no_betas_is_asked_for_none():
    asked = {"anthropic_beta": ["x-1"], "context_management": {}, "b": 2}
    body, fields, _ = less(SONNET_5_5, asked, "anthropic_beta: Extra inputs are not permitted")
    assert (body, fields) == ({"context_management": {}, "b": 2}, (("anthropic_beta",),))
    stripped = ("anthropic_beta.x-2",)
    assert fitted(SONNET_5_5, {"b": 2}, "x-2", lesson=Lesson(tuple(map(RefusedField, fields)))) == (
        b'{"b": 2}',
        [],
        stripped,
    )


def test_of_betas_that_are_not_named_those_go_that_are_not_known_to_be_good():
    asked = {"anthropic_beta": [INTERLEAVED, "x-1", "y-2"], "b": 2}
    assert less(SONNET_5_5, asked, "invalid beta flag") == (
        {"anthropic_beta": [INTERLEAVED], "b": 2},
        (),
        frozenset({"x-1", "y-2"}),
    )


def test_where_all_are_known_to_be_good_all_go():
    body, _, betas = less(SONNET_5_5, {"anthropic_beta": [INTERLEAVED], "b": 2}, "invalid beta flag")
    assert (body, betas) == ({"b": 2}, frozenset({INTERLEAVED}))


def test_a_named_beta_goes_alone_and_takes_its_field_along():
    asked = {"anthropic_beta": [CONTEXT_MANAGEMENT, "x-1"], "context_management": {}, "b": 2}
    words = f"Unexpected value(s) `{CONTEXT_MANAGEMENT}` for the `anthropic-beta` header."
    assert less(SONNET_5_5, asked, words) == (
        {"anthropic_beta": ["x-1"], "b": 2},
        (),
        frozenset({CONTEXT_MANAGEMENT}),
    )


@pytest.mark.parametrize("words", ["", "Input is too long.", "messages: at least one message is required", "model: x"])
def test_other_refusals_stand(words):
    assert less(SONNET_5_5, {"anthropic_beta": ["x-1"], "messages": []}, words) is None


def test_betas_of_odd_shape_are_left_to_aws():
    assert less(SONNET_5_5, {"anthropic_beta": [{"odd": 1}, 5]}, "invalid beta flag") is None


NAMES = st.sampled_from(
    ["a", "b.c", "tools.0.x", "thinking.adaptive.display", "messages", "anthropic_beta", "system.0.z"]
)
REFUSALS = st.lists(
    NAMES.map(lambda name: f"{name}: Extra inputs are not permitted")
    | NAMES.map(lambda name: f"#: extraneous key [{name}] is not permitted")
    | st.just("invalid beta flag")
    | st.text(max_size=20),
    max_size=4,
).map("; ".join)
BODIES = st.dictionaries(
    st.sampled_from(["a", "b", "tools", "thinking", "messages", "system", "anthropic_beta", "output_config", "x"]),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["x-1", INTERLEAVED]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "c", "display"]), inner),
        max_leaves=8,
    ),
)


@settings(deadline=None, max_examples=300)
@given(body=BODIES, words=REFUSALS, model=st.sampled_from([SONNET_4_5, OPUS_4_7, SONNET_5_5, TEAM]))
def test_any_body_and_any_words(body, words, model):
    """Whatever AWS says of whatever was sent: what goes out again is JSON, smaller, and asks the same."""
    raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    found = less_of(read_body(raw), words, TABLE.of(model, ""))
    fit(read_body(raw), [], TABLE.of(model, ""), NOTHING)
    if found is not None:
        left = json.loads(found.body)
        assert set(left) <= set(body)
        assert left.get("messages") == body.get("messages")
        assert left != body
