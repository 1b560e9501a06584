"""The commands that read the records, as an operator calls them, on a file that a store has written."""

import json
import os
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from record_kit import an_attempt, an_interception, an_outcome, attempted, learned, opened, whole, write

from aibridge.cli import main
from aibridge.lifecycle import Cause
from aibridge.stores.sqlite import SQLiteStore
from aibridge.values import (
    Actor,
    Cost,
    Evidence,
    Thought,
    ToolUse,
    Unpriced,
    Usage,
    UsageSource,
    UserPrompt,
)

DAY_1, DAY_2 = 1_767_225_600.0, 1_767_312_000.0  # 2026-01-01 and the next


def interception(number, at, **more):
    base = an_interception(
        id=f"0198c0de-0000-7000-8000-{number:012}", started_at=at, model="claude-x", upstream_model="claude-x",
        client="Claude Code", user_agent="claude-cli/2", request_bytes=100,
    )  # fmt: skip
    return base._replace(**more)


def outcome(at, usage, cause=Cause.CLEAN, source=UsageSource.PROVIDER_FINAL, cost=Cost()):  # noqa: B008 - frozen
    evidence = Evidence(terminal_event_seen=True, last_event="message_stop", http_status=200)
    return an_outcome(
        cause, ended_at=at + 2, duration=2.0, evidence=evidence, usage=usage, usage_source=source, message_id="msg_1",
        response_model="claude-x", stop_reason="tool_use", cost=cost,
    )  # fmt: skip


FIRST = interception(1, DAY_1 + 10, session_id="s-1")
SECOND = interception(2, DAY_1 + 20, session_id="s-1", correlating_tool_call_id="toolu_1")
NEXT = interception(3, DAY_1 + 30, session_id="s-1")
CUT = interception(4, DAY_2 + 10, actor=Actor("bob"), provider="bedrock", client="Unknown", model="\x1b[31mred")
RUNNING = interception(5, DAY_2 + 20, actor=Actor("bob"), correlating_tool_call_id="toolu_9")
OTHERS = interception(6, DAY_1 + 15, actor=Actor("carol"), session_id="s-1")


def cost(nanodollars):
    return Cost(nanodollars, "v")


RECORDS = [
    opened(FIRST),
    learned(FIRST, UserPrompt("read the file\x1b]0;x\x07\n" + "word " * 50), "", 1, DAY_1 + 10),
    learned(FIRST, Thought("I read it", "thinking"), "msg_1", 2, DAY_1 + 11),
    learned(FIRST, ToolUse("toolu_1", "Read", '{"path":"/x"}'), "msg_1", 3, DAY_1 + 12),
    attempted(FIRST, an_attempt(origin="https://x", started_at=DAY_1 + 10, usage=Usage())),
    whole(FIRST, outcome(DAY_1 + 10, Usage(2, 61, 13993, 22, (("web_search_requests", 1),)), cost=cost(15_201_400))),
    whole(SECOND, outcome(DAY_1 + 20, Usage(5, 84, 23490), cost=cost(1_500))),
    whole(NEXT, outcome(DAY_1 + 30, Usage(1, 1), cost=Cost(None, "v", Unpriced.UNKNOWN_MODEL))),
    whole(CUT, outcome(DAY_2 + 10, Usage(10, 1), Cause.TRUNCATED, UsageSource.PROVIDER_PARTIAL, cost(2 * 10**9 + 499))),
    opened(RUNNING),
    whole(OTHERS, outcome(DAY_1 + 15, Usage(), Cause.CONNECT_FAILED, UsageSource.NONE)),
]


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "aibridge.db"
    with closing(SQLiteStore(path)) as store:
        write(store, *RECORDS)
    return path


@pytest.fixture
def run(records, capsys):
    """Return a function that runs a command on the records, and gives what it printed."""

    def run(*arguments):
        assert main([*arguments, "--records", str(records)]) == 0
        return capsys.readouterr().out

    return run


def ids(thread):
    return [row["id"][-1] for row in thread["interceptions"]]


