"""A configuration from a YAML file, and from what it names."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aibridge.config.configuration import Config, configured
from aibridge.config.environment import environment_providers, ignored_variables, region_of
from aibridge.config.interpolation import interpolate
from aibridge.config.mistakes import validate
from aibridge.config.providers import KINDS
from aibridge.config.yamlfile import read_yaml
from aibridge.errors import ConfigError
from aibridge.secretsource import read_regular


def load(path: str | Path, environ: Mapping[str, str] | None = None, files: set[Path] | None = None) -> Config:
    """Read and check a YAML file.

    A file that names no providers takes them from the environment, as without a file.

    Args:
        path: the file.
        environ: variables for `${NAME}` and for the AWS region; the process's own by default.
        files: gets every file that the answer depends on, also where the answer is an error.

    Raises:
        ConfigError: the file cannot be read or used; one line for each mistake, each with its key.
    """
    environ = os.environ if environ is None else environ
    files = set() if files is None else files
    files.add(Path(path))
    try:
        raw, mistakes = interpolate(read_yaml(Path(path)), environ)
    except RecursionError:  # an alias inside of what it stands for
        raise ConfigError(f"{path}: is nested too deep") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: should be a mapping of keys to values")
    notes = [*ignored_variables(environ, providers="providers" in raw)]
    if "providers" not in raw:
        providers, found = environment_providers(environ)
        if not providers:
            mistakes["providers"] = "none is configured, and the environment holds no credential for one"
        raw = {**raw, "providers": providers}
        notes += found
    digests = {key: _digest(file, files) for key in _FILE_KEYS if (file := _text_at(raw, key))}
    settings = validate(_complete(raw, environ), mistakes, files=files)
    return configured(settings, notes, digests=digests)


_FILE_KEYS = ("prices.path", "tls.ca_file")
"""Keys of files that others read."""


def _text_at(raw: object, key: str) -> str:
    for step in key.split("."):
        raw = raw.get(step) if isinstance(raw, dict) else None
    return raw if isinstance(raw, str) else ""


def _digest(file: str, files: set[Path]) -> str:
    files.add(Path(file))
    try:
        return hashlib.sha256(read_regular(Path(file))).hexdigest()
    except (OSError, ValueError):
        return ""  # whoever reads it says why


def _complete(raw: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Add what a provider need not say: the kind that its name tells, and the region of the environment."""
    providers = raw["providers"]
    if not isinstance(providers, dict):
        return raw
    return {**raw, "providers": {name: _complete_provider(name, item, environ) for name, item in providers.items()}}


def _complete_provider(name: str, raw: object, environ: Mapping[str, str]) -> object:
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        return raw
    known: dict[str, object] = {"kind": name} if name in KINDS else {}
    region = region_of(environ)
    if {**known, **raw}.get("kind") == "bedrock" and region:
        known["region"] = region
    return {**known, **raw}
