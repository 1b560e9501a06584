"""The carrier: a child does what the thread would do, and nothing is worse where there is none."""

import io
import os
import signal
import sqlite3
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest
from record_kit import ATTEMPT, INTERCEPTION, OUTCOME, numbered

import aibridge
from aibridge.carrier import _VERSION, Carrier, serve
from aibridge.journal import Extent, Fsync, Journal, JournalError, Reader, is_live
from aibridge.jsontext import dumps, loads
from aibridge.lifecycle import Cause
from aibridge.recorder import Recorder
from aibridge.stores.base import TABLES, StoreUnavailable
from aibridge.stores.carrying import Carried, carry
from aibridge.stores.entries import (
    attempted_parts,
    closed_parts,
    content_entry,
    entry,
    learned_parts,
    opened_parts,
    rows_of,
)
from aibridge.stores.sqlite import SQLiteStore
from aibridge.values import Thought, ToolUse, Usage, UsageSource, UserPrompt

USED = OUTCOME._replace(usage=Usage(1, 2, 3, 4, (("web_search", 5),)), usage_source=UsageSource.PROVIDER_FINAL)
FAILED = ATTEMPT._replace(cause=Cause.CONNECTION_RESET)
MOST = 1 << 18

LINUX = pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux tells what a process holds")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.db"


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal", max_bytes=40_000, fsync=Fsync.NEVER)
    yield journal
    journal.close(remove=False)


@pytest.fixture
def carrier(path):
    with closing(SQLiteStore(path)), closing(Carrier(path)) as carrier:
        yield carrier


@pytest.fixture
def carried(carrier, journal):
    """Return a function that lets the child take one step."""

    def take(position=0, idle=lambda: None):
        return carrier.carry(Reader(journal.folder, journal.name, position), journal.extent, MOST, idle)

    return take


@pytest.fixture
def child(carrier, carried):
    """Return the number of a running child."""
    carried()
    return carrier._child.process.pid


def began(number):
    return entry(1.0, opened_parts(numbered(number)))


def whole(number):
    """Return the entries of an interception with all that can belong to one."""
    one = numbered(number)
    facts = UserPrompt("what?"), ToolUse("toolu_1", "look", '{"a":"\\ud800"}'), Thought("hm", "thinking")
    return [
        entry(1.0, opened_parts(one)),
        *(content_entry(1.5, learned_parts(one, fact, "msg", at, 1.5)) for at, fact in enumerate(facts)),
        entry(1.7, attempted_parts(one, FAILED)),
        entry(2.0, attempted_parts(one, ATTEMPT._replace(number=2)) + closed_parts(one, USED)),
    ]


def contents(path):
    with closing(sqlite3.connect(path)) as db:
        return {table.name: sorted(db.execute(f"SELECT * FROM {table.name}")) for table in TABLES}


def ids(path):
    return [row[0] for row in contents(path)["interceptions"]]


