"""A configuration of LiteLLM's proxy as one of ours. Pure: text in, text out.

What has a counterpart is translated; all else is told, line by line. No secret passes: a key that stands in the file
in clear becomes the name of a variable, and is told too. Source: LiteLLM's documentation of `model_list`,
`litellm_settings`, `router_settings` and `general_settings`, 2026.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from aibridge.errors import ConfigError

ROUTER = "all"
"""The router that serves all models under one base URL, as LiteLLM does."""

_ENVIRONMENT = "os.environ/"

_OPENAI_SERVERS = {
    "openai": None,
    "text-completion-openai": None,
    "openrouter": "https://openrouter.ai/api/v1",
    "groq": "https://api.groq.com/openai/v1",
    "mistral": "https://api.mistral.ai/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "together_ai": "https://api.together.xyz/v1",
    "fireworks_ai": "https://api.fireworks.ai/inference/v1",
    "xai": "https://api.x.ai/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "ollama": "http://127.0.0.1:11434/v1",
    "ollama_chat": "http://127.0.0.1:11434/v1",
    "hosted_vllm": "",
    "vllm": "",
    "custom_openai": "",
    "azure": "",
}
"""By the prefix of `model`: where a server that speaks OpenAI's API is; empty where only `api_base` tells it."""

_AWS_KEYS = {
    "aws_region_name": "region",
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "aws_profile_name": "profile",
    "aws_role_name": "role_arn",
    "aws_session_name": "session_name",
    "aws_external_id": "external_id",
    "aws_bedrock_runtime_endpoint": "base_url",
}
_AWS_SECRETS = frozenset({"access_key_id", "secret_access_key", "session_token", "external_id"})
_BEDROCK_ROUTES = frozenset({"converse", "invoke", "converse_like"})
_TRANSLATED = frozenset({"model", "api_key", "api_base", "base_url", "custom_llm_provider", *_AWS_KEYS})


class Translation(NamedTuple):
    """A configuration, and what of the other one is not in it: a line for each."""

    config: dict[str, Any]
    left: list[str]

    def text(self) -> str:
        """Return it as YAML, with what is left out as comments above."""
        told = "".join(f"# - {_line(line)}\n" for line in self.left)
        head = f"# Made of a configuration of LiteLLM. To look at:\n{told}" if told else ""
        return head + yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True, width=120)


def translate(text: str) -> Translation:
    """Return LiteLLM's configuration as ours.

    Raises:
        ConfigError: it is no YAML, or has no `model_list` of which anything can be served.
    """
    said = _read(text)
    models = said.get("model_list") if isinstance(said, dict) else None
    if not isinstance(models, list) or not models:
        raise ConfigError("there is no model_list: this is no configuration of LiteLLM's proxy")
    house = _House()
    for number, entry in enumerate(models):
        house.take(f"model_list[{number}]", entry if isinstance(entry, dict) else {})
    if not house.providers:
        raise ConfigError("none of its models can be served:\n" + "\n".join(house.left))
    config: dict[str, Any] = {"listen": {"host": "127.0.0.1"}, "providers": house.providers, "routers": house.routers()}
    _take_settings(said, config, house)
    return Translation(config, house.left)


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:  # its own words quote the line, where a secret may stand
        mark = getattr(error, "problem_mark", None)
        where = f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"this is not YAML{where}") from None
    except RecursionError:
        raise ConfigError("this is nested too deep") from None
    except (ValueError, LookupError, AttributeError):  # yaml's own, of a value that is not what it says
        raise ConfigError("a value looks like a date or a number, and is none: put it in quotes") from None


