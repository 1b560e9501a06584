"""The SQLite store: what a row holds, that nothing is kept twice or by half, and what it says when it cannot."""

import json
import sqlite3
from contextlib import closing

import pytest

from aibridge.errors import AibridgeError
from aibridge.lifecycle import TERMINATION_OF, Cause, Health
from aibridge.stores import base
from aibridge.stores.base import StoreRefused, StoreUnavailable
from aibridge.stores.entries import attempted_parts, closed_parts, crashed, entry, opened_parts, rows_of
from aibridge.stores.sqlite import SQLiteStore
from aibridge.values import (
    Actor,
    Attempt,
    Credential,
    CredentialKind,
    Evidence,
    Interception,
    Outcome,
    Usage,
    UsageSource,
)

INTERCEPTION = Interception(
    id="0198c0de-0000-7000-8000-000000000001",
    started_at=1_700_000_000.25,
    actor=Actor("alice", "Alice"),
    credential=Credential(CredentialKind.BYOK, "sk-a...efgh"),
    provider="bedrock-eu",
    provider_kind="bedrock",
    dialect="messages",
    route="/v1/messages",
    request_path="/bedrock-eu/v1/messages",
    method="POST",
    model="claude",
    upstream_model="eu.anthropic.claude",
    streaming=True,
    client="Claude Code",
    user_agent="claude-cli/2",
    request_bytes=321,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)

EVIDENCE = Evidence(
    terminal_event_seen=True,
    last_event="message_stop",
    events=12,
    bytes_in=3456,
    bytes_out=3400,
    http_status=200,
    upstream_request_id="req_1",
    time_to_first_event=0.5,
)

OUTCOME = Outcome(
    termination=TERMINATION_OF[Cause.CLEAN],
    cause=Cause.CLEAN,
    error="",
    ended_at=1_700_000_002.25,
    duration=2.0,
    evidence=EVIDENCE,
    health=Health.SUCCESS,
    usage=Usage(10, 20, 30, None, (("web_search_requests", 1),)),
    usage_source=UsageSource.PROVIDER_FINAL,
    message_id="msg_1",
    response_model="claude-4",
    stop_reason="end_turn",
)

FAILED = OUTCOME._replace(
    termination=TERMINATION_OF[Cause.TRUNCATED],
    cause=Cause.TRUNCATED,
    error="its words",
    usage=Usage(),
    usage_source=UsageSource.NONE,
)

