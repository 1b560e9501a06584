"""The journal: what was appended is there, whoever dies, and what is broken stops nobody."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest

from aibridge import journal as module
from aibridge.journal import (
    MAGIC,
    Extent,
    Fsync,
    Journal,
    JournalError,
    Reader,
    claimed,
    extent_of,
    is_live,
    journal_folder,
    names_in,
    remove_journal,
)

BIG = 1 << 30


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "records.db.journal"


@pytest.fixture
def make(folder):
    made = []

    def make(max_bytes=BIG, fsync=Fsync.NEVER):
        made.append(Journal(folder, max_bytes=max_bytes, fsync=fsync))
        return made[-1]

    yield make
    for journal in made:
        journal.close(remove=False)


def read_all(folder, name, extent=None, max_bytes=BIG):
    """Return all entries, and how many bytes were lost."""
    reader, entries, lost = Reader(folder, name), [], 0
    while True:
        batch = reader.read(extent or extent_of(folder, name), max_bytes)
        if batch.position == reader.position:
            return entries, lost
        reader.position = batch.position
        entries += batch.entries
        lost += batch.lost


def size_of(journal):
    return journal.end - journal.extent.bases[0]


def fill(journal):
    for _ in range(100):
        journal.append(b"x" * 50)


def segments(folder):
    return sorted(folder.glob("*.log"))


def test_what_is_appended_is_read_in_order(folder, make):
    journal = make()
    entries = [bytes([number]) * (number + 1) for number in range(200)]
    for entry in entries:
        journal.append(entry)
    assert read_all(folder, journal.name, journal.extent) == (entries, 0)


@pytest.mark.parametrize("max_bytes", [8, 9, 50, 1000])
def test_it_is_read_in_batches_of_any_size(folder, make, max_bytes):
    journal = make()
    entries = [os.urandom(size) for size in (1, 20, 300, 4000, 1)]
    for entry in entries:
        journal.append(entry)
    assert read_all(folder, journal.name, journal.extent, max_bytes) == (entries, 0)


def test_it_is_read_while_it_is_written(folder, make):
    journal, seen = make(max_bytes=4000), []
    reader = Reader(folder, journal.name)
    for number in range(300):
        journal.append(b"%d" % number)
        batch = reader.read(journal.extent, BIG)
        while batch.position != reader.position:
            seen += batch.entries
            reader.position = batch.position
            batch = reader.read(journal.extent, BIG)
        journal.remove_before(reader.position)
    assert seen == [b"%d" % number for number in range(300)]
    assert len(segments(folder)) == 1


def test_segments_go_on_where_the_last_one_ended(folder, make):
    journal = make(max_bytes=4000)
    entries = [os.urandom(100) for _ in range(30)]
    for entry in entries:
        journal.append(entry)
    assert len(segments(folder)) == 4
    assert read_all(folder, journal.name) == (entries, 0)
    assert extent_of(folder, journal.name) == Extent(list(journal.extent.bases), journal.end)


def test_a_position_in_the_middle_is_gone_on_from(folder, make):
    journal = make(max_bytes=4000)
    for number in range(100):
        journal.append(b"%03d" % number * 10)
    reader = Reader(folder, journal.name)
    first = reader.read(journal.extent, 500)
    later = Reader(folder, journal.name, first.position).read(journal.extent, 500)
    assert first.entries[-1] < later.entries[0]


def test_the_bound_refuses_beginnings_and_never_ends(make):
    journal = make(max_bytes=1000)
    with pytest.raises(JournalError, match="bound, 1000 bytes"):
        fill(journal)
    assert size_of(journal) <= 1000
    journal.append(b"end" * 50, beyond=True)
    assert size_of(journal) > 1000


def test_what_is_removed_makes_room(make):
    journal = make(max_bytes=1000)
    with pytest.raises(JournalError):
        fill(journal)
    journal.remove_before(journal.end)
    journal.append(b"x" * 50)


@pytest.mark.parametrize("written", [0, 3, 8, 20])
def test_an_entry_that_a_full_disk_cuts_is_overwritten_by_the_next(folder, make, monkeypatch, written):
    journal = make()
    journal.append(b"first")
    true_pwrite = os.pwrite

    def short(fd, data, offset):
        return true_pwrite(fd, data[:written], offset)

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "pwrite", short)
        with pytest.raises(JournalError, match="full"):
            journal.append(b"lost" * 10)
    journal.append(b"2")
    assert read_all(folder, journal.name, journal.extent) == ([b"first", b"2"], 0)


def test_a_disk_that_fails_is_told_as_our_error(make, monkeypatch):
    journal = make()

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.os, "pwrite", fail)
    with pytest.raises(JournalError, match="Input/output error"):
        journal.append(b"x")


FULL = """
import resource, signal, sys
from pathlib import Path
from aibridge.journal import Journal, JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]), max_bytes=1 << 30)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
kept = 0
try:
    while True:
        journal.append(b"x" * 70)
        kept += 1