def is_gone(pid):
    """Whether there is no such process, not even one that nobody waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def steps(take, journal):
    position, told = 0, []
    while position < journal.end:
        told.append(take(position))
        position = told[-1].position
    return told


def test_a_child_does_what_the_thread_does(tmp_path, path, journal, carried):
    for number in range(60):
        for text in whole(number):
            journal.append(text, beyond=True)
    assert len(journal.extent.bases) > 3
    other = tmp_path / "other.db"
    with closing(SQLiteStore(other)) as store:

        def here(position):
            return carry(store, Reader(journal.folder, journal.name, position), journal.extent, MOST)

        assert steps(carried, journal) == steps(here, journal)
    assert contents(path) == contents(other)
    assert {table: len(rows) for table, rows in contents(path).items()} == {
        "interceptions": 60, "attempts": 120, "token_usages": 60,
        "user_prompts": 60, "tool_usages": 60, "model_thoughts": 60, "journals": 1,
    }  # fmt: skip


def test_what_was_carried_twice_is_there_once(path, journal, carried):
    for text in whole(1):
        journal.append(text)
    assert carried() == carried() == Carried(journal.end, 2.0)
    assert len(contents(path)["attempts"]) == 2


def test_where_there_is_nothing_nothing_is_done(journal, carried):
    assert carried(journal.end) == Carried(journal.end)


def test_bytes_that_are_no_entries_are_told(journal, carried):
    journal.append(began(1))
    with next(journal.folder.glob("*.log")).open("r+b") as segment:
        segment.seek(-1, os.SEEK_END)
        segment.write(b"!")
    told = carried()
    assert told == Carried(journal.end, lost=journal.end - 8)


def test_a_refused_entry_is_told_and_nothing_of_its_batch_is_written(path, journal, carried):
    journal.append(began(1))
    journal.append(b'[1,"nowhere",[1]]')
    assert carried() == Carried(journal.end, refused="KeyError")
    assert ids(path) == []


def test_a_store_that_is_locked_is_unavailable_and_offered_again(path, journal, carried):
    journal.append(began(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            carried()
        other.execute("ROLLBACK")
    assert carried().position == journal.end
    assert ids(path) == ["1"]


def test_a_journal_that_cannot_be_read_is_told(journal, carried):
    segment = next(journal.folder.glob("*.log"))
    segment.write_bytes(b"AIBJRNL9" + b"0" * 20)
    journal.end += 20
    with pytest.raises(JournalError, match="another version"):
        carried()


def test_a_child_that_dies_is_replaced_later_and_said_once(journal, carrier, carried, child, monkeypatch, caplog):
    monkeypatch.setattr(carrier, "_backoff", 1e6)
    os.kill(child, signal.SIGKILL)
    assert carried() is None
    assert is_gone(child)
    assert carried() is None
    assert [record.fields for record in caplog.records] == [{"reason": "it ended with status -9"}]
    monkeypatch.setattr(carrier, "_not_before", 0.0)
    journal.append(began(1))
    assert carried().position == journal.end


def die(child):
    """Kill a process, and return when it is dead. Somebody else may be quicker to wait for it."""
    os.kill(child, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


def test_a_child_that_dies_while_nothing_is_asked_is_seen(carrier, child, caplog):
    carrier.look()
    assert carrier.running
    die(child)
    carrier.look()
    assert is_gone(child)
    assert not carrier.running
    assert [record.fields for record in caplog.records] == [{"reason": "it ended with status -9"}]


def test_a_child_imports_nothing_from_the_working_directory(tmp_path, carried, monkeypatch, caplog):
    for name in ("bisect", "sqlite3", "aibridge"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert carried() is not None
    assert caplog.records == []


def test_a_child_finds_the_program_where_its_parent_does(tmp_path, carried, monkeypatch, caplog):
    (tmp_path / "aibridge").symlink_to(Path(aibridge.__file__).parent)
    monkeypatch.setattr(sys, "executable", sys._base_executable)  # one that has nothing installed
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert carried() is not None
    assert caplog.records == []


def test_a_child_that_dies_with_a_request_at_hand(carried, child, caplog):
    os.kill(child, signal.SIGSTOP)
    assert carried(idle=lambda: os.kill(child, signal.SIGKILL)) is None
    assert is_gone(child)
    assert caplog.records[0].fields == {"reason": "it ended with status -9"}


def test_a_child_that_does_not_answer_is_ended(carried, child, monkeypatch, caplog):
    monkeypatch.setattr("aibridge.carrier.IDLE_S", 0.01)
    monkeypatch.setattr("aibridge.carrier.ANSWER_WITHIN_S", 0.05)
    os.kill(child, signal.SIGSTOP)
    assert carried() is None
    assert is_gone(child)
    assert "has not answered" in caplog.records[0].fields["reason"]


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_a_child_that_cannot_start(program, carrier, carried, monkeypatch, caplog):
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr("aibridge.carrier.FIRST_BACKOFF_S", 0.0)
    monkeypatch.setattr(carrier, "_backoff", 0.0)
    assert carried() is None
    assert carried() is None
    assert len(caplog.records) == 1
    assert not carrier.running


def test_tries_are_further_and_further_apart(carrier, carried, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    waits = []
    for _ in range(9):
        monkeypatch.setattr(carrier, "_not_before", 0.0)
        waits.append(carrier._backoff)
        assert carried() is None
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_child_of_another_version_is_not_used(carried, monkeypatch, caplog):
    monkeypatch.setattr("aibridge.carrier._VERSION", "0/0")
    assert carried() is None
    assert caplog.records[0].fields == {"reason": f"its version is {_VERSION}, and not 0/0"}


def test_what_idle_raises_is_passed_on_and_the_child_ended(carrier, carried, child, monkeypatch):
    monkeypatch.setattr("aibridge.carrier.IDLE_S", 0.01)
    os.kill(child, signal.SIGSTOP)
    with pytest.raises(ZeroDivisionError):
        carried(idle=lambda: 1 / 0)
    assert is_gone(child)
    assert not carrier.running


def test_closing_leaves_no_process(carrier, child):
    carrier.close()
    assert is_gone(child)
    carrier.close()


def test_a_child_ends_at_the_end_of_its_input(carrier, carried):
    carried()
    carrier._child.requests.close()
    assert carrier._child.process.wait(30) == 0


def test_who_stops_the_whole_group_does_not_stop_the_child(journal, carried, child):
    assert os.getpgid(child) != os.getpgid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child, number)
    journal.append(began(1))
    assert carried().position == journal.end


@LINUX
def test_a_child_holds_no_lock_of_a_journal(journal, child):
    assert is_live(journal.folder, journal.name)
    open_files = {str(link.readlink()) for link in Path(f"/proc/{child}/fd").iterdir()}
    assert not [name for name in open_files if str(journal.folder) in name]
    assert {name.partition(":")[0] for name in open_files if not name.startswith("/")} == {"pipe"}
    os.close(journal._lock)
    assert not is_live(journal.folder, journal.name)
    journal._lock = os.open(journal.folder, os.O_RDONLY)


@LINUX
def test_a_child_knows_no_secret(carrier, carried, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-canary")
    carried()
    told = [Path(f"/proc/{carrier._child.process.pid}/{name}").read_bytes() for name in ("environ", "cmdline")]
    assert b"canary" not in b"".join(told)


def test_a_bug_in_the_child_is_told_without_what_it_is_about(path, monkeypatch):
    def fail(*_):
        raise RuntimeError("what somebody said")

    monkeypatch.setattr("aibridge.carrier.carry", fail)
    answers = io.BytesIO()
    serve(path, [dumps(["folder", "name", 0, [0], 8, MOST])], answers)
    assert loads(answers.getvalue()) == ["failed", "RuntimeError"]


def test_a_request_is_short_whatever_waits(journal, carrier):
    said = []
    carrier._child = type("Child", (), {"requests": None})()
    bases = [base * 1000 for base in range(10_000)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "aibridge.carrier._ask", lambda _child, request, _idle: (said.append(request), ("carried", [1]))[1]
        )
        reader = Reader(journal.folder, journal.name, 5_000_500)
        carrier.carry(reader, Extent(bases, 10_000_000), MOST, lambda: None)
        carrier.carry(reader, Extent(bases[:5001], 5_000_900), MOST, lambda: None)
    carrier._child = None
    assert [loads(request)[3:5] for request in said] == [[[5_000_000, 5_001_000], 5_002_000], [[5_000_000], 5_000_900]]


# --- with the writer that decides -----------------------------------------------------------------------------------


@pytest.fixture
def record(path, tmp_path):
    """Return a function that starts a recorder whose first batch is a child's; `before` is called with its journal."""
    started = []

    def record(entries=(), **options):
        journal = Journal(tmp_path / "journal", max_bytes=1 << 30, fsync=Fsync.NEVER)
        for text in entries:
            journal.append(text)
        options = {"carrier": Carrier(path), "gather": 0.001, "first_backoff": 0.001} | options
        started.append(Recorder(SQLiteStore(path), journal, **options))
        return started[-1]

    yield record
    for recorder in started:
        recorder.close(10)