ATTEMPT = Attempt(
    number=1,
    origin="https://bedrock",
    started_at=1_700_000_000.5,
    duration=1.5,
    termination=TERMINATION_OF[Cause.CLEAN],
    cause=Cause.CLEAN,
    error="",
    evidence=EVIDENCE,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records" / "aibridge.db"


@pytest.fixture
def store(path):
    store = SQLiteStore(path)
    yield store
    store.close()


@pytest.fixture
def rows(path, store):  # noqa: ARG001 - the file must be there
    """All rows of a table, read by another connection."""

    def rows(table):
        with closing(sqlite3.connect(path)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(f"SELECT * FROM {table}")]

    return rows


def opened(interception):
    return entry(interception.started_at, opened_parts(interception))


def attempted(interception, attempt):
    return entry(attempt.started_at, attempted_parts(interception, attempt))


def closed(interception, outcome):
    return entry(outcome.ended_at, closed_parts(interception, outcome))


def write(store, *entries, position=1, **options):
    store.write(rows_of(entries, "journal-1")[0], "journal-1", position, **options)


OPENED_ROW = {
    "id": "0198c0de-0000-7000-8000-000000000001",
    "started_at": 1_700_000_000.25,
    "actor_id": "alice",
    "actor_name": "Alice",
    "credential_kind": "byok",
    "credential_hint": "sk-a...efgh",
    "provider": "bedrock-eu",
    "provider_kind": "bedrock",
    "dialect": "messages",
    "route": "/v1/messages",
    "request_path": "/bedrock-eu/v1/messages",
    "method": "POST",
    "model": "claude",
    "upstream_model": "eu.anthropic.claude",
    "streaming": 1,
    "client": "Claude Code",
    "user_agent": "claude-cli/2",
    "request_bytes": 321,
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "journal": "journal-1",
}

EVIDENCE_ROW = {
    "terminal_event_seen": 1,
    "last_event": "message_stop",
    "events": 12,
    "bytes_in": 3456,
    "bytes_out": 3400,
    "http_status": 200,
    "upstream_request_id": "req_1",
    "time_to_first_event": 0.5,
}

CLOSED_ROW = EVIDENCE_ROW | {
    "ended_at": 1_700_000_002.25,
    "duration": 2.0,
    "termination": "completed",
    "cause": "clean",
    "error": None,
    "message_id": "msg_1",
    "response_model": "claude-4",
    "stop_reason": "end_turn",
    "usage_source": "provider_final",
}


def test_an_opened_interception_has_no_end(store, rows):
    write(store, opened(INTERCEPTION))
    assert rows("interceptions") == [OPENED_ROW | dict.fromkeys(CLOSED_ROW)]


@pytest.mark.parametrize(
    "batches",
    [
        [[opened(INTERCEPTION)], [closed(INTERCEPTION, OUTCOME)]],
        [[opened(INTERCEPTION), closed(INTERCEPTION, OUTCOME)]],
        [[opened(INTERCEPTION)], [closed(INTERCEPTION, OUTCOME)], [closed(INTERCEPTION, FAILED)]],
        [[opened(INTERCEPTION), closed(INTERCEPTION, OUTCOME), closed(INTERCEPTION, FAILED)]],
        [[opened(INTERCEPTION)], [opened(INTERCEPTION), closed(INTERCEPTION, OUTCOME)]] * 2,
    ],
    ids=["in turn", "at once", "two ends", "two ends at once", "all twice"],
)
def test_a_closed_interception_is_one_whole_row(store, rows, batches):
    for batch in batches:
        write(store, *batch)
    assert rows("interceptions") == [OPENED_ROW | CLOSED_ROW]
    assert rows("token_usages") == [
        {
            "interception_id": INTERCEPTION.id,
            "created_at": 1_700_000_002.25,
            "message_id": "msg_1",
            "input_tokens": 10,
            "output_tokens": 20,
            "cache_read_input_tokens": 30,
            "cache_creation_input_tokens": None,
            "usage_source": "provider_final",
            "extras": '{"web_search_requests":1}',
        }
    ]


def test_a_failed_interception(store, rows):
    write(store, opened(INTERCEPTION), closed(INTERCEPTION, FAILED))
    assert rows("interceptions") == [
        OPENED_ROW
        | CLOSED_ROW
        | {"termination": "upstream_error", "cause": "truncated", "error": "its words", "usage_source": "none"}
    ]
    assert rows("token_usages") == []


def test_attempts(store, rows):
    second = ATTEMPT._replace(number=2)
    write(store, attempted(INTERCEPTION, ATTEMPT))
    write(store, attempted(INTERCEPTION, ATTEMPT), attempted(INTERCEPTION, second))
    first, other = rows("attempts")
    assert first == EVIDENCE_ROW | {
        "interception_id": INTERCEPTION.id,
        "number": 1,
        "origin": "https://bedrock",
        "started_at": 1_700_000_000.5,
        "duration": 1.5,
        "termination": "completed",
        "cause": "clean",
        "error": None,
    }
    assert other["number"] == 2


def test_what_clients_and_upstreams_choose_is_bounded(store, rows):
    interception = INTERCEPTION._replace(model="ü" * 5000, user_agent="\udcff")
    outcome = OUTCOME._replace(usage=Usage(10**30, -(10**30)))
    write(store, opened(interception), closed(interception, outcome))
    [row] = rows("interceptions")
    assert (row["model"], row["user_agent"]) == ("ü" * 512, "?")
    [usage] = rows("token_usages")
    assert (usage["input_tokens"], usage["output_tokens"]) == (2**63 - 1, 1 - 2**63)


def test_a_batch_is_kept_whole_or_not_at_all(store, rows):
    good, _ = rows_of([opened(INTERCEPTION)], "journal-1")
    with pytest.raises(StoreRefused):
        store.write({**good, "attempts": [["1", 1, {}, *[None] * 13]]}, "journal-1", 1)
    assert rows("interceptions") == rows("journals") == []
    write(store, closed(INTERCEPTION, OUTCOME))
    assert len(rows("interceptions")) == 1


def test_a_locked_file_is_away_for_now(monkeypatch, path, rows):
    monkeypatch.setattr("aibridge.stores.sqlite._BUSY_TIMEOUT_MS", 1)
    with closing(SQLiteStore(path)) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match="locked"):
                write(store, opened(INTERCEPTION))
            other.execute("ROLLBACK")
        write(store, opened(INTERCEPTION))
    assert len(rows("interceptions")) == 1


def test_a_full_disk_is_away_for_now_and_leaves_nothing_by_half(store, rows):
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    many = [opened(INTERCEPTION._replace(id=str(number))) for number in range(500)]
    with pytest.raises(StoreUnavailable, match="full"):
        write(store, *many)
    assert rows("interceptions") == []
    store._db.execute("PRAGMA max_page_count = 100000")
    write(store, *many)
    assert len(rows("interceptions")) == 500


