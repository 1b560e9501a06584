"""`aibridge import litellm`, as it is typed: what it writes is what `aibridge check` takes."""

import json

import pytest

from aibridge.cli import main

THEIRS = """
model_list:
  - model_name: sonnet
    litellm_params: {model: anthropic/claude-sonnet-5, api_key: os.environ/ANTHROPIC_API_KEY, weight: 3}
"""


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(THEIRS)
    return path


def test_what_is_written_can_be_checked(theirs, tmp_path, monkeypatch, capsys):
    assert main(["import", "litellm", str(theirs)]) == 0
    ours = tmp_path / "aibridge.yaml"
    ours.write_text(capsys.readouterr().out)
    assert ours.read_text().startswith("# Made of a configuration of LiteLLM. To look at:\n# - ")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key-of-anthropic")
    assert main(["check", str(ours)]) == 0
    assert json.loads(capsys.readouterr().out)["routers"]["all"]["models"]["sonnet"]


def test_as_json(theirs, capsys):
    assert main(["import", "litellm", str(theirs), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [line for line in told["left_out"] if "weight" in line]
    assert told["configuration"]["providers"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read: No such file"), (b"\xff", "is not UTF-8"), (b"a: 1", "no model_list")],
)
def test_what_cannot_be_read_is_said(tmp_path, capsys, content, words):
    path = tmp_path / "other.yaml"
    if content is not None:
        path.write_bytes(content)
    assert main(["import", "litellm", str(path)]) == 2
    assert words in capsys.readouterr().err