def test_little_needs_no_child(record):
    recorder = record()
    recorder.opened(INTERCEPTION)
    assert recorder.flush()
    assert not recorder.writer._carrier.running


def test_much_is_a_childs_and_from_then_on_all(record, path):
    recorder = record([began(number) for number in range(500)])
    assert recorder.flush()
    carrier = recorder.writer._carrier
    child = carrier._child.process.pid
    recorder.opened(numbered(1000))
    assert recorder.flush()
    assert (carrier._child.process.pid, len(ids(path))) == (child, 501)
    recorder.close()
    assert is_gone(child)


def test_an_idle_writer_leaves_no_zombie(record, monkeypatch):
    recorder = record([began(number) for number in range(500)])
    assert recorder.flush()
    carrier = recorder.writer._carrier
    child = carrier._child.process.pid
    die(child)
    true_fail, seen = carrier._fail, threading.Event()
    monkeypatch.setattr(carrier, "_fail", lambda error: (true_fail(error), seen.set()))
    assert seen.wait(30) or is_gone(child)
    assert is_gone(child)


@pytest.mark.parametrize("first", [500, 5], ids=["child", "thread"])
@pytest.mark.parametrize("left", [0, 3], ids=["removed", "replaced by an older one"])
def test_a_store_that_is_exchanged_gets_all_that_the_journal_has(first, left, record, path, caplog):
    older = path.with_name("older.db")
    with closing(SQLiteStore(older)) as store:
        store.write(rows_of([began(f"old{number}") for number in range(left)], "j")[0] if left else {}, "j", 1)
    recorder = record([began(number) for number in range(first)])
    assert recorder.flush()
    assert recorder.writer._carrier.running == (first == 500)
    for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        name.unlink()
    if left:
        older.rename(path)
    recorder.opened(numbered("after"))
    assert recorder.flush()
    assert sorted(ids(path)) == sorted([*map(str, range(first)), "after", *(f"old{number}" for number in range(left))])
    assert "the store's file is another" in caplog.records[-1].message
    recorder.close()
    assert len(ids(path)) == first + 1 + left


