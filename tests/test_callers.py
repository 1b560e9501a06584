"""Guessing the calling program from its headers."""

import pytest

from aibridge.callers import CLIENT_NAMES, client_name


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
    ],
)
def test_by_other_headers_in_the_order_of_the_table(headers, name):
    assert client_name(headers) == name


def test_the_names_are_a_closed_set():
    assert len(CLIENT_NAMES) == 15
    assert client_name(((b"user-agent", b"anything"),)) in CLIENT_NAMES
