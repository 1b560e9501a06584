"""The recorder: off the caller's path, in order, bounded, and patient with a store that is away."""

import sqlite3
import threading
from contextlib import closing

import pytest

from aibridge.lifecycle import Cause, Health, Termination
from aibridge.recorder import Recorder
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
    id="1",
    started_at=1.0,
    actor=Actor("alice"),
    credential=Credential(CredentialKind.CENTRALIZED, "..."),
    provider="anthropic",
    provider_kind="anthropic",
    dialect="messages",
    route="/v1/messages",
    request_path="/anthropic/v1/messages",
    method="POST",
    model="claude",
    upstream_model="claude",
    streaming=True,
    client="Unknown",
    user_agent="",
    request_bytes=1,
)
OUTCOME = Outcome(
    termination=Termination.COMPLETED,
    cause=Cause.CLEAN,
    error="",
    ended_at=2.0,
    duration=1.0,
    evidence=Evidence(),
    health=Health.SUCCESS,
    usage=Usage(),
    usage_source=UsageSource.NONE,
    message_id="",
    response_model="",
    stop_reason="",
)
ATTEMPT = Attempt(
    number=1,
    origin="",
    started_at=1.0,
    duration=1.0,
    termination=Termination.COMPLETED,
    cause=Cause.CLEAN,
    error="",
    evidence=Evidence(),
)


def numbered(number):
    return INTERCEPTION._replace(id=str(number))


class Shelf:
    """A store in memory, whose faults are told it one by one; each write waits for the gate."""

    def __init__(self):
        self.kept, self.batches, self.faults = [], [], []
        self.gate, self.entered, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.gate.set()
        self.refused = set()

    def write(self, records):
        self.entered.set()
        assert self.gate.wait(10)
        if self.faults:
            raise self.faults.pop(0)
        if any(record.interception.id in self.refused for record in records):
            raise StoreRefused("poison")
        self.batches.append(len(records))
        self.kept += records

    def close(self):
        self.closed.set()


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def start(shelf):
    started = []

    def start(**options):
        recorder = Recorder(shelf, **{"gather": 0.01, "first_backoff": 0.001} | options)
        started.append(recorder)
        return recorder

    yield start
    shelf.gate.set()
    for recorder in started:
        recorder.close(0.1)


def test_what_is_told_is_kept_in_order(start, shelf):
    recorder = start()
    recorder.opened(INTERCEPTION)
    recorder.attempted(INTERCEPTION, ATTEMPT)
    recorder.closed(INTERCEPTION, OUTCOME)
    assert recorder.flush()
    assert shelf.kept == [Opened(INTERCEPTION), Attempted(INTERCEPTION, ATTEMPT), Closed(INTERCEPTION, OUTCOME)]


def test_the_caller_does_not_wait_for_the_store(start, shelf):
    recorder = start()
    shelf.gate.clear()
    for number in range(1000):
        recorder.opened(numbered(number))
    assert shelf.kept == []
    shelf.gate.set()
    assert recorder.flush()
    assert [record.interception.id for record in shelf.kept] == [str(number) for number in range(1000)]


def test_what_gathers_is_written_at_once_but_never_too_much(start, shelf):
    recorder = start(gather=0)
    shelf.gate.clear()
    recorder.opened(INTERCEPTION)
    assert shelf.entered.wait(10)
    for number in range(2500):
        recorder.opened(numbered(number))
    shelf.gate.set()
    assert recorder.flush()
    assert shelf.batches[0] == 1
    assert max(shelf.batches) == 1000
    assert sum(shelf.batches) == 2501


def test_a_record_needs_nobody_who_waits_for_it(start, shelf):
    start().opened(INTERCEPTION)
    assert shelf.entered.wait(10)


def test_flushing_nothing_returns(start):
    assert start().flush()


def test_a_flush_gives_up_at_its_time(start, shelf):
    recorder = start()
    shelf.gate.clear()
    recorder.opened(INTERCEPTION)
    assert not recorder.flush(timeout=0.01)


def test_past_the_bound_records_are_dropped_counted_and_spoken_of_once(start, shelf, caplog):
    dropped = []
    recorder = start(max_queued=10, on_dropped=dropped.append, gather=0)
    shelf.gate.clear()
    recorder.opened(numbered(0))
    assert shelf.entered.wait(10)
    for number in range(1, 25):
        recorder.opened(numbered(number))
    assert sum(dropped) == 15
    shelf.gate.set()
    assert recorder.flush()
    assert [record.interception.id for record in shelf.kept] == [str(number) for number in range(10)]
    recorder.opened(INTERCEPTION)
    assert recorder.flush()
    assert len(shelf.kept) == 11
    assert [record.message for record in caplog.records] == ["records are being lost", "records are kept again"]


