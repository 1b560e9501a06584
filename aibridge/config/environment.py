"""A configuration without a file: what the environment says."""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aibridge.config.configuration import Config, configured
from aibridge.config.keys import HASHED
from aibridge.config.mistakes import validate

SIMULATOR_API_KEY = "sk-ant-simulator"
SIMULATOR_OPENAI_KEY = "sk-simulator"
SIMULATOR_REGION = "us-east-1"
SIMULATOR_ACCESS_KEY_ID = "AKIASIMULATOR0000000"
SIMULATOR_SECRET_ACCESS_KEY = "simulator/secret/key/that/guards/nothing"  # noqa: S105 - published on purpose

AWS_SIGNS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Variables of which any one says that the AWS credential chain will find something."""

_KEY_OF = {
    "AIBRIDGE_HOST": "listen.host",
    "AIBRIDGE_PORT": "listen.port",
    "AIBRIDGE_ADMIN_HOST": "admin.host",
    "AIBRIDGE_ADMIN_PORT": "admin.port",
    "AIBRIDGE_ADMIN_KEYS": "admin.keys",
    "AIBRIDGE_RECORDS": "records.path",
    "AIBRIDGE_AUTH_MODE": "auth.mode",
    "AIBRIDGE_GATEWAY_KEYS": "auth.keys",
    "AIBRIDGE_KEY_STORE": "auth.key_store.path",
    "AIBRIDGE_LOG_LEVEL": "log.level",
    "AIBRIDGE_WORKERS": "workers",
    "AIBRIDGE_DRAIN_DEADLINE": "drain_deadline",
    "AIBRIDGE_CA_FILE": "tls.ca_file",
    "AIBRIDGE_ANTHROPIC_BASE_URL": "providers.anthropic.base_url",
    "AIBRIDGE_BEDROCK_BASE_URL": "providers.bedrock.base_url",
    "AIBRIDGE_OPENAI_BASE_URL": "providers.openai.base_url",
}
_VARIABLE_OF = {key: variable for variable, key in _KEY_OF.items()} | {
    "providers.anthropic.api_key": "ANTHROPIC_API_KEY",
    "providers.openai.api_key": "OPENAI_API_KEY",
    "providers.bedrock.bearer_token": "AWS_BEARER_TOKEN_BEDROCK",
    "providers.bedrock.region": "AWS_REGION",
}
_OF_PROVIDERS = frozenset(name for name, key in _KEY_OF.items() if key.startswith("providers."))


def from_environment(environ: Mapping[str, str] | None = None) -> Config:
    """Build a configuration without a file. The docstring of `aibridge.config` lists the variables.

    With no credential, and no base URL of Anthropic or OpenAI, the configuration is `simulated`. Records go to
    `aibridge/aibridge.db` under `XDG_STATE_HOME` (`~/.local/state`), or to the working directory where there is no
    home; simulated ones to a file of their own beside it, so that they never mix with true ones.

    Args:
        environ: the variables; the process's own by default.

    Raises:
        ConfigError: a variable cannot be used; one line for each.
    """
    environ = os.environ if environ is None else environ
    providers, notes = environment_providers(environ)
    simulated = not providers
    raw: dict[str, Any] = {
        "listen": {"host": "127.0.0.1"},
        "records": {"path": _state_file(environ, "simulated.db" if simulated else "aibridge.db")},
        "providers": providers or _simulated_providers(),
    }
    for variable, key in _KEY_OF.items():
        value = environ.get(variable)
        if value and variable not in _OF_PROVIDERS and not _is_service_link(variable, value):
            _put(raw, key, _environment_value(variable, value))
    settings = validate(raw, {}, _VARIABLE_OF)
    return configured(settings, [*notes, *_misspelt_variables(environ)], simulated=simulated)


def _put(raw: dict[str, Any], key: str, value: object) -> None:
    if key == "records.path" and value in {"off", "false", "0"}:
        key, value = "records.enabled", False
    *sections, last = key.split(".")
    for section in sections:
        raw = raw.setdefault(section, {})
    raw[last] = value


def _environment_value(variable: str, value: str) -> object:
    if variable not in {"AIBRIDGE_GATEWAY_KEYS", "AIBRIDGE_ADMIN_KEYS"}:
        return value
    keys = [item.strip() for item in value.split(",") if item.strip()]
    return [_named_key(number, key) for number, key in enumerate(keys, 1)]


def _named_key(number: int, text: str) -> dict[str, str]:
    name, colon, key = text.partition(":")
    if not colon or text.startswith(HASHED):
        return {"name": f"key-{number}", "key": text}
    return {"name": name.strip(), "key": key.strip()}


def _is_service_link(variable: str, value: str) -> bool:
    # Kubernetes tells every container of a service named aibridge AIBRIDGE_PORT=tcp://10.0.0.1:8080.
    return variable == "AIBRIDGE_PORT" and value.startswith("tcp://")


def environment_providers(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the providers that the environment has credentials for, as a file would name them, and notes."""
    providers: dict[str, Any] = {}
    notes: list[str] = []
    for name in ("anthropic", "openai"):
        if key := environ.get(f"{name.upper()}_API_KEY"):
            providers[name] = {"kind": name, "api_key": key}
        elif environ.get(f"AIBRIDGE_{name.upper()}_BASE_URL"):  # clients bring their own keys
            providers[name] = {"kind": name}
    aws = next((sign for sign in AWS_SIGNS if environ.get(sign)), None)
    region = region_of(environ)
    if aws and region:
        providers["bedrock"] = {"kind": "bedrock", "region": region}
        if token := environ.get("AWS_BEARER_TOKEN_BEDROCK"):
            providers["bedrock"]["bearer_token"] = token
    elif aws:
        notes.append(f"{aws} is set but no AWS_REGION: there is no provider bedrock")
    elif environ.get("AIBRIDGE_BEDROCK_BASE_URL"):
        notes.append("AIBRIDGE_BEDROCK_BASE_URL is not used: the environment holds no AWS credential to sign with")
    for name, provider in providers.items():
        if url := environ.get(f"AIBRIDGE_{name.upper()}_BASE_URL"):
            provider["base_url"] = url
    return providers, notes


