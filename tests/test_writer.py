"""The writer: from the journal's files into the store, patiently, and what dead processes left is ended."""

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from record_kit import ATTEMPT, INTERCEPTION, OUTCOME, numbered, record_of

from aibridge.journal import Fsync, Journal, names_in
from aibridge.lifecycle import Cause
from aibridge.recorder import Recorder
from aibridge.stores.base import StoreRefused, StoreUnavailable
from aibridge.stores.entries import attempted_parts, closed_parts, entry, opened_parts, progressed_parts, rows_of
from aibridge.stores.sqlite import SQLiteStore
from aibridge.values import (
    Evidence,
)
from aibridge.writer import Writer


class Shelf:
    """A store in memory, whose faults are told it one by one; each write waits for the gate."""

    def __init__(self):
        self.kept, self.batches, self.faults, self.durable = [], [], [], []
        self.gate, self.entered, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.gate.set()
        self.refused, self.positions = set(), {}

    def write(self, rows, journal, position, *, durable=False):
        self.entered.set()
        assert self.gate.wait(10)
        if self.faults:
            raise self.faults.pop(0)
        ids = [row[0] for row in rows.get("interceptions", ())]
        if self.refused & set(ids):
            raise StoreRefused("poison")
        self.positions[journal] = position
        if ids:
            self.batches.append(len(ids))
        if durable:
            self.durable.append(position)
        self.kept += ids

    def position(self, journal):
        return self.positions.get(journal, 0)

    def forget_all_but(self, _journals):
        pass

    def journals_left_open(self):
        return []

    def left_open(self, _journal):
        return []

    def close(self):
        self.closed.set()


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journal"


@pytest.fixture
def dropped():
    return []


@pytest.fixture
def start(shelf, folder, dropped):
    started = []

    def start(*, max_bytes=1 << 30, **options):
        journal = Journal(folder, max_bytes=max_bytes, fsync=Fsync.NEVER)
        options = {"gather": 0.001, "first_backoff": 0.001} | options
        writer = Writer(shelf, journal, on_dropped=dropped.append, on_crashed=pytest.fail, **options)
        started.append(writer)
        return writer, journal

    yield start
    shelf.gate.set()
    for writer in started:
        writer.close(0.1)


def tell(writer, journal, *numbers):
    for number in numbers:
        journal.append(entry(1.0, opened_parts(numbered(number))))
        writer.wake()


def test_what_is_appended_is_kept_in_order(start, shelf):
    writer, journal = start()
    tell(writer, journal, *range(1000))
    assert writer.flush(10)
    assert shelf.kept == [str(number) for number in range(1000)]


def test_an_entry_needs_nobody_who_waits_for_it(start, shelf):
    writer, journal = start()
    assert writer.flush(10)
    shelf.entered.clear()
    tell(writer, journal, 1)
    assert shelf.entered.wait(10)


def test_a_batch_is_bounded_and_memory_holds_no_more(start, shelf):
    writer, journal = start()
    shelf.gate.clear()
    tell(writer, journal, *range(5000))
    shelf.gate.set()
    assert writer.flush(10)
    assert sum(shelf.batches) == 5000
    assert max(shelf.batches) < 1500


def test_a_flush_gives_up_at_its_time(start, shelf):
    writer, journal = start()
    shelf.gate.clear()
    tell(writer, journal, 1)
    assert not writer.flush(0.01)
    assert writer.backlog > 0


def test_a_segment_goes_once_it_is_durable_in_the_store(start, shelf, folder):
    writer, journal = start(max_bytes=40_000)
    for number in range(200):
        tell(writer, journal, number)
        assert writer.flush(10)
    assert len(list(folder.glob("*.log"))) == 1
    assert len(shelf.durable) > journal.extent.bases[0] // 10_000 > 1
    assert journal.end - journal.extent.bases[0] < 40_000


def test_a_store_that_is_away_is_asked_again_and_nothing_is_lost(start, shelf, caplog):
    writer, journal = start()
    assert writer.flush(10)
    shelf.faults = [StoreUnavailable("locked")] * 5
    tell(writer, journal, 1)
    assert writer.flush(10)
    assert shelf.kept == ["1"]
    assert [record.message for record in caplog.records] == ["the store is away", "the store is back"]
    assert caplog.records[0].fields["error"] == "locked"
    assert caplog.records[0].fields["journal_bytes"] > 0


