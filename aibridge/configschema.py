"""The JSON Schema of a configuration file, for editors: what `aibridge check --schema` prints.

Pydantic draws it from the sections of `config`. What it cannot know is put right here, as a file is read: values may be
`${NAME}` and may be left empty, and the kind of a provider follows from its name. It says less than `config` checks,
which alone decides: not what two keys have to do with each other, nor what is found behind a path.
"""

from typing import Any

from aibridge.config import Settings

Schema = dict[str, Any]

_REFERENCE: Schema = {
    "type": "string",
    "pattern": r"\$\{",
    "description": "${NAME} or ${NAME:-default}: an environment variable",
}
_NOTHING: Schema = {"type": "null"}
_MAPPING = ["object", "null"]
"""Where all lines of a section are commented out, nothing is left of it."""
_SIZE = r"^\s*\d*\.?\d+\s*([KMGTPEkmgtpe]?[Ii]?[Bb])?\s*$"
"""As pydantic's `ByteSize` reads it: `32MiB`, `1.5 gb`, `4096`."""

_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
_NARROW = frozenset({"enum", "const", "pattern", "format", "minLength", "maxLength"})
_ABOUT = ("default", "description")


def configuration_schema() -> Schema:
    """Return the schema, of draft 2020-12."""
    raw = Settings.model_json_schema()
    kinds: dict[str, str] = raw["properties"]["providers"]["additionalProperties"]["discriminator"]["mapping"]
    definitions = {name: _or_nothing(_value(node)) for name, node in raw["$defs"].items()}
    whole = _mapping(raw)
    whole["properties"]["providers"] = _providers(kinds)
    del whole["required"]  # without `providers` they come from the environment
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **whole,
        "title": "aibridge",
        "$defs": definitions | {"Reference": _REFERENCE},
    }


def _providers(kinds: dict[str, str]) -> Schema:
    """Return the schema of the providers, by kind: the one that is said, else the one that the name tells."""
    of_its_kind = {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(kinds)}},
        "allOf": [
            {"if": {"required": ["kind"], "properties": {"kind": {"const": kind}}}, "then": {"$ref": place}}
            for kind, place in kinds.items()
        ],
    }
    says_it = {"type": "object", "required": ["kind"]}
    named = {name: {"if": says_it, "then": of_its_kind, "else": {"$ref": place}} for name, place in kinds.items()}
    return {"type": _MAPPING, "properties": named, "additionalProperties": of_its_kind}


def _value(node: Schema) -> Schema:
    """Return the schema of one value, as a file may have it."""
    about = {name: node[name] for name in _ABOUT if node.get(name) not in (None, "")}
    choices = [_choice(choice, node) for choice in node.get("anyOf", [node])]
    if any(map(_is_narrow, choices)):
        choices.append({"$ref": "#/$defs/Reference"})
    return {**choices[0], **about} if len(choices) == 1 else {"anyOf": choices, **about}


def _choice(node: Schema, whole: Schema) -> Schema:
    """Return one of the forms that a value may have; `whole` is all of them, which knows the bounds of sizes."""
    if "properties" in node or "additionalProperties" in node:
        return _mapping(node)
    kept = {name: item for name, item in node.items() if name not in {"title", *_ABOUT, *_BOUNDS}}
    if "items" in node:
        kept["items"] = _value(node["items"])
    if node.get("type") == "integer":
        kept |= {told: whole[name] for name, told in _BOUNDS.items() if name in whole}
    if node.get("type") == "string" and _BOUNDS.keys() & whole.keys():
        kept["pattern"] = _SIZE
    return kept


def _mapping(node: Schema) -> Schema:
    kept = {name: item for name, item in node.items() if name not in {"title", "$defs", "default"}}
    kept["type"] = _MAPPING
    if isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _or_nothing(_value(node["additionalProperties"]))
    if "properties" in node:
        kept["properties"] = {name: _or_nothing(_value(item)) for name, item in node["properties"].items()}
    return kept


def _is_narrow(node: Schema) -> bool:
    """Tell whether a text `${NAME}` would be refused where the value that it stands for would not."""
    return node.get("type") in ("integer", "number", "boolean") or bool(_NARROW & node.keys())


def _or_nothing(value: Schema) -> Schema:
    """Allow an empty value, which is a key that is not there. What is defined elsewhere allows it there."""
    if "$ref" in value or value.get("type") == _MAPPING or _NOTHING in value.get("anyOf", []):
        return value
    about = {name: value[name] for name in _ABOUT if name in value}
    alone = {name: item for name, item in value.items() if name not in _ABOUT}
    return {"anyOf": [*alone.get("anyOf", [alone]), _NOTHING], **about}
