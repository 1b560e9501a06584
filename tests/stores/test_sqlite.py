"""The SQLite store: what a row holds, that nothing is kept twice or by half, and what it says when it cannot."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from record_kit import AN_AGENTS, an_attempt, an_outcome, attempted, closed, learned, opened, record_of, write

from aibridge.errors import AibridgeError
from aibridge.lifecycle import TERMINATION_OF, Cause
from aibridge.stores import base, migrations, sqlite
from aibridge.stores.base import ATTEMPTS, StoreRefused, StoreUnavailable
from aibridge.stores.entries import crashed, rows_of
from aibridge.stores.inserting import Insert
from aibridge.stores.sqlite import SQLiteStore, prune
from aibridge.sums import sum_of
from aibridge.values import (
    Actor,
    Address,
    Cost,
    Credential,
    CredentialKind,
    Evidence,
    Thought,
    ToolRun,
    ToolUse,
    Usage,
    UsageSource,
    UserPrompt,
)

INTERCEPTION = AN_AGENTS._replace(
    credential=Credential(CredentialKind.BYOK, "sk-a...efgh"),
    provider="bedrock-eu",
    provider_kind="bedrock",
    request_path="/bedrock-eu/v1/messages",
    upstream_model="eu.anthropic.claude",
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
    note="missing_done",
)

OUTCOME = an_outcome(
    ended_at=1_700_000_002.25,
    duration=2.0,
    evidence=EVIDENCE,
    usage=Usage(10, 20, 30, None, (("web_search_requests", 1),), "batch", "us"),
    usage_source=UsageSource.PROVIDER_FINAL,
    message_id="msg_1",
    response_model="claude-4",
    stop_reason="end_turn",
    cost=Cost(12345, "2026-01-01.abcdef01"),
)

FAILED = OUTCOME._replace(
    termination=TERMINATION_OF[Cause.TRUNCATED],
    cause=Cause.TRUNCATED,
    error="its words",
    usage=Usage(),
    usage_source=UsageSource.NONE,
)

ATTEMPT = an_attempt(origin="https://bedrock", started_at=1_700_000_000.5, duration=1.5, evidence=EVIDENCE)


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
    "journal": "journal-1",
    "session_id": None,
    "correlating_tool_call_id": None,
    "thread_parent_id": None,
    "thread_root_id": None,
    "answered_by": None,
    "answered_kind": None,
    "answered_model": None,
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
    "note": "missing_done",
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
            "service_tier": "batch",
            "region": "us",
            "turns": None,
            "cost_nanodollars": 12345,
            "price_version": "2026-01-01.abcdef01",
            "unpriced": None,
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
        "message_id": "msg_1",
        "usage_source": "provider_final",
        "input_tokens": None,
        "output_tokens": None,
        "cache_read_input_tokens": None,
        "cache_creation_input_tokens": None,
        "provider": None,
        "provider_kind": None,
        "upstream_model": None,
        "credential_kind": None,
        "credential_hint": None,
    }
    assert (other["number"], other["input_tokens"], other["output_tokens"]) == (2, 5, 7)


ADDRESS = Address("bedrock-us", "bedrock", "us.claude", Credential(CredentialKind.CENTRALIZED, "AKIA...9"), "claude")
ASKED = ("bedrock-us", "bedrock", "us.claude", "centralized", "AKIA...9")
WHO = ("provider", "provider_kind", "upstream_model", "credential_kind", "credential_hint")


def test_who_was_asked_where_that_is_another(store, rows):
    """Of the only attempt as of one of several, which tells its counts too; and at the end, in both ways it is kept."""
    alone, second = ATTEMPT._replace(address=ADDRESS), ATTEMPT._replace(number=2, address=ADDRESS)
    write(store, opened(INTERCEPTION), attempted(INTERCEPTION, alone), attempted(INTERCEPTION, second))
    write(store, closed(INTERCEPTION, OUTCOME._replace(address=ADDRESS)))
    other = INTERCEPTION._replace(id="another")
    write(store, opened(other), closed(other, OUTCOME._replace(address=ADDRESS)))
    first, later = rows("attempts")
    assert [tuple(row[name] for name in WHO) for row in (first, later)] == [ASKED, ASKED]
    assert (first["output_tokens"], later["output_tokens"]) == (None, 7)
    for row in rows("interceptions"):
        assert (row["provider"], row["upstream_model"]) == (INTERCEPTION.provider, INTERCEPTION.upstream_model)
        assert (row["answered_by"], row["answered_kind"], row["answered_model"]) == ASKED[:3]
        assert (row["note"], row["usage_source"]) == (OUTCOME.evidence.note or None, OUTCOME.usage_source)


def test_an_attempt_s_counts_fit_their_columns(store, rows):
    write(store, attempted(INTERCEPTION, ATTEMPT._replace(number=2, usage=Usage(10**30, -(10**30)))))
    [row] = rows("attempts")
    assert (row["input_tokens"], row["output_tokens"]) == (2**63 - 1, 1 - 2**63)


# content


RAN = ToolRun(ToolUse("toolu_3", "Read", "{}"), "files", 0.25, "refused", "x" * 5000, 2, 345)


def facts_of(interception, at=1_700_000_000.25):
    return [
        learned(interception, UserPrompt("hello"), "", 3, at),
        learned(interception, Thought("hm", "thinking"), "msg_1", 4, at + 0.75),
        learned(interception, ToolUse("toolu_1", "Read", '{"path":"/x"}'), "msg_1", 5, at + 1.25),
        learned(interception, ToolUse("toolu_2", "Read", ""), "msg_1", 6, at + 1.5),
        learned(interception, RAN, "msg_1", 7, at + 2),
    ]


FACTS = facts_of(INTERCEPTION)


@pytest.mark.parametrize("batches", [[FACTS], [[fact] for fact in FACTS], [FACTS, FACTS]], ids=["1", "each", "twice"])
def test_facts_of_the_content(store, rows, batches):
    for batch in batches:
        write(store, *batch)
    head = {"interception_id": INTERCEPTION.id}
    assert rows("user_prompts") == [head | {"created_at": 1_700_000_000.25, "prompt": "hello"}]
    assert rows("model_thoughts") == [
        head
        | {"number": 4, "created_at": 1_700_000_001.0, "message_id": "msg_1", "source": "thinking", "thought": "hm"}
    ]
    ran = {"server": "files", "latency": 0.25, "arguments_bytes": 2, "result_bytes": 345}
    head |= {"message_id": "msg_1", "tool": "Read", "error": None} | dict.fromkeys(ran)
    *others, last = rows("tool_usages")
    assert len(last["error"].encode()) == 1024
    assert last == head | ran | {
        "number": 7,
        "created_at": 1_700_000_002.25,
        "tool_call_id": "toolu_3",
        "arguments": "{}",
        "error": last["error"],
    }
    assert others == [
        head | {"number": 5, "created_at": 1_700_000_001.5, "tool_call_id": "toolu_1", "arguments": '{"path":"/x"}'},
        head | {"number": 6, "created_at": 1_700_000_001.75, "tool_call_id": "toolu_2", "arguments": None},
    ]


def test_facts_of_any_text(store, rows):
    long = "é" * 131_072 + " […cut]"
    write(store, learned(INTERCEPTION, UserPrompt(long), "", 1, 1.0))
    write(store, learned(INTERCEPTION, ToolUse("\ud800", "\0", "\udfff\0"), "m" * 5000, 1, 1.0))
    assert rows("user_prompts")[0]["prompt"] == long
    [tool] = rows("tool_usages")
    assert (tool["tool_call_id"], tool["tool"], tool["arguments"]) == ("?", "\0", "?\0")
    assert tool["message_id"] == "m" * 1024


# threads


def turn(number, answers="", actor="alice", calls=()):
    """Return the records of an interception that answers a tool call, and calls tools itself."""
    one = INTERCEPTION._replace(
        id=f"0198c0de-{number:04}", correlating_tool_call_id=answers, actor=Actor(actor), started_at=float(number)
    )
    tools = [learned(one, ToolUse(call, "Read", ""), "", place, number + 0.5) for place, call in enumerate(calls)]
    return [opened(one), *tools, closed(one, OUTCOME)]


def lineage(rows):
    short = {None: None} | {f"0198c0de-{number:04}": number for number in range(20)}
    return {
        short[row["id"]]: (short[row["thread_parent_id"]], short[row["thread_root_id"]])
        for row in rows("interceptions")
    }


THREAD = [turn(1, calls=["a", "b"]), turn(2, "b", calls=["c"]), turn(3, "c"), turn(4, calls=["d"]), turn(5, "d")]


@pytest.mark.parametrize("together", [True, False])
def test_threads(store, rows, together):
    records = [record for one in THREAD for record in one]
    for batch in [records] if together else [[record] for record in records]:
        write(store, *batch)
    assert lineage(rows) == {1: (None, None), 2: (1, 1), 3: (2, 1), 4: (None, None), 5: (4, 4)}


def test_the_latest_caller_is_the_parent(store, rows):
    for one in (turn(1, calls=["a"]), turn(2, calls=["a"]), turn(3, "a")):
        write(store, *one)
    assert lineage(rows)[3] == (2, 2)


def test_a_tool_call_that_nobody_made_begins_a_thread(store, rows):
    write(store, *turn(1, "nowhere", calls=["x"]), *turn(2, "x"))
    assert lineage(rows) == {1: (None, None), 2: (1, 1)}


def test_nobody_gets_into_anothers_thread(store, rows):
    write(store, *turn(1, calls=["a"]), *turn(2, "a", actor="mallory"))
    assert lineage(rows)[2] == (None, None)


def test_threads_close_no_circle(store, rows):
    write(store, *turn(1, "b", calls=["a"]), *turn(2, "a", calls=["b", "a"]))
    assert lineage(rows) == {1: (None, None), 2: (1, 1)}
    write(store, *turn(1, "b"))
    assert lineage(rows) == {1: (None, None), 2: (1, 1)}


def test_a_parent_that_is_written_late_is_found_at_the_end(store, rows):
    """As where two processes write into one file."""
    first, last = turn(2, "a")
    write(store, first)
    write(store, *turn(1, calls=["a"]))
    assert lineage(rows)[2] == (None, None)
    write(store, last)
    assert lineage(rows)[2] == (1, 1)


# deleting


def everything(number, started_at):
    one = INTERCEPTION._replace(id=str(number), started_at=started_at)
    attempt = attempted(one, ATTEMPT._replace(started_at=started_at))
    return [opened(one), *facts_of(one, started_at), attempt, closed(one, OUTCOME)]


def test_what_is_old_is_deleted_a_little_at_a_time(store, path, rows):
    for number in range(10):
        write(store, *everything(number, 100.0 + number))
    assert [prune(path, 107.0, most=3) for _ in range(4)] == [3, 3, 1, 0]
    for table in base.OF_INTERCEPTIONS:
        assert {row[table.key[0]] for row in rows(table.name)} == {"7", "8", "9"}, table.name


def test_what_has_not_ended_stays_and_is_whole_at_its_end(store, path, rows):
    first, *others, last = everything(1, 100.0)
    write(store, first, *others)
    assert prune(path, 200.0) == 0
    write(store, last)
    [row] = rows("interceptions")
    assert (row["started_at"], row["ended_at"]) == (100.0, OUTCOME.ended_at)
    assert prune(path, 200.0) == 1


def test_what_belongs_to_nothing_is_deleted_by_its_own_age(store, path, rows):
    write(store, *everything(1, 100.0)[1:-1])
    write(store, *everything(2, 200.0)[1:-1])
    write(store, *everything(3, 200.0))
    assert prune(path, 150.0) == 1
    assert prune(path, 150.0) == 0
    for table in (base.ATTEMPTS, base.USER_PROMPTS, base.TOOL_USAGES, base.MODEL_THOUGHTS):
        assert {row["interception_id"] for row in rows(table.name)} == {"2", "3"}


def test_what_lost_its_beginning_is_as_old_as_its_end(store, path, rows):
    for number, ended_at in ((1, 100.0), (2, 200.0)):
        first, *others, _ = everything(number, ended_at)
        assert first
        write(store, *others, closed(INTERCEPTION._replace(id=str(number)), OUTCOME._replace(ended_at=ended_at)))
    assert prune(path, 150.0) == 1
    for table in base.OF_INTERCEPTIONS:
        assert {row[table.key[0]] for row in rows(table.name)} == {"2"}, table.name


def test_nothing_is_deleted_from_a_file_of_another_version(store, path, rows):
    """It may keep more than would be deleted."""
    write(store, *everything(1, 100.0))
    store._db.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreRefused, match="is of version 999"):
        prune(path, 200.0)
    assert len(rows("user_prompts")) == 1


def test_what_was_deleted_is_in_the_file_no_more(path):
    with closing(SQLiteStore(path)) as store:
        secret = learned(INTERCEPTION._replace(id="1"), Thought("a secret thought", "x"), "", 99, 100.0)
        write(store, *everything(1, 100.0), secret)
    assert b"a secret thought" in path.read_bytes()
    assert prune(path, 200.0) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no log beside it either
    assert b"a secret thought" not in path.read_bytes()


def test_deleting_waits_for_no_reader_and_for_one_writer(monkeypatch, store, path, rows):
    monkeypatch.setattr("aibridge.stores.sqlite._BUSY_TIMEOUT_MS", 1)
    write(store, *everything(1, 100.0))
    store._db.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        prune(path, 200.0)
    store._db.execute("ROLLBACK")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM interceptions").fetchone()
        assert prune(path, 200.0) == 1
    assert rows("interceptions") == []


# versions

VERSION_1 = (Path(__file__).parent / "version_1.sql").read_text()


@pytest.fixture(params=[1, 2, 3, 4, 5, 6])
def older(path, request):
    """Return a file of an older version."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_1)
        for version in range(1, request.param):
            for statement in migrations.MIGRATIONS[version]:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {request.param}")
    return path


