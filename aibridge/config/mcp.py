"""The section `mcp`: tool servers, and which requests get their tools."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, ByteSize, Field, model_validator

from aibridge.config.headers import free_name
from aibridge.config.secret import SecretText
from aibridge.config.urls import clean_base_url
from aibridge.config.values import KIB, Count, Seconds, Section, Size, Slug, Text, mistake


def _clean_server_url(text: str) -> str:
    clean_base_url(text)
    return text  # a slash at its end may count


_OF_THE_TRANSPORT = re.compile(
    "host|accept|expect|te|trailer|upgrade|connection|keep-alive|transfer-encoding|last-event-id"
    "|(accept|content|mcp|proxy)-.*"
)
"""Headers that HTTP and MCP set themselves."""


def _clean_server_header(text: str) -> str:
    return free_name(text, _OF_THE_TRANSPORT, "is set by HTTP or MCP itself")


def _check_regex(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise mistake(f"should be a regular expression: {error}") from None
    return text


_ServerURL = Annotated[str, AfterValidator(_clean_server_url)]
_ServerHeader = Annotated[str, AfterValidator(_clean_server_header)]
_Regex = Annotated[str, AfterValidator(_check_regex)]


class ToolServer(Section):
    """A server of MCP, over streamable HTTP."""

    url: _ServerURL
    headers: dict[_ServerHeader, SecretText] = {}
    """That go with every request, for all actors."""
    actor_header: _ServerHeader | None = None
    """In which it gets the actor's own credential, which a client sends as `x-aibridge-mcp-<name>`."""
    allow: _Regex | None = None
    """Searched for in a tool's name, as the server writes it. None: all tools."""
    deny: _Regex | None = None
    """The same; stands above `allow`."""
    connect_timeout: Seconds = 10.0
    """To set a session up, and again to list the tools."""
    call_timeout: Seconds = 60.0
    """Of one call, the wait for `max_concurrent_calls` included."""
    max_concurrent_calls: Count = 16
    """Under way at once; others wait."""
    max_result_bytes: Size = ByteSize(256 * KIB)
    """Of a result's text; what is longer is cut, with a note."""

    @model_validator(mode="after")
    def _has_one_value(self) -> Self:
        if self.actor_header is not None and self.actor_header in self.headers:
            raise mistake(f"headers: {self.actor_header} is the place of the actor's own credential")
        return self


_ServerName = Annotated[Slug, Field(max_length=32)]


class ToolServers(Section):
    """Tools that the gateway offers to models, and runs itself; and which requests get them."""

    models: tuple[Text, ...] = ()
    """Globs over the names that clients write; empty: all."""
    actors: tuple[Text, ...] = ()
    """Ids; empty: all."""
    max_tool_turns: Count = 10
    """Requests to the model in one interception, at most."""
    max_actor_sessions: Count = 64
    """With servers that have an `actor_header`, all together."""
    servers: dict[_ServerName, ToolServer] = {}