@dataclass
class _House:
    """What is being built."""

    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    prefixes: dict[str, Any] = field(default_factory=dict)
    default: str | None = None
    left: list[str] = field(default_factory=list)

    def take(self, where: str, entry: Mapping[str, Any]) -> None:
        """Take one deployment."""
        params = entry.get("litellm_params")
        if not isinstance(params, dict) or not isinstance(params.get("model"), str):
            self.left.append(f"{where}: it has no litellm_params.model")
            return
        name = str(entry.get("model_name") or params["model"])
        server, _, model = params["model"].partition("/")
        if not model:
            server, model = str(params.get("custom_llm_provider") or "openai"), params["model"]
        settings = self._settings(f"{where} ({name})", server, params)
        if settings is None:
            return
        for key in sorted(map(str, set(params) - _TRANSLATED)):
            self.left.append(f"{where} ({name}): {key} has no counterpart")
        provider = self._provider(server, settings)
        self._lead(where, name, provider, _model_of(server, model))

    def routers(self) -> dict[str, Any]:
        """Return the one router."""
        parts = {"models": self.models, "prefixes": self.prefixes, "default": self.default}
        return {ROUTER: {name: part for name, part in parts.items() if part}}

    def secret(self, where: str, value: object, fallback: str) -> str:
        """Return a reference to a variable; a secret in clear is told, and becomes one."""
        text = str(value)
        if text.startswith(_ENVIRONMENT):
            return _variable(text.removeprefix(_ENVIRONMENT))
        self.left.append(f"{where}: a secret stood there in clear; put it into the environment as {fallback}")
        return _variable(fallback)

    def _settings(self, where: str, server: str, params: Mapping[str, Any]) -> dict[str, Any] | None:
        if server == "anthropic":
            return self._with_key(where, {"kind": "anthropic"}, params, "ANTHROPIC_API_KEY", _plain_base)
        if server == "bedrock":
            return self._bedrock(where, params)
        if server not in _OPENAI_SERVERS:
            self.left.append(f"{where}: nothing here speaks to {server}")
            return None
        base_url = _OPENAI_SERVERS[server]
        if base_url == "" and not (params.get("api_base") or params.get("base_url")):
            self.left.append(f"{where}: {server} needs an api_base")
            return None
        settings: dict[str, Any] = {"kind": "openai", **({"base_url": base_url} if base_url else {})}
        if server == "azure":
            settings["api_key_header"] = "api-key"
        base = _azure_base if server == "azure" else _plain_base
        return self._with_key(where, settings, params, f"{_upper(server)}_API_KEY", base)

    def _with_key(
        self, where: str, settings: dict[str, Any], params: Mapping[str, Any], variable: str, base: Callable[[str], str]
    ) -> dict[str, Any]:
        if told := params.get("api_base") or params.get("base_url"):
            settings["base_url"] = base(_reference(told))
            if "@" in settings["base_url"]:
                settings["base_url"] = self.secret(f"{where}: api_base", told, variable.replace("_KEY", "_BASE"))
        if params.get("api_key"):
            settings["api_key"] = self.secret(f"{where}: api_key", params["api_key"], variable)
            settings["byok"] = False
        return settings

    def _bedrock(self, where: str, params: Mapping[str, Any]) -> dict[str, Any] | None:
        if "anthropic" not in params["model"] and "arn:aws" not in params["model"]:
            self.left.append(f"{where}: on Bedrock only Claude is served")
            return None
        settings: dict[str, Any] = {"kind": "bedrock"}
        for theirs, ours in _AWS_KEYS.items():
            if theirs in params and ours in _AWS_SECRETS:
                settings[ours] = self.secret(f"{where}: {theirs}", params[theirs], theirs.upper())
            elif theirs in params:
                settings[ours] = _reference(params[theirs])
        if params.get("api_key"):
            settings["bearer_token"] = self.secret(f"{where}: api_key", params["api_key"], "AWS_BEARER_TOKEN_BEDROCK")
        return settings

    def _provider(self, server: str, settings: dict[str, Any]) -> str:
        """Return the name of the provider with these settings, which is new or has served another model."""
        for name, known in self.providers.items():
            if known == settings:
                return name
        name = first = re.sub("[^a-z0-9]+", "-", server.lower()).strip("-") or "provider"
        number = 1
        while name in self.providers or name == ROUTER:
            number += 1
            name = f"{first}-{number}"
        self.providers[name] = settings
        return name

    def _lead(self, where: str, name: str, provider: str, model: str) -> None:
        target: Any = provider if model in {name, "*"} else {"provider": provider, "model": model}
        if name == "*":
            self.default = self.default or provider
        elif name.endswith("*"):
            prefix = name[:-1]
            strip = {"provider": provider, "strip_prefix": True}
            self.prefixes.setdefault(prefix, strip if model == "*" and prefix.endswith("/") else provider)
        elif name in self.models:
            self.left.append(f"{where} ({name}): a second deployment; the first serves")
        else:
            self.models[name] = target


