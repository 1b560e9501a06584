"""The SQLite store: what a row holds, that nothing is kept twice or by half, and what it says when it cannot."""

import sqlite3
from contextlib import closing

import pytest

from aibridge.lifecycle import TERMINATION_OF, Cause, Health
from aibridge.stores import base
from aibridge.stores.base import Attempted, Closed, Opened, StoreRefused, StoreUnavailable
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
    "session_id": None,
    "correlating_tool_call_id": None,
    "thread_parent_id": None,
    "thread_root_id": None,
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
    store.write([Opened(INTERCEPTION)])
    assert rows("interceptions") == [OPENED_ROW | dict.fromkeys(CLOSED_ROW)]


@pytest.mark.parametrize(
    "batches",
    [
        [[Opened(INTERCEPTION)], [Closed(INTERCEPTION, OUTCOME)]],
        [[Opened(INTERCEPTION), Closed(INTERCEPTION, OUTCOME)]],
        [[Closed(INTERCEPTION, OUTCOME)]],
        [[Closed(INTERCEPTION, OUTCOME)], [Opened(INTERCEPTION)]],
        [[Closed(INTERCEPTION, OUTCOME)], [Closed(INTERCEPTION, FAILED)]],
        [[Opened(INTERCEPTION)], [Opened(INTERCEPTION), Closed(INTERCEPTION, OUTCOME)]] * 2,
    ],
    ids=["in turn", "at once", "opening lost", "late opening", "two ends", "all twice"],
)
def test_a_closed_interception_is_one_whole_row(store, rows, batches):
    for batch in batches:
        store.write(batch)
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
            "extras": '{"web_search_requests": 1}',
        }
    ]


def test_a_failed_interception(store, rows):
    store.write([Closed(INTERCEPTION, FAILED)])
    assert rows("interceptions") == [
        OPENED_ROW
        | CLOSED_ROW
        | {"termination": "upstream_error", "cause": "truncated", "error": "its words", "usage_source": "none"}
    ]
    assert rows("token_usages") == []


def test_attempts(store, rows):
    second = ATTEMPT._replace(number=2)
    store.write([Attempted(INTERCEPTION, ATTEMPT)])
    store.write([Attempted(INTERCEPTION, ATTEMPT), Attempted(INTERCEPTION, second)])
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
    store.write([Closed(interception, outcome)])
    [row] = rows("interceptions")
    assert (row["model"], row["user_agent"]) == ("ü" * 512, "?")
    [usage] = rows("token_usages")
    assert (usage["input_tokens"], usage["output_tokens"]) == (2**63 - 1, 1 - 2**63)


def test_a_batch_is_kept_whole_or_not_at_all(store, rows):
    poison = Closed(INTERCEPTION._replace(id="2"), OUTCOME._replace(ended_at=object()))
    with pytest.raises(StoreRefused):
        store.write([Closed(INTERCEPTION, OUTCOME), poison])
    assert rows("interceptions") == []
    store.write([Closed(INTERCEPTION, OUTCOME)])
    assert len(rows("interceptions")) == 1


def test_a_locked_file_is_away_for_now(monkeypatch, path, rows):
    monkeypatch.setattr("aibridge.stores.sqlite._BUSY_TIMEOUT_MS", 1)
    with closing(SQLiteStore(path)) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match="locked"):
                store.write([Opened(INTERCEPTION)])
            other.execute("ROLLBACK")
        store.write([Opened(INTERCEPTION)])
    assert len(rows("interceptions")) == 1


def test_a_full_disk_is_away_for_now_and_leaves_nothing_by_half(store, rows):
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    many = [Closed(INTERCEPTION._replace(id=str(number)), OUTCOME) for number in range(500)]
    with pytest.raises(StoreUnavailable, match="full"):
        store.write(many)
    assert rows("interceptions") == []
    store._db.execute("PRAGMA max_page_count = 100000")
    store.write(many)
    assert len(rows("interceptions")) == 500


def test_readers_do_not_wait_for_a_writer(store, path):
    store._db.execute("BEGIN IMMEDIATE")
    with closing(sqlite3.connect(path, timeout=0)) as db:
        assert db.execute("SELECT count(*) FROM interceptions").fetchone() == (0,)
    store._db.execute("ROLLBACK")


def test_a_file_is_used_again(path):
    with closing(SQLiteStore(path)) as store:
        store.write([Opened(INTERCEPTION)])
    with closing(SQLiteStore(path)) as store:
        store.write([Closed(INTERCEPTION, OUTCOME)])
        assert store._db.execute("SELECT count(*), max(ended_at) FROM interceptions").fetchone() == (
            1,
            1_700_000_002.25,
        )
        assert store._db.execute("PRAGMA user_version").fetchone() == (base.SCHEMA_VERSION,)
        assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_two_processes_may_write(path, store, rows):
    with closing(SQLiteStore(path)) as other:
        other.write([Opened(INTERCEPTION)])
        store.write([Closed(INTERCEPTION, OUTCOME)])
    assert rows("interceptions") == [OPENED_ROW | CLOSED_ROW]


def test_an_older_file_is_migrated(path, monkeypatch):
    SQLiteStore(path).close()
    now = base.SCHEMA_VERSION
    monkeypatch.setattr("aibridge.stores.sqlite.SCHEMA_VERSION", now + 2)
    steps = {
        now: ("ALTER TABLE interceptions ADD COLUMN one TEXT",),
        now + 1: ("ALTER TABLE interceptions ADD COLUMN two TEXT",),
    }
    monkeypatch.setattr("aibridge.stores.sqlite.MIGRATIONS", steps)
    with closing(SQLiteStore(path)) as store:
        assert store._db.execute("SELECT one, two FROM interceptions").fetchall() == []
        assert store._db.execute("PRAGMA user_version").fetchone() == (now + 2,)
    SQLiteStore(path).close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    SQLiteStore(path).close()
    with monkeypatch.context() as patch:
        now = base.SCHEMA_VERSION
        patch.setattr("aibridge.stores.sqlite.SCHEMA_VERSION", now + 1)
        steps = {now: ("ALTER TABLE interceptions ADD COLUMN one TEXT", "no SQL at all")}
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
        store.write([Opened(INTERCEPTION)])


def test_the_tables_name_each_column_once():
    for table in base.TABLES:
        names = [column.name for column in table.columns]
        assert len(names) == len(set(names))
        assert set(table.key) <= set(names)
