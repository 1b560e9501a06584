"""What is kept of the content: `records.content`, and `content` of a provider or a gateway key."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from aibridge.config.secret import SecretWord
from aibridge.config.values import Section


def _off(value: object) -> object:
    return "off" if value is False else value  # YAML reads a bare off as false


_Keep = Annotated[
    Literal["full", "hashed", "off"],
    BeforeValidator(_off, json_schema_input_type=Literal["full", "hashed", "off", False]),
]


class ContentOverrides(Section):
    """What is kept of the content of one provider's or one actor's requests, where it is not `records.content`."""

    prompts: _Keep | None = None
    arguments: _Keep | None = None
    thoughts: _Keep | None = None


class Content(Section):
    """What is kept of the content: nothing, unless it is asked for. Names and ids of tools are kept always."""

    prompts: _Keep = "off"
    """What users ask: the last text of a request whose last message is theirs."""
    arguments: _Keep = "off"
    """What the model gives the tools that it calls."""
    thoughts: _Keep = "off"
    """What the model thinks aloud."""
    hash_key: SecretWord | None = None
    """Of `hashed`: whoever does not have it cannot try out what a short text may have been."""