def _model_of(server: str, model: str) -> str:
    """Return a model's name as its server knows it."""
    first, _, rest = model.partition("/")
    if server == "bedrock" and rest and (first in _BEDROCK_ROUTES or re.fullmatch("[a-z]{2}(-[a-z]+)+-[0-9]", first)):
        return _model_of(server, rest)
    return model


def _take_settings(said: Mapping[str, Any], config: dict[str, Any], house: _House) -> None:
    general = _section(said, "general_settings")
    master = general.pop("master_key", None)
    if master is not None:
        key = house.secret("general_settings.master_key", master, "LITELLM_MASTER_KEY")
        config["auth"] = {"keys": [{"name": "master", "key": key}]}
    litellm, router = _section(said, "litellm_settings"), _section(said, "router_settings")
    timeout = litellm.pop("request_timeout", None) or router.pop("timeout", None)
    if isinstance(timeout, int | float) and timeout > 0:
        config["timeouts"] = {"response": timeout}
    retries = litellm.pop("num_retries", None) or router.pop("num_retries", None)
    if isinstance(retries, int) and retries > 0:
        for settings in house.providers.values():
            settings["retries"] = {"max": min(retries, _MOST_RETRIES)}
    for section, rest in (("general_settings", general), ("litellm_settings", litellm), ("router_settings", router)):
        house.left += [f"{section}.{key}: {_ELSEWHERE.get(key, 'has no counterpart')}" for key in sorted(rest)]
    known = {"model_list", "general_settings", "litellm_settings", "router_settings"}
    house.left += [f"{key}: {_ELSEWHERE.get(key, 'has no counterpart')}" for key in sorted(map(str, set(said) - known))]


_MOST_RETRIES = 10
_ELSEWHERE = {
    "database_url": "records are one SQLite file (`records.path`); its keys are made anew with `aibridge keys create`",
    "fallbacks": "fallbacks stand at a provider here: `providers.*.fallbacks`",
    "success_callback": "metrics, spans and records are built in",
    "failure_callback": "metrics, spans and records are built in",
    "callbacks": "metrics, spans and records are built in",
    "drop_params": "what a model on Bedrock does not take is left out by itself",
    "routing_strategy": "a model has one provider here",
    "cache": "answers are not cached",
    "mcp_servers": "tool servers are `mcp.servers`",
    "environment_variables": "variables are the environment's affair",
}


def _section(said: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = said.get(name)
    return {str(key): value for key, value in section.items()} if isinstance(section, dict) else {}


def _plain_base(url: str) -> str:
    return url.rstrip("/")


def _azure_base(url: str) -> str:
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/openai/v1"


def _line(text: str) -> str:
    """Return text that stays on its line: names may hold anything."""
    return "".join(character if character.isprintable() else " " for character in text)


def _reference(value: object) -> str:
    text = str(value)
    return _variable(text.removeprefix(_ENVIRONMENT)) if text.startswith(_ENVIRONMENT) else text


def _variable(name: str) -> str:
    return f"${{{name}}}"


def _upper(server: str) -> str:
    return re.sub("[^A-Z0-9]+", "_", server.upper()).strip("_")