def test_how_long_the_oldest_entry_waits_is_told(start, shelf):
    writer, journal = start()
    assert writer.flush(10)
    assert writer.age == 0
    shelf.gate.clear()
    tell(writer, journal, 1)
    assert 0 < writer.age < 10
    shelf.gate.set()
    assert writer.flush(10)
    assert writer.age == 0


def test_one_entry_that_is_refused_takes_no_other_with_it(start, shelf, dropped, caplog):
    shelf.refused = {"3"}
    writer, journal = start()
    shelf.gate.clear()
    tell(writer, journal, *range(6))
    shelf.gate.set()
    assert writer.flush(10)
    assert shelf.kept == ["0", "1", "2", "4", "5"]
    assert dropped == [1]
    assert caplog.records[0].fields == {"journal": journal.name, "error": "poison"}


def test_an_entry_that_nobody_understands_takes_no_other_with_it(start, shelf, dropped):
    writer, journal = start()
    shelf.gate.clear()
    tell(writer, journal, 1)
    for text in (b"no JSON", b'[1,"nowhere",[1]]', b"[]"):
        journal.append(text)
    tell(writer, journal, 2)
    shelf.gate.set()
    assert writer.flush(10)
    assert shelf.kept == ["1", "2"]
    assert sum(dropped) == 3


def test_a_bug_in_the_store_does_not_end_the_writer(start, shelf, dropped):
    writer, journal = start()
    assert writer.flush(10)
    shelf.faults = [RuntimeError("bug")] * 2  # of the batch, and of the entry alone
    tell(writer, journal, 1)
    assert writer.flush(10)
    tell(writer, journal, 2)
    assert writer.flush(10)
    assert shelf.kept == ["2"]
    assert dropped == [1]


def test_a_store_that_refuses_everything_is_broken_and_nothing_is_dropped(start, shelf, dropped):
    writer, journal = start()
    assert writer.flush(10)
    shelf.faults = [StoreRefused("malformed")] * 1_000_000
    tell(writer, journal, 1)
    assert not writer.flush(0.2)
    assert dropped == []


def test_entries_that_are_broken_are_told_and_passed_over(start, shelf, folder, dropped, caplog):
    writer, journal = start()
    assert writer.flush(10)
    shelf.gate.clear()
    shelf.entered.clear()  # the start was written, too
    tell(writer, journal, 1, 2)
    assert shelf.entered.wait(10)
    tell(writer, journal, 3, 4)
    (segment,) = folder.glob("*.log")
    with segment.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    shelf.gate.set()
    assert writer.flush(10)
    assert set(shelf.kept) >= {"1", "2"}
    assert "4" not in shelf.kept
    assert [record.message for record in caplog.records] == ["a journal has entries that cannot be read"]
    assert dropped == [1]


def test_a_journal_that_cannot_be_read_is_tried_again(start, shelf, folder, monkeypatch, caplog):
    writer, journal = start()
    assert writer.flush(10)
    with monkeypatch.context() as patch:
        patch.setattr("aibridge.writer.Reader.read", lambda *_: (folder / "nowhere").stat())
        tell(writer, journal, 1)
        assert not writer.flush(0.1)
    assert writer.flush(10)
    assert shelf.kept == ["1"]
    assert [record.message for record in caplog.records] == ["a journal cannot be brought into the store"]


def test_closing_writes_what_is_left_and_removes_the_journal(start, shelf, folder):
    writer, journal = start(gather=60)
    tell(writer, journal, *range(10))
    writer.close(10)
    assert len(shelf.kept) == 10
    assert shelf.closed.is_set()
    assert list(folder.iterdir()) == []
    assert writer.flush(0)


def test_closing_leaves_to_the_next_start_what_the_store_does_not_take(start, shelf, folder, dropped, caplog):
    writer, journal = start()
    assert writer.flush(10)
    shelf.faults = [StoreUnavailable("locked")] * 1_000_000
    tell(writer, journal, *range(10))
    writer.close(0.05)
    assert shelf.closed.is_set()
    assert dropped == []
    assert names_in(folder) == {journal.name}
    assert caplog.records[-1].message == "records wait in the journal for the next start"
    shelf.faults = []
    later, _ = start()
    assert later.flush(10)
    assert shelf.kept == [str(number) for number in range(10)]
    assert names_in(folder) == {later._journal.name}


# --- with a real file, and real processes ---------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.db"