def test_sessions_threads_and_interceptions(run):
    sessions = json.loads(run("sessions", "--since", "all", "--json"))
    shape = [(one["session"][-4:], one["actor"], [ids(thread) for thread in one["threads"]]) for one in sessions]
    assert shape == [
        ("0005", "bob", [["5"]]),
        ("0004", "bob", [["4"]]),
        ("s-1", "alice", [["1", "2"], ["3"]]),
        ("s-1", "carol", [["6"]]),
    ]
    alice = sessions[2]
    assert (alice["client"], alice["providers"], alice["models"]) == ("Claude Code", ["anthropic"], ["claude-x"])
    assert (alice["started_at"], alice["ended_at"], alice["interceptions"]) == (DAY_1 + 10, DAY_1 + 32, 3)
    assert (alice["input_tokens"], alice["output_tokens"]) == (2 + 5 + 1, 61 + 84 + 1)
    assert (alice["cache_read_input_tokens"], alice["cache_creation_input_tokens"]) == (13993 + 23490, 22)
    assert (alice["cost_nanodollars"], alice["unpriced"]) == (15_201_400 + 1_500, 1)
    first, second = alice["threads"][0]["interceptions"]
    assert alice["threads"][0]["prompt"].startswith("read the file")
    assert (first["tools"], second["thread_parent_id"]) == (["Read"], FIRST.id)
    assert (first["cost_nanodollars"], second["cost_nanodollars"], first["unpriced"]) == (15_201_400, 1_500, None)


def test_the_latest_sessions_only(run):
    assert [one["actor"] for one in json.loads(run("sessions", "--since", "all", "--limit", "3", "--json"))] == [
        "bob",
        "bob",
        "alice",
    ]
    assert len(json.loads(run("sessions", "--since", "2026-01-02", "--json"))) == 2
    assert json.loads(run("sessions", "--json")) == []


def test_sessions_on_a_terminal(run):
    lines = run("sessions", "--since", "all").splitlines()
    assert lines[0] == f"2026-01-02 00:00:20  session {RUNNING.id}  bob  Claude Code"
    assert "  running  in 0 out 0" in lines[2]
    assert "upstream_error (truncated)" in lines[5]
    prompt = next(line for line in lines if "read the file" in line)
    assert prompt.endswith('…"')
    shown = next(line for line in lines if FIRST.id in line and "Read" in line)
    assert shown.split()[-8:] == ["2.0", "s", "in", "2", "out", "61", "$0.015201", "Read"]
    assert "  >=$2.000000" in lines[5]
    assert any(NEXT.id in line and "  unpriced (unknown_model)  " in f"{line}  " for line in lines)


def test_a_terminal_is_shown_text_and_nothing_else(run):
    assert all(line.isprintable() for line in run("sessions", "--since", "all").splitlines())
    assert all(line.isprintable() for line in run("usage", "--since", "all").splitlines())


def test_usage(run):
    rows = json.loads(run("usage", "--since", "all", "--by", "actor", "--json"))
    assert rows[0] == {
        "actor": "alice",
        "requests": 3,
        "completed": 3,
        "partial": 0,
        "input_tokens": 8,
        "output_tokens": 146,
        "cache_read_input_tokens": 37483,
        "cache_creation_input_tokens": 22,
        "cost_nanodollars": 15_202_900,
        "unpriced": 1,
    }
    assert [(row["actor"], row["requests"], row["completed"], row["partial"]) for row in rows[1:]] == [
        ("bob", 2, 0, 1),
        ("carol", 1, 0, 0),
    ]
    assert [(row["cost_nanodollars"], row["unpriced"]) for row in rows[1:]] == [(2_000_000_499, 0), (0, 0)]


