"""Guessing the calling program from its headers."""

import pytest

from aibridge.callers import CLIENT_NAMES, client_name, session_id


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (b"mux/0.1.0", "Mux"),
        (b"xum/1", "Xum"),
        (b"claude-cli/2.0.67 (external, cli)", "Claude Code"),
        (b"Claude-Code/1", "Claude Code"),
        (b"codex_cli_rs/0.87.0", "Codex"),
        (b"Zed/0.219.4+stable", "Zed"),
        (b"GitHubCopilotChat/0.37.2026011603", "GitHub Copilot (VS Code)"),
        (b"copilot/0.0.403 (client/cli linux v24.11.1)", "GitHub Copilot (CLI)"),
        (b"kilo-code/5.1.0", "Kilo Code"),
        (b"roo-code/3.45.0", "Roo Code"),
        (b"coder-agents/v2.24.0", "Coder Agents"),
        (b"Charm Crush/0.1.11", "Charm Crush"),
        (b"charm-crush/1", "Charm Crush"),
        (b"opencode/1.2.3", "OpenCode"),
        (b"junie:1.0", "Junie"),
        (b"  claude-cli/2  ", "Claude Code"),
        (b"ccclaude", "Unknown"),
        (b"zed", "Unknown"),
        (b"curl/8.5.0", "Unknown"),
        (b"\xff\xfe", "Unknown"),
        (b"", "Unknown"),
    ],
)
def test_by_user_agent(agent, name):
    assert client_name(((b"accept", b"*/*"), (b"user-agent", agent))) == name


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ((), "Unknown"),
        (((b"originator", b"kilo-code"),), "Kilo Code"),
        (((b"originator", b"roo-code"),), "Roo Code"),
        (((b"originator", b"else"),), "Unknown"),
        (((b"x-cursor-client-version", b"1.0"),), "Cursor"),
        (((b"x-cursor-client-version", b" "),), "Unknown"),
        (((b"originator", b"kilo-code"), (b"user-agent", b"codex/1")), "Codex"),
        (((b"originator", b"kilo-code"), (b"user-agent", b"opencode/1")), "Kilo Code"),
        (((b"x-cursor-client-version", b"1"), (b"user-agent", b"junie:1")), "Junie"),
        (((b"user-agent", b"zed/1"), (b"user-agent", b"codex/1")), "Zed"),
        (((b"user-agent", b"claude-cli/2 " + b"x" * 9000),), "Claude Code"),
        (((b"originator", b"kilo-code" + b" " * 64 + b"x"),), "Unknown"),
    ],
)
def test_by_other_headers_in_the_order_of_the_table(headers, name):
    assert client_name(headers) == name


def test_the_names_are_a_closed_set():
    assert len(CLIENT_NAMES) == 15
    assert client_name(((b"user-agent", b"anything"),)) in CLIENT_NAMES


# sessions

UUID = "0b54c1a5-4ab7-4e4f-9d3b-3a8a0a1b2c3d"


def session(client, *headers, user_id=""):
    return session_id(client, headers, lambda: user_id)


@pytest.mark.parametrize(
    ("client", "header"),
    [
        ("Mux", b"x-mux-workspace-id"),
        ("Claude Code", b"x-claude-code-session-id"),
        ("Codex", b"session_id"),
        ("Codex", b"session-id"),
        ("Codex", b"conversation_id"),
        ("Codex", b"x-client-request-id"),
        ("GitHub Copilot (VS Code)", b"x-interaction-id"),
        ("GitHub Copilot (CLI)", b"x-client-session-id"),
        ("Kilo Code", b"x-kilocode-taskid"),
        ("Coder Agents", b"x-coder-chat-id"),
        ("OpenCode", b"x-opencode-session"),
        ("OpenCode", b"x-session-affinity"),
        ("OpenCode", b"x-session-id"),
        ("OpenCode", b"session-id"),
    ],
)
def test_sessions_by_header(client, header):
    assert session(client, (b"accept", b"*/*"), (header, b"  abc ")) == "abc"
    assert session(client, (header, b" ")) == ""
    assert session("Unknown", (header, b"abc")) == ""
    assert session(client) == ""
    assert client in CLIENT_NAMES


@pytest.mark.parametrize(("client", "first", "second"), [
    ("Codex", b"session-id", b"session_id"),
    ("Codex", b"session-id", b"x-client-request-id"),
    ("Codex", b"conversation_id", b"x-client-request-id"),
    ("OpenCode", b"x-opencode-session", b"x-session-affinity"),
])  # fmt: skip
def test_of_two_headers_the_first_that_is_not_blank(client, first, second):
    assert session(client, (second, b"b"), (first, b"a")) == "a"
    assert session(client, (second, b"b"), (first, b" ")) == "b"


@pytest.mark.parametrize("client", ["Zed", "Roo Code", "Charm Crush", "Junie", "Cursor", "Unknown"])
def test_callers_without_sessions(client):
    headers = ((b"x-claude-code-session-id", b"a"), (b"session_id", b"a"), (b"x-session-affinity", b"a"))
    assert session(client, *headers, user_id=f"user_x_session_{UUID}") == ""


@pytest.mark.parametrize(
    ("user_id", "found"),
    [
        (f'{{"device_id":"d","account_uuid":"","session_id":"{UUID}"}}', UUID),
        ('{"session_id":"  a "}', "a"),
        ('{"session_id":""}', ""),
        ('{"session_id":5}', ""),
        ('{"device_id":"x_session_y"}', ""),
        (f"user_{'a' * 64}_account__session_{UUID}", UUID),
        ("user_session_", ""),
        ("[1]", ""),
        ("nothing", ""),
        ("\ud800_session_x", "x"),
        ("", ""),
    ],
)
def test_claude_code_tells_its_session_in_the_body_too(user_id, found):
    assert session("Claude Code", user_id=user_id) == found
    assert session("Claude Code", (b"x-claude-code-session-id", b"header"), user_id=user_id) == "header"
    assert session("Claude Code", (b"x-claude-code-session-id", b" "), user_id=user_id) == found


def test_codex_tells_its_session_in_the_body_too():
    assert session("Codex", user_id=f" {UUID}") == UUID
    assert session("Codex", (b"session-id", b"header"), user_id=UUID) == "header"
    assert session("OpenCode", user_id=UUID) == ""


def test_a_session_is_bounded():
    assert session("Codex", user_id="x" * 5000) == "x" * 256
    assert session("Codex", (b"session_id", b"x" * 5000)) == "x" * 256
    assert session("Claude Code", user_id="_session_" + "x" * 5000) == "x" * 256
