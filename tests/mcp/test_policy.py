"""Which requests get tools, and which credentials they bring."""

import pytest

from aibridge.headers import to_upstream
from aibridge.mcp.policy import Rules, credentials_of, wants_tools


@pytest.mark.parametrize(
    ("rules", "headers", "wanted"),
    [
        (Rules(), (), True),
        (Rules(models=("claude-*",)), (), True),
        (Rules(models=("gpt-*", "o3")), (), False),
        (Rules(actors=("alice",)), (), True),
        (Rules(actors=("bob",)), (), False),
        (Rules(models=("claude-*",), actors=("bob",)), (), False),
        (Rules(), ((b"x-aibridge-mcp", b"off"),), False),
        (Rules(), ((b"x-aibridge-mcp", b" OFF "),), False),
        (Rules(), ((b"x-aibridge-mcp", b"on"),), True),
        (Rules(), ((b"x-aibridge-mcp-kit", b"off"),), True),
    ],
)
def test_which_requests_get_tools(rules, headers, wanted):
    assert wants_tools(rules, "claude-sonnet-4-5", "alice", headers) is wanted


def test_credentials_of_the_servers_that_take_them():
    headers = (
        (b"x-aibridge-mcp-github", b" Bearer abc "),
        (b"x-aibridge-mcp-blank", b"  "),
        (b"x-aibridge-mcp-odd", b"\xff"),
        (b"x-aibridge-mcp-other", b"Bearer def"),
        (b"x-aibridge-mcp-a", b"k"),
    )
    assert credentials_of({"github", "blank", "odd", "a"}, headers) == (("a", "k"), ("github", "Bearer abc"))
    assert to_upstream(headers) == ()