def test_one_entry_that_a_child_is_refused_takes_no_other_with_it(record, path):
    dropped = []
    entries = [began(number) for number in range(500)]
    entries[123:123] = [b'[1,"nowhere",[1]]', b"no JSON"]
    recorder = record(entries, on_dropped=dropped.append)
    assert recorder.flush()
    assert (len(ids(path)), dropped) == (500, [1, 1])
    assert recorder.writer._carrier.running


def test_without_a_child_the_thread_does_it(record, path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    recorder = record([began(number) for number in range(500)])
    assert recorder.flush()
    assert len(ids(path)) == 500


def test_a_store_that_is_locked_stops_neither_child_nor_close(record, path, caplog):
    recorder = record([began(number) for number in range(500)])
    assert recorder.flush()
    child = recorder.writer._carrier._child.process.pid
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        recorder.opened(numbered(1000))
        assert not recorder.flush(0.01)
        recorder.close(0.1)
    assert is_gone(child)
    assert caplog.records[-1].message == "records wait in the journal for the next start"
    assert record().flush()
    assert len(ids(path)) == 501


def test_a_close_does_not_wait_for_a_child_for_long(record, monkeypatch):
    monkeypatch.setattr("aibridge.carrier.IDLE_S", 0.01)
    recorder = record([began(number) for number in range(500)])
    assert recorder.flush()
    child = recorder.writer._carrier._child.process.pid
    os.kill(child, signal.SIGSTOP)
    recorder.opened(numbered(1000))
    recorder.close(0.1)
    assert is_gone(child)


def test_what_a_dead_process_left_is_carried_too(record, path, tmp_path):
    journal = Journal(tmp_path / "journal", max_bytes=1 << 30, fsync=Fsync.NEVER)
    for number in range(500):
        journal.append(began(number))
    journal.close(remove=False)
    crashes = []
    recorder = record(on_crashed=lambda one, *_: crashes.append(one.id))
    assert recorder.flush(30)
    assert recorder.writer._carrier.running
    assert len(crashes) == len(ids(path)) == 500
