"""Names of models to Bedrock's ids: the table, the regions, the rule, and what the configuration says otherwise."""

import pytest

from aibridge.providers.bedrock_models import MODELS, ModelNames, Routing

TEAM = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/team-a"


@pytest.mark.parametrize(
    ("region", "name", "bedrock_id"),
    [
        ("us-east-1", "claude-opus-5-5", "us.anthropic.claude-opus-5-5"),
        ("us-west-2", "claude-sonnet-5-5", "us.anthropic.claude-sonnet-5-5"),
        ("ca-central-1", "claude-haiku-5-5", "us.anthropic.claude-haiku-5-5"),
        ("eu-central-1", "claude-sonnet-5", "eu.anthropic.claude-sonnet-5"),
        ("ap-northeast-1", "claude-opus-5-5", "jp.anthropic.claude-opus-5-5"),
        ("ap-northeast-3", "claude-sonnet-4-6", "jp.anthropic.claude-sonnet-4-6"),
        ("ap-southeast-2", "claude-opus-4-8", "au.anthropic.claude-opus-4-8"),
        ("ap-south-1", "claude-sonnet-5", "in.anthropic.claude-sonnet-5"),
        ("ap-southeast-1", "claude-sonnet-4", "apac.anthropic.claude-sonnet-4-20250514-v1:0"),
        ("ap-northeast-1", "claude-sonnet-4", "apac.anthropic.claude-sonnet-4-20250514-v1:0"),
        # no profile of the geography: the global one
        ("ap-northeast-1", "claude-sonnet-5-5", "global.anthropic.claude-sonnet-5-5"),
        ("eu-west-1", "claude-fable-5-1", "global.anthropic.claude-fable-5-1"),
        ("sa-east-1", "claude-opus-5-5", "global.anthropic.claude-opus-5-5"),
        ("me-central-1", "claude-haiku-4-5", "global.anthropic.claude-haiku-4-5-20251001-v1:0"),
        # neither: the bare id, so that AWS says what is wrong
        ("eu-west-1", "claude-opus-4-1", "anthropic.claude-opus-4-1-20250805-v1:0"),
        ("us-gov-west-1", "claude-sonnet-4-5", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("cn-north-1", "claude-sonnet-5", "anthropic.claude-sonnet-5"),
        # the three ways that ids were spelt, and aliases
        ("us-east-1", "claude-opus-4-6", "us.anthropic.claude-opus-4-6-v1"),
        ("us-east-1", "claude-sonnet-4-5", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("us-east-1", "claude-sonnet-4-5-20250929", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("us-east-1", "claude-sonnet-4-0", "us.anthropic.claude-sonnet-4-20250514-v1:0"),
        ("us-east-1", "claude-sonnet-4-20250514", "us.anthropic.claude-sonnet-4-20250514-v1:0"),
        # newer than the table: by the rule
        ("us-east-1", "claude-opus-6", "us.anthropic.claude-opus-6"),
        ("eu-west-1", "claude-sonnet-6-5", "eu.anthropic.claude-sonnet-6-5"),
        ("ap-northeast-1", "claude-opus-6", "global.anthropic.claude-opus-6"),
        # as they are
        ("us-east-1", "eu.anthropic.claude-opus-5", "eu.anthropic.claude-opus-5"),
        ("us-east-1", "anthropic.claude-v2:1", "anthropic.claude-v2:1"),
        ("us-east-1", TEAM, TEAM),
        ("us-east-1", "claude-other", "claude-other"),
        ("us-east-1", "claude-sim+cut@3", "claude-sim+cut@3"),
        ("us-east-1", "amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        ("us-east-1", "", ""),
    ],
)
def test_what_a_name_means(region, name, bedrock_id):
    assert ModelNames(region=region).resolve(name) == bedrock_id


@pytest.mark.parametrize(
    ("routing", "region", "name", "bedrock_id"),
    [
        (Routing.GLOBAL, "eu-west-1", "claude-opus-5-5", "global.anthropic.claude-opus-5-5"),
        (Routing.GLOBAL, "us-east-1", "claude-opus-4-1", "anthropic.claude-opus-4-1-20250805-v1:0"),
        (Routing.GLOBAL, "us-east-1", "claude-opus-6", "global.anthropic.claude-opus-6"),
        (Routing.GLOBAL, "us-gov-east-1", "claude-opus-5", "anthropic.claude-opus-5"),
        (Routing.GEO, "eu-west-1", "claude-opus-5-5", "eu.anthropic.claude-opus-5-5"),
        (Routing.GEO, "eu-west-1", "claude-fable-5-1", "anthropic.claude-fable-5-1"),
        (Routing.GEO, "sa-east-1", "claude-opus-5-5", "anthropic.claude-opus-5-5"),
        (Routing.GEO, "ap-northeast-1", "claude-opus-6", "anthropic.claude-opus-6"),
        (Routing.GEO, "eu-west-1", "us.anthropic.claude-opus-5-5", "us.anthropic.claude-opus-5-5"),
    ],
)
def test_which_profile_is_wanted(routing, region, name, bedrock_id):
    assert ModelNames(region=region, routing=routing).resolve(name) == bedrock_id


NAMES = ModelNames(
    region="us-east-1",
    model_map={
        "claude-sonnet-5": TEAM,
        "fast": "claude-haiku-5-5",
        "anthropic.old": "anthropic.new",
        "own": "imported-model",
    },
    default_model="claude-sonnet-4-6",
)


@pytest.mark.parametrize(
    ("name", "bedrock_id"),
    [
        ("claude-sonnet-5", TEAM),
        ("fast", "us.anthropic.claude-haiku-5-5"),
        ("anthropic.old", "anthropic.new"),
        ("own", "imported-model"),
        ("claude-opus-5", "us.anthropic.claude-opus-5"),
        ("claude-other", "us.anthropic.claude-sonnet-4-6"),
        ("claude-opus-6", "us.anthropic.claude-sonnet-4-6"),
        ("eu.anthropic.x", "eu.anthropic.x"),
    ],
)
def test_the_configuration_wins(name, bedrock_id):
    assert NAMES.resolve(name) == bedrock_id


def test_a_default_that_is_an_id_stays_one():
    assert ModelNames(region="us-east-1", default_model=TEAM).resolve("gpt-9") == TEAM


def test_the_list_as_anthropic_tells_it():
    listing = NAMES.listing()
    assert [entry["id"] for entry in listing[:4]] == ["claude-sonnet-5", "fast", "anthropic.old", "own"]
    assert {entry["id"] for entry in listing} == {model.name for model in MODELS} | set(NAMES.model_map)
    assert len({entry["id"] for entry in listing}) == len(listing)
    assert listing[4] == {
        "type": "model",
        "id": "claude-fable-5-1",
        "display_name": "Claude Fable 5.1",
        "created_at": "1970-01-01T00:00:00Z",
    }


def test_one_entry():
    assert NAMES.entry("claude-sonnet-4-5-20250929")["id"] == "claude-sonnet-4-5"
    assert NAMES.entry("claude-sonnet-4-5")["created_at"] == "2025-09-29T00:00:00Z"
    assert NAMES.entry("fast")["display_name"] == "fast"
    assert NAMES.entry("claude-other") is None


def test_every_name_is_one_models():
    names = [name for model in MODELS for name in (model.name, *model.aliases)]
    assert len(names) == len(set(names))
    assert all(model.profiles <= {"us", "eu", "jp", "au", "in", "apac", "global"} for model in MODELS)