except JournalError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal.append(b"y")
    print(kept, error)
"""


def test_a_system_that_gives_no_more_room_cuts_nothing_in_two(folder):
    done = subprocess.run([sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, check=True)
    kept = int(done.stdout.split()[0])
    assert kept == (1000 - len(MAGIC)) // 78
    (name,) = names_in(folder)
    entries, rest = read_all(folder, name)
    assert entries == [b"x" * 70] * kept + [b"y"]
    assert 0 < rest < 78  # of the entry that was cut, behind the one that took its place


def gone(folder):
    shutil.rmtree(folder)


def segments_gone(folder):
    for path in segments(folder):
        path.unlink()


@pytest.mark.parametrize("harm", [gone, segments_gone])
def test_it_begins_again_where_somebody_removed_its_files(folder, make, harm):
    journal = make()
    journal.append(b"lost")
    harm(folder)
    journal.append(b"kept")
    assert is_live(folder, journal.name)
    assert read_all(folder, journal.name, journal.extent) == ([b"kept"], len(b"lost") + 8)
    journal.say_alive()


def test_it_fails_where_it_cannot_begin_again(folder, make):
    journal = make()
    shutil.rmtree(folder)
    folder.write_text("in the way")
    with pytest.raises(JournalError):
        journal.append(b"refused")
    folder.unlink()
    journal.append(b"kept")
    assert read_all(folder, journal.name, journal.extent)[0] == [b"kept"]


# --- what is broken -------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(folder, make):
    """Return a function that appends three entries, and what damages them; it returns what is read then."""

    def read(damage):
        journal = make()
        for entry in (b"first", b"second", b"third"):
            journal.append(entry)
        (path,) = segments(folder)
        data = bytearray(path.read_bytes())
        path.write_bytes(damage(data))
        return read_all(folder, journal.name)

    return read


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_cut_tail_loses_the_cut_entry_only(broken, cut):
    entries, lost = broken(lambda data: data[:-cut])
    assert (entries, lost) == ([b"first", b"second"], 13 - cut)


def test_a_wrong_checksum_loses_its_entry_only(broken):
    def damage(data):
        data[len(MAGIC) + 13 + 8] ^= 1
        return data

    assert broken(damage) == ([b"first", b"third"], 14)


@pytest.mark.parametrize("length", [0, 1, 5, 7, 20, 0x7F000000, 0xFFFFFFFF])
def test_a_wrong_length_loses_its_entry_only(broken, length):
    def damage(data):
        at = len(MAGIC) + 13
        return data[:at] + length.to_bytes(4, "little") + data[at + 4 :]

    assert broken(damage) == ([b"first", b"third"], 14)


def test_what_is_good_far_behind_a_broken_entry_is_found_by_small_readings(folder, make):
    journal = make()
    journal.append(b"first")
    journal.append(b"x" * 5000)
    journal.append(b"third")
    (path,) = segments(folder)
    data = bytearray(path.read_bytes())
    data[len(MAGIC) + 13] ^= 0xFF
    path.write_bytes(data)
    assert read_all(folder, journal.name, max_bytes=100) == ([b"first", b"third"], 5008)


def test_zeros_that_a_power_failure_leaves_are_no_entries(broken):
    assert broken(lambda data: data + bytes(100)) == ([b"first", b"second", b"third"], 100)


def test_a_segment_of_another_version_is_left_alone(broken):
    with pytest.raises(JournalError, match="another version"):
        broken(lambda data: b"AIBJRNL9" + data[8:])


def test_a_segment_of_another_kind_is_passed_over(broken):
    entries, lost = broken(lambda data: b"whatever" + data[8:])
    assert entries == []
    assert lost == len(MAGIC) + 13 + 14 + 13


def test_a_segment_that_is_missing_is_passed_over(folder, make):
    journal = make(max_bytes=4000)
    for number in range(30):
        journal.append(b"%04d" % number * 25)
    (_, second, *_) = segments(folder)
    size = second.stat().st_size
    second.unlink()
    entries, lost = read_all(folder, journal.name, journal.extent)
    assert len(entries) < 30
    assert (entries[0][:4], entries[-1][:4]) == (b"0000", b"0029")
    assert lost == size - len(MAGIC)


def test_an_empty_segment_is_nothing(folder, make):
    journal = make()
    (path,) = segments(folder)
    path.write_bytes(b"")
    assert read_all(folder, journal.name) == ([], 0)


# --- the disk itself ------------------------------------------------------------------------------------------------


@pytest.fixture
def syncs(monkeypatch):
    told = []
    for name in ("fsync", "fdatasync"):
        true = getattr(os, name)
        monkeypatch.setattr(module.os, name, lambda fd, true=true, name=name: (told.append(name), true(fd)))
    return told


def test_always_syncs_before_append_returns(make, syncs):
    journal = make(fsync=Fsync.ALWAYS)
    syncs.clear()
    journal.append(b"x")
    assert syncs == ["fdatasync"]
    journal.sync()
    assert syncs == ["fdatasync"]


def test_interval_syncs_when_it_is_told_to_and_there_is_something(make, syncs):
    journal = make(fsync=Fsync.INTERVAL)
    journal.append(b"x")
    assert syncs == []
    journal.sync()
    assert len(syncs) == 2  # the segment, and the folder
    journal.sync()
    assert len(syncs) == 2


def test_never_never_syncs(make, syncs):
    journal = make(fsync=Fsync.NEVER)
    journal.append(b"x")
    journal.sync()
    assert syncs == []


# --- who lives ------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from aibridge.journal import Journal
journal = Journal(Path(sys.argv[1]), max_bytes=1 << 30)
journal.append(b"from another process")
print(journal.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(folder):
    """Another process that holds a journal: the process, and the journal's name."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=pipe, stdout=pipe, text=True) as process:
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_living_process_keeps_its_journal(folder, other):
    _, name = other
    assert is_live(folder, name)
    with claimed(folder, name) as last_sign:
        assert last_sign is None
    assert names_in(folder) == {name}