def test_what_has_no_cost_is_not_for_free(records, run):
    with closing(SQLiteStore(records)) as store:
        for number, why in ((7, Unpriced.UNKNOWN_MODEL), (8, None)):  # one that nobody rated yet, too
            end = outcome(DAY_2, Usage(5, 5), cost=Cost(None, "v" if why else "", why))
            write(store, whole(interception(number, DAY_2, model="odd"), end))
    rows = json.loads(run("usage", "--since", "all", "--by", "model", "--json"))
    odd = next(row for row in rows if row["model"] == "odd")
    assert (odd["cost_nanodollars"], odd["unpriced"]) == (None, 2)
    sessions = json.loads(run("sessions", "--since", "all", "--json"))
    assert [(one["cost_nanodollars"], one["unpriced"]) for one in sessions if one["models"] == ["odd"]] == [
        (None, 1),
        (None, 1),
    ]
    [line] = [line for line in run("usage", "--since", "all", "--by", "model").splitlines() if line.startswith("odd")]
    assert line.split()[-2:] == ["-", "2"]
    assert "unpriced (unknown_model)" in run("sessions", "--since", "all")


def test_usage_by_all_there_is(run):
    rows = json.loads(run("usage", "--since", "all", "--by", "day,actor,provider,model,client", "--json"))
    assert {"day": "2026-01-02", "actor": "bob", "provider": "bedrock"}.items() <= rows[3].items()
    assert [row["day"] for row in rows] == ["2026-01-01"] * 2 + ["2026-01-02"] * 2
    (total,) = json.loads(run("usage", "--since", "2026-01-02T00:00:15", "--by", "day", "--json"))
    assert (total["requests"], total["completed"], total["input_tokens"]) == (1, 0, 0)


def test_usage_on_a_terminal(run):
    lines = run("usage", "--since", "all", "--by", "day,actor").splitlines()
    assert lines[0].split()[:3] == ["day", "actor", "requests"]
    assert lines[1].split() == ["2026-01-01", "alice", "3", "3", "0", "8", "146", "37483", "22", "0.015203", "1"]
    assert run("usage") == ""


def test_sums_larger_than_a_column(records, run):
    huge = 2**62 - 1
    with closing(SQLiteStore(records)) as store:
        for number in range(7, 17):
            write(store, whole(interception(number, DAY_2, model="huge"), outcome(DAY_2, Usage(huge, huge))))
    rows = json.loads(run("usage", "--since", "all", "--by", "model", "--json"))
    assert next(row for row in rows if row["model"] == "huge")["input_tokens"] == 10 * huge


def test_export(run):
    rows = [json.loads(line) for line in run("export").splitlines()]
    assert [row["id"][-1] for row in rows] == ["1", "6", "2", "3", "4", "5"]
    first = rows[0]
    assert (first["actor_id"], first["termination"], first["session_id"]) == ("alice", "completed", "s-1")
    assert first["usage"]["extras"] == {"web_search_requests": 1}
    assert (first["usage"]["output_tokens"], first["usage"]["usage_source"]) == (61, "provider_final")
    assert (first["usage"]["cost_nanodollars"], first["usage"]["price_version"]) == (15_201_400, "v")
    assert (rows[3]["usage"]["cost_nanodollars"], rows[3]["usage"]["unpriced"]) == (None, "unknown_model")
    assert [one["origin"] for one in first["attempts"]] == ["https://x"]
    assert first["prompts"][0]["prompt"].startswith("read the file")
    assert [(one["tool"], one["tool_call_id"], one["arguments"]) for one in first["tools"]] == [
        ("Read", "toolu_1", '{"path":"/x"}')
    ]
    assert [(one["thought"], one["source"]) for one in first["thoughts"]] == [("I read it", "thinking")]
    assert (rows[1]["usage"], rows[1]["error"], rows[5]["ended_at"]) == (None, "its words", None)
    assert [json.loads(line)["id"][-1] for line in run("export", "--since", "2026-01-02").splitlines()] == ["4", "5"]


def test_an_export_longer_than_a_page(run, monkeypatch):
    monkeypatch.setattr("aibridge.stores.browsing.WHOLE_AT_ONCE", 2)
    assert [json.loads(line)["id"][-1] for line in run("export").splitlines()] == ["1", "6", "2", "3", "4", "5"]


