"""Reads a YAML file, and says where it is none. A door to yaml."""

import re
from pathlib import Path
from typing import Any

import yaml

from aibridge.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice: of two, plain YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - yaml's signature
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if not isinstance(key, str):  # {{ name }} of a template that nobody filled in, mostly
                raise yaml.constructor.ConstructorError(None, None, "a key should be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, "a key is written twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> object:
    """Return what a file holds; of an empty one an empty mapping. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    try:
        value: object = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_yaml_problem(error)}") from None
    except (ValueError, LookupError, AttributeError):  # yaml's own, of a value that is not what it says; it is quoted
        raise ConfigError(f"{path}: a value looks like a date or a number, and is none: put it in quotes") from None
    return {} if value is None else value


def _yaml_problem(error: yaml.YAMLError) -> str:
    # An unquoted secret may start like an alias or a tag: its text, which yaml quotes, is cut off.
    problem = re.sub(r"(alias|tag|handle)\b.*", r"\1", str(getattr(error, "problem", "is not YAML")))
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
