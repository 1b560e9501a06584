"""A router: which provider gets a model's requests, under which name, and what is listed."""

import json
from types import SimpleNamespace

import pytest

from aibridge.errors import RequestRejected
from aibridge.providers.router import Router, Target

OPENAI, LOCAL, CLAUDE = (SimpleNamespace(name=name) for name in ("openai", "local", "claude"))

ROUTER = Router(
    name="all",
    models={"gpt-x": Target(OPENAI), "fast": Target(LOCAL, "qwen3:8b"), "local/special": Target(CLAUDE)},
    prefixes={
        "local/": Target(LOCAL, strip_prefix=True),
        "local/claude-": Target(CLAUDE),
        "any-": Target(LOCAL, "one"),
    },
    default=Target(OPENAI),
)


@pytest.mark.parametrize(
    ("model", "choice"),
    [
        ("gpt-x", (OPENAI, "gpt-x")),
        ("fast", (LOCAL, "qwen3:8b")),
        ("local/special", (CLAUDE, "local/special")),
        ("local/llama", (LOCAL, "llama")),
        ("local/claude-3", (CLAUDE, "local/claude-3")),
        ("any-thing", (LOCAL, "one")),
        ("local/", (LOCAL, "")),
        ("fast2", (OPENAI, "fast2")),
        ("", (OPENAI, "")),
    ],
)
def test_the_whole_name_then_the_longest_prefix_then_the_default(model, choice):
    assert ROUTER.choose(model) == choice


def test_without_a_default_nobody_has_other_models():
    router = Router(name="all", models={"gpt-x": Target(OPENAI)})
    assert router.choose("gpt-y") is None
    assert router.choose("") is None


def test_the_names_are_listed_for_clients_of_both_apis():
    answer = ROUTER.answer("GET", "/v1/models")
    listed = json.loads(answer.body)
    assert (answer.status, listed["object"], listed["has_more"]) == (200, "list", False)
    assert [(one["id"], one["object"], one["type"], one["owned_by"]) for one in listed["data"]] == [
        ("gpt-x", "model", "model", "openai"),
        ("fast", "model", "model", "local"),
        ("local/special", "model", "model", "claude"),
    ]
    assert json.loads(ROUTER.answer("GET", "/v1/models/fast").body)["id"] == "fast"


def test_a_name_that_is_not_there():
    with pytest.raises(RequestRejected) as refused:
        ROUTER.answer("GET", "/v1/models/nothing")
    assert (refused.value.reason, refused.value.status) == ("unknown_model", 404)


def test_probes_are_answered_and_nothing_else():
    assert ROUTER.answer("HEAD", "/").status == 200
    assert ROUTER.answer("POST", "/v1/messages/count_tokens") is None
    assert ROUTER.answer("GET", "/v1/responses/r_1") is None
