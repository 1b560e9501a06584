"""LiteLLM's configurations as ours: what comes over, what is told, and that no secret passes."""

import json
import re

import pytest
import yaml

from aibridge import config, litellm
from aibridge.errors import ConfigError

WHOLE = """
model_list:
  - model_name: claude-sonnet
    litellm_params:
      model: anthropic/claude-sonnet-4-5
      api_key: os.environ/ANTHROPIC_API_KEY
      rpm: 100
  - model_name: claude-haiku-4-5
    litellm_params:
      model: anthropic/claude-haiku-4-5
      api_key: os.environ/ANTHROPIC_API_KEY
  - model_name: claude-on-aws
    litellm_params:
      model: bedrock/converse/us.anthropic.claude-sonnet-4-5-20250929-v1:0
      aws_region_name: us-west-2
      aws_role_name: arn:aws:iam::123456789012:role/claude
      aws_session_name: gateway
  - model_name: titan
    litellm_params: {model: bedrock/amazon.titan-text-express-v1}
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: https://team-eu.openai.azure.com/
      api_key: os.environ/AZURE_API_KEY_EU
      api_version: "2025-01-01-preview"
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-ca
      api_base: https://team-ca.openai.azure.com/
      api_key: os.environ/AZURE_API_KEY_CA
  - model_name: gemini-pro
    litellm_params: {model: vertex_ai/gemini-1.5-pro, vertex_project: p}
  - model_name: vllm-models
    litellm_params:
      model: openai/facebook/opt-125m
      api_base: http://0.0.0.0:4000/v1
      api_key: none-of-your-business
  - model_name: "openai/*"
    litellm_params: {model: "openai/*", api_key: os.environ/OPENAI_API_KEY}
  - model_name: "*"
    litellm_params: {model: "*", api_key: os.environ/OPENAI_API_KEY}
litellm_settings:
  drop_params: true
  request_timeout: 600
  num_retries: 3
  success_callback: ["langfuse"]
router_settings:
  routing_strategy: least-busy
general_settings:
  master_key: sk-1234-in-the-clear
  database_url: postgresql://user:pass@host/db
"""


def read(translation, tmp_path):
    """Load a translation as `aibridge check` does, with a value for each variable that it names."""
    path = tmp_path / "aibridge.yaml"
    path.write_text(translation.text())
    names = set(re.findall(r"\$\{([A-Za-z_0-9]+)\}", translation.text()))
    return config.load(path, {name: f"secret-of-{name.lower()}" for name in names})


def test_a_whole_configuration_is_one_of_ours(tmp_path):
    made = litellm.translate(WHOLE)
    loaded = read(made, tmp_path)
    kinds = {name: provider.kind for name, provider in loaded.providers.items()}
    assert kinds == {
        "anthropic": "anthropic", "bedrock": "bedrock", "azure": "openai", "azure-2": "openai", "openai": "openai",
        "openai-2": "openai",
    }  # fmt: skip
    router = loaded.routers["all"]
    targets = {model: (target.provider, target.model) for model, target in router.models.items()}
    assert targets == {
        "claude-sonnet": ("anthropic", "claude-sonnet-4-5"),
        "claude-haiku-4-5": ("anthropic", None),
        "claude-on-aws": ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        "gpt-4o": ("azure", "gpt-4o-eu"),
        "vllm-models": ("openai", "facebook/opt-125m"),
    }
    assert router.prefixes["openai/"].strip_prefix
    assert router.prefixes["openai/"].provider == router.default.provider == "openai-2"


def test_providers_have_what_litellm_told_of_them(tmp_path):
    providers = read(litellm.translate(WHOLE), tmp_path).providers
    assert providers["azure"].base_url == "https://team-eu.openai.azure.com/openai/v1"
    assert providers["azure"].api_key_header == "api-key"
    assert providers["azure"].api_key.get_secret_value() == "secret-of-azure_api_key_eu"
    assert (providers["bedrock"].region, providers["bedrock"].session_name) == ("us-west-2", "gateway")
    assert providers["bedrock"].role_arn == "arn:aws:iam::123456789012:role/claude"
    assert {provider.retries.max for provider in providers.values()} == {3}
    assert read(litellm.translate(WHOLE), tmp_path).timeouts.response == 600


def test_what_is_not_taken_is_told():
    left = "\n".join(litellm.translate(WHOLE).left)
    for told in (
        "model_list[0] (claude-sonnet): rpm",
        "model_list[3] (titan): on Bedrock only Claude is served",
        "model_list[4] (gpt-4o): api_version",
        "model_list[5] (gpt-4o): a second deployment",
        "model_list[6] (gemini-pro): nothing here speaks to vertex_ai",
        "litellm_settings.drop_params",
        "litellm_settings.success_callback",
        "router_settings.routing_strategy",
        "general_settings.database_url",
    ):
        assert told in left, told


def test_no_secret_passes():
    made = litellm.translate(WHOLE)
    for secret in ("sk-1234-in-the-clear", "none-of-your-business", "user:pass"):
        assert secret not in made.text()
    assert made.config["auth"] == {"keys": [{"name": "master", "key": "${LITELLM_MASTER_KEY}"}]}
    assert any("general_settings.master_key: a secret stood there in clear" in line for line in made.left)


def test_a_base_url_with_a_password_becomes_a_variable():
    params = {"model": "anthropic/claude", "api_base": "http://ann:hidden@proxy.example"}
    made = litellm.translate(json.dumps({"model_list": [{"model_name": "a", "litellm_params": params}]}))
    assert "hidden" not in made.text()
    assert made.config["providers"]["anthropic"]["base_url"] == "${ANTHROPIC_API_BASE}"
    assert any("api_base: a secret stood there in clear" in line for line in made.left)


@pytest.mark.parametrize(
    "broken", ['api_key: "sk-hidden', "api_key: &sk-hidden !x", "api_key: sk-hidden: 1", "a: *sk-hidden"]
)
def test_what_is_not_yaml_is_not_quoted(broken):
    with pytest.raises(ConfigError, match="not YAML: line 1, column") as raised:
        litellm.translate(broken)
    assert "hidden" not in str(raised.value)


def test_a_name_stays_in_its_comment():
    params = {"model": "openai/gpt", "api_key": "k", 1: "x", "a\rb": "y"}
    made = litellm.translate(
        yaml.safe_dump({"model_list": [{"model_name": "a\nlog: {level: debug}", "litellm_params": params}]})
    )
    read = yaml.safe_load(made.text())
    assert read == made.config
    assert "log" not in read


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model_list: [", "not YAML"),
        ("[" * 3000, "nested too deep"),
        ("model_list: 2026-99-99", "looks like a date"),
        ("- a", "no model_list"),
        ("model_list: []", "no model_list"),
        ("model_list: [{model_name: a}]", "none of its models can be served"),
        ("model_list: [{model_name: a, litellm_params: {model: hosted_vllm/a}}]", "needs an api_base"),
        ("model_list: [3]", "none of its models can be served"),
    ],
)
def test_what_is_no_such_configuration_is_refused(text, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        litellm.translate(text)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("bedrock/anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("bedrock/invoke/anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("bedrock/us-east-1/anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"),
        (
            "bedrock/arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a",
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a",
        ),
    ],
)
def test_models_on_bedrock_lose_litellms_prefixes(model, name):
    made = litellm.translate(f"model_list: [{{model_name: one, litellm_params: {{model: '{model}'}}}}]")
    assert made.config["routers"]["all"]["models"] == {"one": {"provider": "bedrock", "model": name}}