def test_an_export_into_a_pipe_that_closes(records):
    with closing(SQLiteStore(records)) as store:
        for number in range(10, 3000):
            write(store, opened(interception(number, DAY_2)))
    command = f"{sys.executable} -m aibridge export --records {records} | head -n 1"
    environment = {**os.environ, "AIBRIDGE_SPEEDUPS": ""}
    ended = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command], capture_output=True, env=environment, check=False
    )
    assert json.loads(ended.stdout)["id"] == FIRST.id
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_utf_8_and_a_terminal_is_shown_what_it_can_show(records, encoding):
    with closing(SQLiteStore(records)) as store:
        write(store, opened(interception(9, DAY_2, client="日")))
        write(store, learned(interception(9, DAY_2), UserPrompt("日"), "", 9, 9.0))
    environment = {**os.environ, "AIBRIDGE_SPEEDUPS": "", "PYTHONIOENCODING": encoding}

    def printed(*command):
        line = [sys.executable, "-m", "aibridge", *command, "--records", records]
        return subprocess.run(line, capture_output=True, env=environment, check=True).stdout

    assert '"prompt":"日"' in printed("export").decode()
    assert '"client":"日"' in printed("sessions", "--since", "all", "--json").decode()
    shown = "日" if encoding == "utf-8" else "?"
    assert f'"{shown}"' in printed("sessions", "--since", "all").decode(encoding)


def test_a_full_disk_behind_the_output_is_not_said_of_the_records(records):
    line = [sys.executable, "-m", "aibridge", "export", "--records", records]
    environment = {**os.environ, "AIBRIDGE_SPEEDUPS": ""}
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
    assert (ended.returncode, ended.stderr) == (2, b"standard output: No space left on device\n")


def test_an_export_holds_little_at_a_time(records, monkeypatch):
    """Of every interception megabytes may be kept."""
    with closing(SQLiteStore(records)) as store:
        for number in range(10, 110):
            one = interception(number, DAY_2)
            write(
                store, opened(one), *(learned(one, Thought("x" * 250_000, "thinking"), "", at, 9.0) for at in range(4))
            )
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        monkeypatch.setattr("sys.stdout", nowhere)
        tracemalloc.start()
        assert main(["export", "--records", str(records)]) == 0
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 50_000_000


def test_prune(run):
    assert run("prune", "--older-than", "2026-01-02") == "4 interceptions deleted\n"
    assert [json.loads(line)["id"][-1] for line in run("export").splitlines()] == ["4", "5"]
    assert run("prune", "--older-than", "1d") == "1 interceptions deleted\n"
    [left] = run("export").splitlines()
    assert json.loads(left)["ended_at"] is None  # its end is still to come


def test_the_configuration_says_where_the_records_are(records, tmp_path, capsys):
    file = tmp_path / "aibridge.yaml"
    file.write_text(
        f"listen: {{host: 127.0.0.1}}\nproviders: {{anthropic: {{api_key: x}}}}\nrecords: {{path: {records}}}\n"
    )
    assert main(["export", "--config", str(file)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_without_a_file_they_are_where_the_gateway_puts_them(records, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AIBRIDGE_RECORDS", str(records))
    assert main(["export"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    monkeypatch.setenv("AIBRIDGE_RECORDS", str(tmp_path / "nothing.db"))
    for command in ("sessions", "audit"):
        assert main([command]) == 2
        assert "there are no records" in capsys.readouterr().err
    assert not (tmp_path / "nothing.db").exists()


@pytest.mark.parametrize(
    "wrong", [["--since", "yesterday"], ["--since", "5w"], ["--by", "colour"], ["--records", "a", "--config", "b"]]
)
def test_what_cannot_be_meant_is_refused(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["usage", *wrong])
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def test_older_than_all_is_no_moment(records, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prune", "--records", str(records), "--older-than", "all"])
    assert ended.value.code == 2
    assert "--older-than: should be as 24h" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sessions", "usage", "export", "prune"])
def test_a_file_that_is_no_store_is_refused(command, tmp_path, capsys):
    path = tmp_path / "x.db"
    path.write_bytes(b"no database" * 1000)
    more = ["--older-than", "1d"] if command == "prune" else []
    assert main([command, "--records", str(path), *more]) == 2
    assert "not a database" in capsys.readouterr().err