@pytest.fixture
def crashes():
    return []


@pytest.fixture
def record(path, folder, crashes):
    """Return a function that starts a recorder on the file."""
    started = []

    def tell(interception, outcome, _):
        crashes.append((interception.id, outcome))

    def record(on_crashed=tell):
        journal = Journal(folder, max_bytes=1 << 30, fsync=Fsync.NEVER)
        started.append(Recorder(SQLiteStore(path), journal, on_crashed=on_crashed, gather=0.001, first_backoff=0.001))
        return started[-1]

    yield record
    for recorder in started:
        recorder.close(0.1)


def rows(path, columns="*"):
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f"SELECT {columns} FROM interceptions ORDER BY id")]


def test_a_file_locked_by_another_for_a_while(path, record, monkeypatch):
    monkeypatch.setattr("aibridge.stores.sqlite._BUSY_TIMEOUT_MS", 1)
    recorder = record()
    assert recorder.flush()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        recorder.opened(INTERCEPTION)
        recorder.closed(INTERCEPTION, OUTCOME)
        assert not recorder.flush(timeout=0.05)
        other.execute("ROLLBACK")
    assert recorder.flush()
    assert rows(path, "id, termination") == [{"id": "1", "termination": "completed"}]


def leave(folder, *entries):
    """Leave a journal as a process that was killed does; returns its name."""
    journal = Journal(folder, max_bytes=1 << 30, fsync=Fsync.NEVER)
    for text in entries:
        journal.append(text)
    journal.close(remove=False)
    return journal.name


def began(number, **fields):
    return entry(1.0, opened_parts(numbered(number)._replace(**fields)))


def test_a_dead_process_s_journal_is_read_to_its_end_and_what_it_left_open_is_ended(folder, path, record, crashes):
    attempt = ATTEMPT._replace(cause=Cause.CONNECTION_RESET, evidence=Evidence(bytes_in=7, http_status=200))
    name = leave(
        folder,
        began("ended"),
        began("left"),
        began("tried", started_at=2e9),
        entry(2.0, attempted_parts(numbered("tried"), attempt)),
        entry(2.0, closed_parts(numbered("ended"), OUTCOME)),
    )
    for file in folder.iterdir():
        os.utime(file, (5.0, 5.0))
    recorder = record()
    assert recorder.flush()
    columns = "id, started_at, ended_at, duration, termination, cause, error, bytes_in, http_status, journal"
    nothing = {"bytes_in": 0, "http_status": None, "journal": name}
    words = "the gateway's process ended before the answer did"
    left = {"termination": "gateway_error", "cause": "crashed", "error": words}
    assert rows(path, columns) == [
        nothing
        | {"id": "ended", "started_at": 1.0, "ended_at": 2.0, "duration": 1.0}
        | {"termination": "completed", "cause": "clean", "error": None},
        nothing | left | {"id": "left", "started_at": 1.0, "ended_at": 5.0, "duration": 4.0},
        nothing
        | left
        | {"id": "tried", "started_at": 2e9, "ended_at": 2e9, "duration": 0.0, "bytes_in": 7, "http_status": 200},
    ]
    assert [(id_, outcome.cause) for id_, outcome in crashes] == [("left", Cause.CRASHED), ("tried", Cause.CRASHED)]
    assert names_in(folder) == {recorder._journal.name}


def progressed(number, events):
    seen = Evidence(last_event="content_block_delta", events=events, bytes_in=7, http_status=200)
    return entry(1.5, progressed_parts(numbered(number), seen))


def test_of_what_was_left_open_it_is_told_what_was_noted_last(folder, path, record, crashes):
    tried = entry(2.0, attempted_parts(numbered("tried"), ATTEMPT._replace(evidence=Evidence(events=1))))
    leave(
        folder,
        *(began(number) for number in ("ended", "noted", "tried")),
        *(progressed(number, events) for events in (8, 9) for number in ("ended", "noted", "tried", "nobody's")),
        tried,
        entry(2.0, closed_parts(numbered("ended"), OUTCOME._replace(evidence=Evidence(events=10)))),
    )
    assert record().flush()
    noted = {"events": 9, "last_event": "content_block_delta", "http_status": 200}
    assert rows(path, "id, cause, events, last_event, http_status") == [
        {"id": "ended", "cause": "clean", "events": 10, "last_event": None, "http_status": None},
        {"id": "noted", "cause": "crashed"} | noted,
        {"id": "tried", "cause": "crashed"} | noted,
    ]
    assert {id_: outcome.evidence.events for id_, outcome in crashes} == {"noted": 9, "tried": 9}