def test_a_killed_process_leaves_its_journal_with_all_entries(folder, other):
    process, name = other
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not is_live(folder, name)
    with claimed(folder, name) as last_sign:
        assert last_sign == pytest.approx(max(path.stat().st_mtime for path in folder.iterdir()))
        assert is_live(folder, name)  # ours now
        assert read_all(folder, name) == ([b"from another process"], 0)
        remove_journal(folder, name)
    assert list(folder.iterdir()) == []


def test_a_sign_of_life_is_the_last_sign(folder, make):
    journal = make()
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    journal.say_alive()
    assert max(path.stat().st_mtime for path in folder.iterdir()) > 1e9


def test_a_journal_without_its_lock_is_dead(folder, other):
    process, name = other
    process.kill()
    process.wait()
    (folder / f"{name}.lock").unlink()
    assert not is_live(folder, name)
    with claimed(folder, name) as last_sign:
        assert last_sign is not None


def test_closing_removes_it_or_leaves_it(folder, make):
    make().append(b"x")
    journal = Journal(folder, max_bytes=BIG)
    assert len(names_in(folder)) == 2
    journal.close(remove=True)
    assert journal.name not in names_in(folder)
    assert len(names_in(folder)) == 1


def test_nobody_else_may_read_it(folder, make):
    make()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Journal(tmp_path / "file" / "x", max_bytes=BIG)
    assert names_in(tmp_path / "nowhere") == set()


def test_it_stands_beside_the_store_and_not_where_sqlite_has_its_own(tmp_path):
    assert journal_folder(tmp_path / "records.db") == tmp_path / "records.db.journal"