def schema(path):
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        columns = {name: sorted(row[1:] for row in db.execute(f"PRAGMA table_info({name})")) for name in tables}
        indexes = db.execute("SELECT tbl_name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
        return columns, indexes


def test_an_older_file_becomes_as_a_new_one_is(older, tmp_path):
    SQLiteStore(older).close()
    SQLiteStore(tmp_path / "new.db").close()
    assert schema(older) == schema(tmp_path / "new.db")


def test_an_older_file_keeps_what_it_has_and_takes_more(older):
    with closing(SQLiteStore(older)) as store:
        old = record_of(older, INTERCEPTION.id)
        assert (old["client"], old["output_tokens"], old["session_id"]) == ("Claude Code", 20, None)
        running = INTERCEPTION._replace(id=INTERCEPTION.id[:-1] + "2")
        write(store, closed(running, OUTCOME), facts_of(running)[0])
        assert record_of(older, running.id)["termination"] == "completed"
        assert store._db.execute("SELECT prompt FROM user_prompts").fetchall() == [("hello",)]
        assert store.journals_left_open() == []


def test_a_reader_says_of_which_version_a_file_is(older):
    with pytest.raises(StoreRefused, match=r"is of version [1-6]; `aibridge serve` of this program brings it to"):
        record_of(older, INTERCEPTION.id)


def test_a_reader_tells_a_file_that_holds_no_records(tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE others (id)")
    with pytest.raises(StoreRefused, match=r"other\.db: no gateway has kept records there"):
        record_of(tmp_path / "other.db", INTERCEPTION.id)


def test_what_clients_and_upstreams_choose_is_bounded(store, rows):
    interception = INTERCEPTION._replace(model="ü" * 5000, user_agent="\udcff")
    outcome = OUTCOME._replace(usage=Usage(10**30, -(10**30)))
    write(store, opened(interception), closed(interception, outcome))
    [row] = rows("interceptions")
    assert (row["model"], row["user_agent"]) == ("ü" * 512, "?")
    [usage] = rows("token_usages")
    assert (usage["input_tokens"], usage["output_tokens"]) == (2**63 - 1, 1 - 2**63)


@pytest.mark.parametrize("row", [["1", 1, {}, *[None] * 25], ["1", 1]], ids=["a value of no type", "a row too short"])
def test_a_batch_is_kept_whole_or_not_at_all(store, rows, row):
    good, _ = rows_of([opened(INTERCEPTION)], "journal-1")
    with pytest.raises(StoreRefused):
        store.write({**good, "attempts": [row]}, "journal-1", 1)
    assert rows("interceptions") == rows("journals") == []
    write(store, closed(INTERCEPTION, OUTCOME))
    assert len(rows("interceptions")) == 1


def test_a_column_is_written_from_the_first_row_on_that_has_a_value_there(monkeypatch, store, rows):
    monkeypatch.setitem(sqlite._INSERTS, "attempts", Insert("attempts", [one.name for one in ATTEMPTS.columns]))
    late = ATTEMPT._replace(error="late", address=ADDRESS)
    for batch in ([(1, ATTEMPT), (2, ATTEMPT)], [(3, ATTEMPT), (4, late)], [(5, ATTEMPT)]):
        write(store, *[attempted(INTERCEPTION._replace(id=str(number)), attempt) for number, attempt in batch])
    found = [(row["origin"], row["error"], row["provider"]) for row in rows("attempts")]
    plain = ("https://bedrock", None, None)
    assert found == [plain, plain, plain, ("https://bedrock", "late", "bedrock-us"), plain]


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
    seen = EVIDENCE._replace(note="")  # what is noted is told of an end only
    second = ATTEMPT._replace(number=2, evidence=seen)
    other = INTERCEPTION._replace(id="other", actor=Actor("bob"))
    write(store, opened(INTERCEPTION), opened(other), attempted(INTERCEPTION, first), attempted(INTERCEPTION, second))
    assert store.journals_left_open() == ["journal-1"]
    left = {one.interception.id: one for one in store.left_open("journal-1")}
    assert left == {INTERCEPTION.id: (INTERCEPTION, seen), "other": (other, Evidence())}
    outcome = crashed(left[INTERCEPTION.id], INTERCEPTION.started_at + 7)
    assert (outcome.cause, outcome.duration, outcome.evidence) == (Cause.CRASHED, 7, seen)
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
    assert json.loads(usage[base.EXTRAS]) == {**dict(extras), "first": 2**63 - 1}


def test_the_turns_of_a_sum_are_kept_apart(store, rows):
    turns = (Usage(1, 2, None, None, (("a", 1), ("b", 2)), "batch", ""), Usage(3, None, 4, 5, (), "", "us"))
    outcome = OUTCOME._replace(usage=sum_of(*turns), turns=turns)
    write(store, opened(INTERCEPTION), closed(INTERCEPTION, outcome))
    [row] = rows("token_usages")
    assert (row["input_tokens"], row["service_tier"], row["region"]) == (4, "batch", "us")
    assert json.loads(row["turns"]) == [
        [1, 2, None, None, [["a", 1], ["b", 2]], "batch", None],
        [3, None, 4, 5, [], None, "us"],
    ]


def test_texts_that_look_like_nothing_are_kept():
    interception = INTERCEPTION._replace(user_agent=',"",""', model='a"b', client="")
    rows, at = rows_of([opened(interception)], "journal-1")
    row = dict(zip(base.OPENED_COLUMNS, rows["interceptions"][0], strict=True))
    assert (row["user_agent"], row["model"], row["client"], at) == (',"",""', 'a"b', None, INTERCEPTION.started_at)