def test_a_note_changes_no_end_and_is_seen_while_it_runs(path):
    with closing(SQLiteStore(path)) as store:
        store.write(rows_of([began(1), progressed(1, 8)], "journal")[0], "journal", 1)
        assert rows(path, "events, ended_at") == [{"events": 8, "ended_at": None}]
        store.write(rows_of([entry(2.0, closed_parts(numbered(1), OUTCOME))], "journal")[0], "journal", 2)
        store.write(rows_of([progressed(1, 9)], "journal")[0], "journal", 3)
    assert rows(path, "events, ended_at") == [{"events": 0, "ended_at": 2.0}]


def test_what_was_in_the_store_already_is_ended_too(folder, path, record):
    name = leave(folder, began("left"))
    with closing(SQLiteStore(path)) as store:
        store.write(rows_of([began("left"), began("forgotten")], name)[0], name, 10_000)
        store.write(rows_of([began("nobody's")], "gone")[0], "gone", 10)
    assert record().flush()
    assert {row["id"]: row["cause"] for row in rows(path)} == dict.fromkeys(
        ["left", "forgotten", "nobody's"], "crashed"
    )


def test_a_cut_tail_is_told_and_the_rest_is_kept(folder, path, record, caplog):
    leave(folder, began(1), began(2))
    (segment,) = folder.glob("*.log")
    segment.write_bytes(segment.read_bytes()[:-5])
    assert record().flush()
    assert [row["id"] for row in rows(path)] == ["1"]
    assert caplog.records[0].message == "a journal has entries that cannot be read"


def test_a_journal_of_another_version_waits_for_the_program_that_knows_it(folder, record, caplog):
    name = leave(folder, began(1))
    (segment,) = folder.glob("*.log")
    data = b"AIBJRNL9" + segment.read_bytes()[8:]
    segment.write_bytes(data)
    recorder = record()
    recorder.opened(INTERCEPTION)
    assert recorder.flush()
    recorder.close()
    assert segment.read_bytes() == data
    assert names_in(folder) == {name}
    assert "another version" in caplog.text


def test_a_journal_that_cannot_be_taken_keeps_nobody_waiting(folder, path, record, caplog):
    name = leave(folder, began("locked in"))
    (segment,) = folder.glob("*.log")
    segment.unlink()
    segment.mkdir()
    leave(folder, began("left"))
    recorder = record()
    recorder.opened(INTERCEPTION)
    assert recorder.flush()
    assert {row["id"]: row["cause"] for row in rows(path)} == {"left": "crashed", "1": None}
    assert name in names_in(folder)
    assert "a journal cannot be brought into the store" in [record.message for record in caplog.records]


def test_what_a_living_process_holds_is_left_alone(path, record, crashes):
    alive = record()
    alive.opened(INTERCEPTION)
    assert alive.flush()
    other = record()
    assert other.flush()
    assert rows(path, "cause") == [{"cause": None}]
    alive.closed(INTERCEPTION, OUTCOME)
    assert alive.flush()
    assert rows(path, "cause") == [{"cause": "clean"}]
    assert crashes == []


def test_a_sibling_that_dies_is_found_by_one_that_lives(folder, path, record, monkeypatch):
    monkeypatch.setattr("aibridge.writer.LOOK_AGAIN_S", 0.0)
    found = threading.Event()
    alive = record(on_crashed=lambda *_: found.set())
    assert alive.flush()
    alive.opened(INTERCEPTION)
    leave(folder, began("left"))
    alive.writer.wake()
    assert found.wait(10)
    assert alive.flush()
    assert {row["id"]: row["cause"] for row in rows(path)} == {"left": "crashed", "1": None}


def test_a_dead_journal_is_gone_on_with_from_where_the_store_has_it(folder, path, record):
    name = leave(folder, began(1), began(2))
    size = next(folder.glob("*.log")).stat().st_size
    with closing(SQLiteStore(path)) as store:
        store.write({}, name, size)  # as if both were there, and had been deleted since
    assert record().flush()
    assert rows(path) == []


