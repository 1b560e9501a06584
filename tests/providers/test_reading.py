"""What the body and the headers of a request tell together."""

import json

import pytest

from aibridge.body import read_body
from aibridge.dialects import DIALECTS
from aibridge.providers.reading import learn

MESSAGES = DIALECTS["messages"]

CLAUDE_CODE = ((b"user-agent", b"claude-cli/2.1.330 (external, sdk-cli)"),)


def test_learns_prompt_tool_call_and_session():
    content = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}, {"type": "text", "text": "go on"}]
    messages = [{"role": "user", "content": content}]
    user_id = json.dumps({"device_id": "d", "session_id": "s-1"})
    body = json.dumps({"messages": messages, "metadata": {"user_id": user_id, "x": 1}}).encode()
    prompt, *others = learn(MESSAGES, read_body(body), CLAUDE_CODE)
    assert (prompt(), *others) == ("go on", "toolu_1", "s-1", "Claude Code")
    assert learn(MESSAGES, read_body(body), ())[1:] == ("toolu_1", "", "Unknown")
    session = (b"x-claude-code-session-id", b"s-2")
    assert learn(MESSAGES, read_body(body), (*CLAUDE_CODE, session))[1:] == ("toolu_1", "s-2", "Claude Code")


@pytest.mark.parametrize(
    "metadata",
    [
        b"null",
        b"5",
        b"[]",
        b"{}",
        b'{"user_id":5}',
        b'"user_id"',
        b'{"user_id":null}',
        b'{"user_id":"_session_%b"}' % (b"x" * 5000),
    ],
)
def test_metadata_of_odd_shape_has_no_session(metadata):
    assert learn(MESSAGES, read_body(b'{"metadata":%b}' % metadata), CLAUDE_CODE)[1:] == ("", "", "Claude Code")