def test_readers_do_not_wait_for_a_writer(store, path):
    store._db.execute("BEGIN IMMEDIATE")
    with closing(sqlite3.connect(path, timeout=0)) as db:
        assert db.execute("SELECT count(*) FROM interceptions").fetchone() == (0,)
    store._db.execute("ROLLBACK")


def test_a_file_is_used_again(path):
    with closing(SQLiteStore(path)) as store:
        write(store, opened(INTERCEPTION))
    with closing(SQLiteStore(path)) as store:
        write(store, closed(INTERCEPTION, OUTCOME))
        assert store._db.execute("SELECT count(*), max(ended_at) FROM interceptions").fetchone() == (
            1,
            1_700_000_002.25,
        )
        assert store._db.execute("PRAGMA user_version").fetchone() == (base.SCHEMA_VERSION,)
        assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_two_processes_may_write(path, store, rows):
    with closing(SQLiteStore(path)) as other:
        write(other, opened(INTERCEPTION))
        write(store, closed(INTERCEPTION, OUTCOME))
    assert rows("interceptions") == [OPENED_ROW | CLOSED_ROW]


def test_an_older_file_is_migrated(path, monkeypatch):
    SQLiteStore(path).close()
    newer = base.SCHEMA_VERSION + 2
    monkeypatch.setattr("aibridge.stores.sqlite.SCHEMA_VERSION", newer)
    steps = {
        newer - 2: ("ALTER TABLE interceptions ADD COLUMN one TEXT",),
        newer - 1: ("ALTER TABLE interceptions ADD COLUMN two TEXT",),
    }
    monkeypatch.setattr("aibridge.stores.sqlite.MIGRATIONS", steps)
    with closing(SQLiteStore(path)) as store:
        assert store._db.execute("SELECT one, two FROM interceptions").fetchall() == []
        assert store._db.execute("PRAGMA user_version").fetchone() == (newer,)
    SQLiteStore(path).close()


VERSION_1 = """
CREATE TABLE interceptions (id TEXT, started_at DOUBLE PRECISION, actor_id TEXT, actor_name TEXT, credential_kind TEXT,
    credential_hint TEXT, provider TEXT, provider_kind TEXT, dialect TEXT, route TEXT, request_path TEXT, method TEXT,
    model TEXT, upstream_model TEXT, streaming BIGINT, client TEXT, user_agent TEXT, request_bytes BIGINT,
    traceparent TEXT, ended_at DOUBLE PRECISION, duration DOUBLE PRECISION, termination TEXT, cause TEXT, error TEXT,
    terminal_event_seen BIGINT, last_event TEXT, events BIGINT, bytes_in BIGINT, bytes_out BIGINT, http_status BIGINT,
    upstream_request_id TEXT, time_to_first_event DOUBLE PRECISION, message_id TEXT, response_model TEXT,
    stop_reason TEXT, usage_source TEXT, PRIMARY KEY (id));
CREATE INDEX interceptions_started_at ON interceptions (started_at);
CREATE TABLE attempts (interception_id TEXT, number BIGINT, origin TEXT, started_at DOUBLE PRECISION,
    duration DOUBLE PRECISION, termination TEXT, cause TEXT, error TEXT, terminal_event_seen BIGINT, last_event TEXT,
    events BIGINT, bytes_in BIGINT, bytes_out BIGINT, http_status BIGINT, upstream_request_id TEXT,
    time_to_first_event DOUBLE PRECISION, PRIMARY KEY (interception_id, number));
CREATE TABLE token_usages (interception_id TEXT, created_at DOUBLE PRECISION, message_id TEXT, usage_source TEXT,
    input_tokens BIGINT, output_tokens BIGINT, cache_read_input_tokens BIGINT, cache_creation_input_tokens BIGINT,
    extras TEXT, PRIMARY KEY (interception_id));
INSERT INTO interceptions (id, started_at) VALUES ('old', 1.0);
PRAGMA user_version = 1;
"""


def test_a_file_of_version_1_is_brought_up_to_date(path):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_1)
    with closing(SQLiteStore(path)) as store:
        write(store, opened(INTERCEPTION), attempted(INTERCEPTION, ATTEMPT), closed(INTERCEPTION, OUTCOME))
        assert store.journals_left_open() == [""]
        assert [left.interception.id for left in store.left_open("")] == ["old"]
        migrated = {row[1] for row in store._db.execute("PRAGMA table_info(interceptions)")}
    assert migrated == {column.name for column in base.INTERCEPTIONS.columns}


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    SQLiteStore(path).close()
    with monkeypatch.context() as patch:
        patch.setattr("aibridge.stores.sqlite.SCHEMA_VERSION", base.SCHEMA_VERSION + 1)
        steps = {base.SCHEMA_VERSION: ("ALTER TABLE interceptions ADD COLUMN one TEXT", "no SQL at all")}
        patch.setattr("aibridge.stores.sqlite.MIGRATIONS", steps)
        with pytest.raises(StoreUnavailable, match="syntax error"):
            SQLiteStore(path)
    with closing(SQLiteStore(path)) as store:
        assert "one" not in {row[1] for row in store._db.execute("PRAGMA table_info(interceptions)")}