def test_a_store_that_lost_its_last_second_with_the_machine_s_power_gets_it_again(folder, path, record):
    entries = [began(number) for number in range(4)]
    name = leave(folder, *entries)
    with closing(SQLiteStore(path)) as store:
        position = len("AIBJRNL1") + sum(8 + len(text) for text in entries[:2])
        store.write(rows_of(entries[:3], name)[0], name, position)
    assert record().flush()
    assert [row["id"] for row in rows(path)] == ["0", "1", "2", "3"]


def test_a_sign_of_life_is_given_also_while_the_store_is_away(path, record, monkeypatch):
    monkeypatch.setattr("aibridge.stores.sqlite._BUSY_TIMEOUT_MS", 1)
    monkeypatch.setattr("aibridge.writer.TICK_S", 0.001)
    said = threading.Event()
    recorder = record()
    assert recorder.flush()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        recorder.opened(INTERCEPTION)
        monkeypatch.setattr(recorder._journal, "say_alive", said.set)
        assert said.wait(10)
        other.execute("ROLLBACK")


def test_many_interceptions_from_a_file_to_the_other(path, record):
    recorder = record()
    for number in range(1000):
        recorder.opened(numbered(number))
        recorder.attempted(numbered(number), ATTEMPT)
        recorder.closed(numbered(number), OUTCOME)
    assert recorder.flush(30)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*), count(ended_at) FROM interceptions").fetchone() == (1000, 1000)
        assert db.execute("SELECT count(*) FROM attempts").fetchone() == (1000,)


def test_attempts_of_the_version_before_are_read(folder, tmp_path):
    """They say nothing of who was asked, and nor does the end."""
    left = Journal(folder, max_bytes=1 << 20)
    for line in (Path(__file__).with_name("stores") / "version_6.jsonl").read_bytes().splitlines():
        left.append(line)
    left.close(remove=False)
    recorder = Recorder(SQLiteStore(tmp_path / "r.db"), Journal(folder, max_bytes=1 << 20))
    assert recorder.flush(10)
    recorder.close()
    row = record_of(tmp_path / "r.db", "0198c0de-0000-7000-8000-000000000004")
    assert (row["provider"], row["answered_by"], row["answered_kind"], row["answered_model"]) == (
        "anthropic", "anthropic", None, None,
    )  # fmt: skip
    assert (row["termination"], row["input_tokens"], row["cost_nanodollars"]) == ("completed", 10, 330000)
    with closing(sqlite3.connect(tmp_path / "r.db")) as db:
        columns = "number, cause, http_status, output_tokens, provider, upstream_model, credential_kind"
        assert db.execute(f"SELECT {columns} FROM attempts ORDER BY number").fetchall() == [
            (1, "http_status", 529, None, None, None, None),
            (2, "clean", 200, 20, None, None, None),
        ]


@pytest.mark.parametrize(
    ("version", "note", "counts"),
    [(3, None, (None, None)), (4, "missing_done", (None, None)), (5, "missing_done", ("provider_final", 10))],
)
def test_what_an_older_program_left_is_read(folder, tmp_path, version, note, counts):
    left = Journal(folder, max_bytes=1 << 20)
    recorded = Path(__file__).with_name("stores") / f"version_{version}.jsonl"
    for line in recorded.read_bytes().splitlines():
        left.append(line)
    left.close(remove=False)

    recorder = Recorder(SQLiteStore(tmp_path / "r.db"), Journal(folder, max_bytes=1 << 20))
    assert recorder.flush(10)
    recorder.close()
    row = record_of(tmp_path / "r.db", "0198c0de-0000-7000-8000-000000000003")
    expected = {"termination": "completed", "cause": "clean", "stop_reason": "end_turn"}
    expected |= {"usage_source": "provider_final"}
    expected |= {"events": 9, "upstream_request_id": "req_1", "time_to_first_event": 0.5, "message_id": "msg_1"}
    expected |= {"input_tokens": 10, "output_tokens": 20, "note": note}
    expected |= {"cost_nanodollars": None, "unpriced": None}
    assert row["usage"]["price_version"] is None
    assert {name: row[name] for name in expected} == expected
    with closing(sqlite3.connect(tmp_path / "r.db")) as db:
        columns = "number, origin, cause, time_to_first_event, note, usage_source, input_tokens"
        assert db.execute(f"SELECT {columns} FROM attempts").fetchall() == [
            (1, "https://api.anthropic.com", "clean", 0.5, note, *counts)
        ]
