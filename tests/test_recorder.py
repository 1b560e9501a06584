"""The recorder: in the journal before anybody is told, and by the policy where that cannot be."""

import sqlite3
from contextlib import closing

import pytest
from record_kit import ATTEMPT, INTERCEPTION, OUTCOME, numbered

from aibridge.errors import RecordingFailed
from aibridge.journal import Fsync, Journal, JournalError, Reader, names_in
from aibridge.jsontext import loads
from aibridge.lifecycle import Cause
from aibridge.recorder import MAX_LATE, OnFailure, Recorder
from aibridge.stores.sqlite import SQLiteStore
from aibridge.values import (
    Evidence,
    Usage,
    UsageSource,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.db"


@pytest.fixture
def dropped():
    return []


@pytest.fixture
def start(path, dropped):
    started = []

    def start(*, max_bytes=1 << 30, **options):
        journal = Journal(path.with_name("journal"), max_bytes=max_bytes, fsync=Fsync.NEVER)
        options = {"gather": 0.001, "first_backoff": 0.001, "on_dropped": dropped.append} | options
        started.append(Recorder(SQLiteStore(path), journal, **options))
        return started[-1]

    yield start
    for recorder in started:
        recorder.close(0.1)


@pytest.fixture
def full(monkeypatch):
    """Return a switch: as long as it is on, the journal cannot be written to."""

    class Full:
        def __init__(self):
            self.on = True

    switch, true_append = Full(), Journal.append

    def append(self, payload, *, beyond=False):
        if switch.on:
            raise JournalError("the disk is full")
        true_append(self, payload, beyond=beyond)

    monkeypatch.setattr(Journal, "append", append)
    return switch


def entries_of(recorder):
    """Return what stands in the journal now, whatever the store has: the names in each entry."""
    journal = recorder._journal
    return [loads(entry)[1::2] for entry in Reader(journal.folder, journal.name).read(journal.extent, 1 << 20).entries]


def ids_and_ends(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT id, cause FROM interceptions ORDER BY id").fetchall()


def test_each_step_stands_in_the_journal_when_the_call_returns(start):
    recorder = start(gather=60)
    recorder.opened(INTERCEPTION)
    assert entries_of(recorder) == [["interceptions"]]
    recorder.attempted(INTERCEPTION, ATTEMPT._replace(cause=Cause.CONNECTION_RESET))
    assert entries_of(recorder) == [["interceptions"], ["attempts"]]
    recorder.attempted(INTERCEPTION, ATTEMPT._replace(number=2))
    recorder.closed(INTERCEPTION, OUTCOME._replace(usage=Usage(1), usage_source=UsageSource.PROVIDER_FINAL))
    assert entries_of(recorder)[2:] == [["attempts", "ends", "token_usages"]]


def test_it_is_in_the_store_after_a_flush(start, path):
    recorder = start()
    recorder.opened(INTERCEPTION)
    recorder.attempted(INTERCEPTION, ATTEMPT)
    recorder.closed(INTERCEPTION, OUTCOME)
    assert recorder.flush()
    assert ids_and_ends(path) == [("1", "clean")]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT interception_id, number FROM attempts").fetchall() == [("1", 1)]


def test_a_good_attempt_of_one_is_not_told_with_the_end_of_another(start, path):
    recorder = start()
    for number in (1, 2):
        recorder.opened(numbered(number))
    recorder.attempted(numbered(1), ATTEMPT)
    recorder.closed(numbered(2), OUTCOME)
    recorder.closed(numbered(1), OUTCOME)
    assert recorder.flush()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT interception_id FROM attempts").fetchall() == [("1",)]


def test_a_good_attempt_that_is_not_the_last_is_told_at_once(start, path):
    recorder = start()
    recorder.opened(numbered(1))
    for number, last in ((1, False), (2, False), (3, True)):
        recorder.attempted(numbered(1), ATTEMPT._replace(number=number, last=last))
    assert sum("attempts" in names for names in entries_of(recorder)) == 2
    recorder.closed(numbered(1), OUTCOME)
    assert recorder.flush()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT number FROM attempts ORDER BY number").fetchall() == [(1,), (2,), (3,)]


def test_by_default_a_beginning_that_is_lost_is_counted_and_told_with_the_end(start, path, full, dropped, caplog):
    recorder = start()
    recorder.opened(INTERCEPTION)
    recorder.opened(numbered(2))
    assert dropped == [1, 1]
    full.on = False
    recorder.closed(INTERCEPTION, OUTCOME)
    assert recorder.flush()
    assert ids_and_ends(path) == [("1", "clean")]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT started_at FROM interceptions").fetchall() == [(1.0,)]
    assert [record.message for record in caplog.records] == ["records are being lost", "records are kept again"]
    assert caplog.records[0].fields == {"reason": "the disk is full"}


def test_where_it_must_be_recorded_a_beginning_that_is_lost_is_raised(start, full, dropped, path):
    recorder = start(on_failure=OnFailure.FAIL_CLOSED)
    with pytest.raises(RecordingFailed, match="the disk is full"):
        recorder.opened(INTERCEPTION)
    recorder.closed(INTERCEPTION, OUTCOME._replace(cause=Cause.RECORDING_FAILED))
    assert dropped == [1, 1]
    full.on = False
    recorder.opened(numbered(2))
    assert recorder.flush()
    assert ids_and_ends(path) == [("2", None)]


def test_a_note_that_is_lost_is_no_loss(start, full, dropped, path):
    full.on = False
    recorder = start()
    recorder.opened(INTERCEPTION)
    full.on = True
    recorder.progressed(INTERCEPTION, Evidence(events=7))
    full.on = False
    recorder.progressed(INTERCEPTION, Evidence(events=8))
    assert recorder.flush()
    assert dropped == []
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT events FROM interceptions").fetchall() == [(8,)]


def test_notes_leave_half_of_the_journal_to_what_begins(start, path, dropped):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        recorder = start(max_bytes=20_000, on_failure=OnFailure.FAIL_CLOSED)
        other.execute("BEGIN EXCLUSIVE")
        for events in range(300):
            recorder.progressed(INTERCEPTION, Evidence(events=events))
        assert 10_000 < recorder._journal.end < 10_500
        for number in range(20):
            recorder.opened(numbered(number))
        other.execute("ROLLBACK")
    assert recorder.flush()
    assert (len(ids_and_ends(path)), dropped) == (20, [])


def test_an_end_waits_for_room(start, full, dropped, path):
    full.on = False
    recorder = start()
    for number in range(3):
        recorder.opened(numbered(number))
    full.on = True
    for number in range(3):
        recorder.closed(numbered(number), OUTCOME)
    assert dropped == []
    full.on = False
    recorder.opened(numbered(3))
    assert recorder.flush()
    assert ids_and_ends(path) == [("0", "clean"), ("1", "clean"), ("2", "clean"), ("3", None)]


def test_an_end_that_waits_is_written_at_the_stop(start, full, path):
    full.on = False
    recorder = start()
    recorder.opened(INTERCEPTION)
    full.on = True
    recorder.closed(INTERCEPTION, OUTCOME)
    full.on = False
    recorder.close()
    assert ids_and_ends(path) == [("1", "clean")]


def test_of_ends_not_all_can_wait(start, full, dropped):
    assert full.on
    recorder = start()
    for number in range(MAX_LATE + 5):
        recorder.closed(numbered(number), OUTCOME)
    assert sum(dropped) == 5
    recorder.close(0.1)
    assert sum(dropped) == MAX_LATE + 5


def begin_until_refused(recorder):
    for number in range(1000):
        try:
            recorder.opened(numbered(number))
        except RecordingFailed as error:
            assert "bound" in str(error)  # noqa: PT017 - which number it is counts
            return number
    raise AssertionError("nothing was refused")


def test_past_the_bound_beginnings_are_lost_and_ends_are_kept(start, path, dropped):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        recorder = start(max_bytes=2000, on_failure=OnFailure.FAIL_CLOSED)
        assert recorder.flush()
        other.execute("BEGIN IMMEDIATE")
        begun = begin_until_refused(recorder)
        for number in range(begun):
            recorder.attempted(numbered(number), ATTEMPT._replace(cause=Cause.CONNECTION_RESET))
            recorder.closed(numbered(number), OUTCOME)
        refused = numbered(begun)
        recorder.closed(refused, OUTCOME)
        assert sum(dropped) == 2  # of the one that was refused, beginning and end: refusals do not fill the disk
        other.execute("ROLLBACK")
    assert recorder.flush()
    assert ids_and_ends(path) == [(str(number), "clean") for number in range(begun)]
    recorder.opened(numbered("later"))


def test_what_cannot_be_said_in_json_is_counted_and_harms_nothing_else(start, dropped, path):
    recorder = start()
    recorder.opened(numbered(1)._replace(request_bytes=object()))
    recorder.opened(INTERCEPTION)
    recorder.attempted(INTERCEPTION, ATTEMPT._replace(cause=Cause.TRUNCATED, origin=object()))
    recorder.closed(INTERCEPTION, OUTCOME._replace(message_id=object()))
    assert dropped == [1, 1, 1]
    assert recorder.flush()
    assert ids_and_ends(path) == [("1", None)]


def test_texts_are_cut_before_they_are_in_the_journal(start):
    recorder = start(gather=60)
    recorder.opened(INTERCEPTION._replace(model="x" * 1_000_000, user_agent="\udcff"))
    assert recorder._journal.end < 2000


def test_what_is_told_after_the_close_is_counted_as_lost(start, dropped, tmp_path):
    recorder = start()
    recorder.close()
    recorder.close()
    recorder.opened(INTERCEPTION)
    recorder.closed(INTERCEPTION, OUTCOME)
    assert dropped == [1, 1]
    assert names_in(tmp_path / "journal") == set()