def test_what_the_writer_holds_counts_for_the_bound(start, shelf):
    dropped = []
    recorder = start(max_queued=10, on_dropped=dropped.append, gather=0)
    shelf.gate.clear()
    recorder.opened(numbered("first"))
    assert shelf.entered.wait(10)
    for number in range(10):
        recorder.opened(numbered(number))
    assert dropped == [1]


def test_a_store_that_is_away_is_asked_again_and_nothing_is_lost(start, shelf, caplog):
    shelf.faults = [StoreUnavailable("locked")] * 5
    recorder = start()
    recorder.closed(INTERCEPTION, OUTCOME)
    assert recorder.flush()
    assert shelf.kept == [Closed(INTERCEPTION, OUTCOME)]
    assert [record.message for record in caplog.records] == ["the store is away", "the store is back"]
    assert caplog.records[0].fields == {"error": "locked"}


def test_one_record_that_is_refused_takes_no_other_with_it(start, shelf, caplog):
    dropped = []
    shelf.refused = {"3"}
    recorder = start(on_dropped=dropped.append)
    shelf.gate.clear()
    for number in range(6):
        recorder.opened(numbered(number))
    shelf.gate.set()
    assert recorder.flush()
    assert [record.interception.id for record in shelf.kept] == ["0", "1", "2", "4", "5"]
    assert dropped == [1]
    assert caplog.records[0].fields == {"reason": "poison"}


def test_a_bug_in_the_store_does_not_end_the_recorder(start, shelf):
    dropped = []
    shelf.faults = [RuntimeError("bug")]
    recorder = start(on_dropped=dropped.append)
    recorder.opened(numbered(1))
    assert recorder.flush()
    recorder.opened(numbered(2))
    assert recorder.flush()
    assert [record.interception.id for record in shelf.kept] == ["2"]
    assert dropped == [1]


def test_closing_writes_what_is_left_and_closes_the_store(start, shelf):
    recorder = start(gather=60)
    for number in range(10):
        recorder.opened(numbered(number))
    recorder.close()
    assert len(shelf.kept) == 10
    assert shelf.closed.is_set()
    recorder.close()
    assert recorder.flush()


def test_closing_gives_up_on_a_store_that_stays_away_and_counts_what_is_lost(start, shelf):
    dropped = []
    shelf.faults = [StoreUnavailable("locked")] * 1_000_000
    recorder = start(on_dropped=dropped.append)
    for number in range(2500):
        recorder.opened(numbered(number))
    recorder.close(timeout=0.05)
    assert sum(dropped) == 2500
    assert shelf.closed.is_set()


def test_what_is_told_after_the_close_is_counted_as_lost(start):
    dropped = []
    recorder = start(on_dropped=dropped.append)
    recorder.close()
    recorder.opened(INTERCEPTION)
    assert dropped == [1]


# --- with a real file -----------------------------------------------------------------------------------------------


def test_a_real_file_locked_by_another_process_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr("aibridge.stores.sqlite._BUSY_TIMEOUT_MS", 1)
    path = tmp_path / "aibridge.db"
    with closing(Recorder(SQLiteStore(path), gather=0, first_backoff=0.001)) as recorder:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            recorder.opened(INTERCEPTION)
            recorder.closed(INTERCEPTION, OUTCOME)
            assert not recorder.flush(timeout=0.05)
            other.execute("ROLLBACK")
        assert recorder.flush()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT id, termination FROM interceptions").fetchall() == [("1", "completed")]


def test_many_from_many_threads_are_all_there(tmp_path):
    path = tmp_path / "aibridge.db"
    with closing(Recorder(SQLiteStore(path), gather=0.001)) as recorder:

        def tell(thread):
            for number in range(250):
                interception = numbered(f"{thread}-{number}")
                recorder.opened(interception)
                recorder.attempted(interception, ATTEMPT)
                recorder.closed(interception, OUTCOME)

        threads = [threading.Thread(target=tell, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert recorder.flush(30)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*), count(ended_at) FROM interceptions").fetchone() == (1000, 1000)
        assert db.execute("SELECT count(*) FROM attempts").fetchone() == (1000,)