def region_of(environ: Mapping[str, str]) -> str:
    """Return the AWS region that the environment names; empty where it names none."""
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""


def _simulated_providers() -> dict[str, Any]:
    nowhere = "http://127.0.0.1:0"
    return {
        "anthropic": {"kind": "anthropic", "base_url": nowhere, "api_key": SIMULATOR_API_KEY},
        "bedrock": {
            "kind": "bedrock",
            "base_url": nowhere,
            "region": SIMULATOR_REGION,
            "access_key_id": SIMULATOR_ACCESS_KEY_ID,
            "secret_access_key": SIMULATOR_SECRET_ACCESS_KEY,
        },
        "openai": {"kind": "openai", "base_url": nowhere, "api_key": SIMULATOR_OPENAI_KEY},
    }


def _state_file(environ: Mapping[str, str], name: str) -> Path:
    if state := environ.get("XDG_STATE_HOME"):
        return Path(state, "aibridge", name)
    if home := environ.get("HOME"):
        return Path(home, ".local", "state", "aibridge", name)
    return Path(name)


def ignored_variables(environ: Mapping[str, str], *, providers: bool) -> Iterator[str]:
    """Yield a note of the variables that do not count beside a file, those of providers only where it names some."""
    names = [name for name in _KEY_OF if environ.get(name) and (providers or name not in _OF_PROVIDERS)]
    if names:
        yield f"a file is in use, which alone counts unless it names them: {', '.join(names)}"


def _misspelt_variables(environ: Mapping[str, str]) -> Iterator[str]:
    for name in environ:
        if name.startswith("AIBRIDGE_") and name not in _KEY_OF:
            near = difflib.get_close_matches(name, _KEY_OF, n=1, cutoff=0.85)
            if near:
                yield f"{name} is not a setting; did you mean {near[0]}?"
