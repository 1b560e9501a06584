"""The audit: it finds each thing that does not add up, names it, and finds nothing where all does."""

import sqlite3
from contextlib import closing

import pytest

from aibridge.audit import SHOWN_IDS, audit, report
from aibridge.cli import main
from aibridge.journal import Journal, journal_folder
from aibridge.relay import MISSING_DONE
from aibridge.stores.base import StoreUnavailable
from aibridge.stores.sqlite import SQLiteStore


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "records.db"
    SQLiteStore(path).close()
    return path


@pytest.fixture
def change(path):
    def change(*statements):
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            for statement in statements:
                db.execute(statement)

    return change


def ended(id_, termination, cause):
    return (
        "INSERT INTO interceptions (id, started_at, ended_at, termination, cause)"
        f" VALUES ('{id_}', 1, 2, '{termination}', '{cause}')"
    )


def attempt(id_, number, cause):
    return f"INSERT INTO attempts (interception_id, number, cause) VALUES ('{id_}', {number}, '{cause}')"


def left_open(id_, journal):
    return f"INSERT INTO interceptions (id, started_at, journal) VALUES ('{id_}', 1, '{journal}')"


GOOD = [
    ended("1", "completed", "clean"),
    ended("2", "upstream_error", "truncated"),
    ended("3", "gateway_error", "crashed"),
    ended("4", "client_gone", "stalled"),
    ended("5", "upstream_error", "circuit_open"),
    ended("6", "completed", "clean"),
    ended("7", "upstream_error", "keys_exhausted"),
    attempt("7", 1, "http_status"),
    attempt("1", 1, "http_status"),
    attempt("1", 2, "clean"),
    attempt("2", 1, "truncated"),
    attempt("4", 1, "clean"),
    attempt("6", 1, "clean"),
    f"UPDATE interceptions SET usage_source = 'none', terminal_event_seen = 0, note = '{MISSING_DONE}' WHERE id = '6'",
    "UPDATE interceptions SET usage_source = 'final', terminal_event_seen = 1 WHERE id = '1'",
    "UPDATE interceptions SET usage_source = 'none', error = 'words' WHERE id = '2'",
    "INSERT INTO token_usages (interception_id) VALUES ('1')",
]


def test_books_that_add_up(path, change, capsys):
    change(*GOOD)
    assert list(report(audit(path))) == [
        "7 started = 2 completed + 4 failed + 1 client_gone + 0 in flight",
        "no difference",
    ]
    assert main(["audit", str(path)]) == 0
    assert "no difference" in capsys.readouterr().out


def test_an_empty_store_adds_up(path):
    assert next(report(audit(path))) == "0 started = 0 completed + 0 failed + 0 client_gone + 0 in flight"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (left_open("bad", "gone"), "open, and held by no running process: 1: bad"),
        (
            "UPDATE interceptions SET cause = 'truncated' WHERE id = '3'",
            "ended as gateway_error by truncated, which is no such end: 1: 3",
        ),
        (ended("bad", "finished", "clean"), "ended as finished by clean, which is no such end: 1: bad"),
        (
            "INSERT INTO interceptions (id, started_at, ended_at) VALUES ('bad', 1, 2)",
            "ended as None by None, which is no such end: 1: bad",
        ),
        (
            "INSERT INTO interceptions (id, ended_at, termination, cause) VALUES ('bad', 2, 'client_gone', 'stalled')",
            "ended, and its beginning is lost: 1: bad",
        ),
        (
            "INSERT INTO attempts (interception_id, number) VALUES ('bad', 1), ('bad', 2)",
            "an attempt without its interception: 1: bad",
        ),
        ("UPDATE interceptions SET ended_at = 0.5 WHERE id = '1'", "ended before it began: 1: 1"),
        ("UPDATE interceptions SET duration = -1 WHERE id = '3'", "ended before it began: 1: 3"),
        ("UPDATE interceptions SET error = 'EOF' WHERE id = '1'", "completed, and with an error: 1: 1"),
        (
            "UPDATE interceptions SET terminal_event_seen = 0 WHERE id = '1'",
            "completed, and its last event was not seen: 1: 1",
        ),
        (ended("bad", "completed", "clean"), "ended otherwise than its last attempt: 1: bad"),
        ("DELETE FROM attempts WHERE number = 2", "ended otherwise than its last attempt: 1: 1"),
        ("DELETE FROM attempts WHERE interception_id = '2'", "ended otherwise than its last attempt: 1: 2"),
        (attempt("2", 2, "clean"), "ended otherwise than its last attempt: 1: 2"),
        (
            "UPDATE interceptions SET answered_by = 'bedrock' WHERE id = '1'",
            "answered by another than its last attempt asked: 1: 1",
        ),
        (
            "UPDATE attempts SET provider = 'bedrock' WHERE interception_id = '2'",
            "answered by another than its last attempt asked: 1: 2",
        ),
        ("DELETE FROM token_usages", "tokens were told, and are lost: 1: 1"),
        *(
            (
                f"INSERT INTO {table} (interception_id) VALUES ('bad')",
                f"{table} without their interception: 1: bad",
            )
            for table in ("user_prompts", "tool_usages", "model_thoughts")
        ),
        ("INSERT INTO token_usages (interception_id) VALUES ('bad')", "tokens without their interception: 1: bad"),
    ],
)
def test_each_difference_is_found_and_named(path, change, capsys, statement, told):
    change(*GOOD, statement)
    lines = list(report(audit(path)))
    assert lines[1:] == [f"difference: {told}"]
    assert main(["audit", str(path)]) == 1
    assert told in capsys.readouterr().out


def test_in_flight_is_what_a_running_process_holds(path, change):
    journal = Journal(journal_folder(path), max_bytes=1 << 20)
    change(left_open("running", journal.name))
    result = audit(path)
    assert (result.started, result.in_flight, result.waiting, result.differences) == (1, 1, [], [])
    journal.close(remove=False)
    result = audit(path)
    assert (result.in_flight, result.waiting) == (0, [journal.name])
    assert [difference.ids for difference in result.differences] == [["running"]]
    assert any("the next start brings it into the store" in line for line in report(result))


def test_of_many_ids_some_are_shown(path, change):
    change(*(left_open(f"{number:03d}", "gone") for number in range(SHOWN_IDS + 5)))
    (difference,) = audit(path).differences
    assert str(difference).endswith("019, and 5 more")


def test_the_file_of_the_configuration_is_taken(path, change, tmp_path, monkeypatch, capsys):
    change(*GOOD)
    file = tmp_path / "aibridge.yaml"
    file.write_text(f"listen: {{host: 127.0.0.1}}\nproviders: {{anthropic: {{}}}}\nrecords: {{path: {path}}}\n")
    assert main(["audit", "--config", str(file)]) == 0
    monkeypatch.setenv("AIBRIDGE_RECORDS", str(path))
    assert main(["audit"]) == 0
    assert capsys.readouterr().out.count("7 started") == 2


def test_a_store_that_is_not_there_is_told(tmp_path, capsys):
    with pytest.raises(StoreUnavailable):
        audit(tmp_path / "none.db")
    assert main(["audit", str(tmp_path / "none.db")]) == 2
    assert "none.db" in capsys.readouterr().err