def test_a_newer_file_is_refused(path, store):
    store._db.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreRefused, match="is of version 999"):
        SQLiteStore(path)


def test_what_is_no_database_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreRefused, match="not a database"):
        SQLiteStore(path)


def test_a_place_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        SQLiteStore(tmp_path / "file" / "x.db")
    with pytest.raises(StoreUnavailable, match="unable to open"):
        SQLiteStore(tmp_path)


def test_a_closed_store_refuses(path):
    store = SQLiteStore(path)
    store.close()
    store.close()
    with pytest.raises(StoreRefused):
        write(store, opened(INTERCEPTION))


def test_the_tables_name_each_column_once():
    for table in base.TABLES:
        names = [column.name for column in table.columns]
        assert len(names) == len(set(names))
        assert set(table.key) <= set(names)


# --- journals -------------------------------------------------------------------------------------------------------


def test_how_far_a_journal_is_read_is_kept_with_the_rows(store, path):
    assert store.position("journal-1") == 0
    write(store, opened(INTERCEPTION), position=100)
    store.write({}, "journal-1", 200, durable=True)
    store.write({}, "journal-2", 5)
    with closing(SQLiteStore(path)) as other:
        assert (other.position("journal-1"), other.position("journal-2")) == (200, 5)
    store.forget_all_but({"journal-2"})
    assert (store.position("journal-1"), store.position("journal-2")) == (0, 5)


def test_a_durable_write_syncs_and_the_next_does_not(store):
    told = []
    store._db.set_trace_callback(told.append)
    store.write({}, "journal-1", 1, durable=True)
    assert (told[0], told[-1]) == ("PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL")
    assert store._db.execute("PRAGMA synchronous").fetchone() == (1,)


def test_what_is_left_open_is_told_with_what_its_last_attempt_had_seen(store):
    first = ATTEMPT._replace(number=1, evidence=Evidence(bytes_in=1))
    second = ATTEMPT._replace(number=2, evidence=EVIDENCE)
    other = INTERCEPTION._replace(id="other", actor=Actor("bob"))
    write(store, opened(INTERCEPTION), opened(other), attempted(INTERCEPTION, first), attempted(INTERCEPTION, second))
    assert store.journals_left_open() == ["journal-1"]
    left = {one.interception.id: one for one in store.left_open("journal-1")}
    assert left == {INTERCEPTION.id: (INTERCEPTION, EVIDENCE), "other": (other, Evidence())}
    outcome = crashed(left[INTERCEPTION.id], INTERCEPTION.started_at + 7)
    assert (outcome.cause, outcome.duration, outcome.evidence) == (Cause.CRASHED, 7, EVIDENCE)
    assert crashed(left["other"], 0.0).ended_at == other.started_at
    write(store, closed(INTERCEPTION, outcome))
    assert [one.interception.id for one in store.left_open("journal-1")] == ["other"]


def test_an_entry_of_another_program_is_not_taken():
    for text in (b"[1.5,1]", b'[1.5,"nowhere",["x"]]', b'{"a":1}', b"[1.5", b"7"):
        with pytest.raises((AibridgeError, LookupError, TypeError, ValueError)):
            rows_of([opened(INTERCEPTION), text], "journal-1")


def test_extras_of_any_name_and_size_are_kept():
    extras = (("first", 2**70), ("", 1), ("\udcff", 0), ('",""', 3))
    outcome = OUTCOME._replace(usage=Usage(1, extras=extras))
    rows, _ = rows_of([opened(INTERCEPTION), closed(INTERCEPTION, outcome)], "journal-1")
    (usage,) = rows["token_usages"]
    assert json.loads(usage[-1]) == {**dict(extras), "first": 2**63 - 1}


def test_texts_that_look_like_nothing_are_kept():
    interception = INTERCEPTION._replace(user_agent=',"",""', model='a"b', client="")
    rows, at = rows_of([opened(interception)], "journal-1")
    row = dict(zip(base.OPENED_COLUMNS, rows["interceptions"][0], strict=True))
    assert (row["user_agent"], row["model"], row["client"], at) == (',"",""', 'a"b', None, INTERCEPTION.started_at)
