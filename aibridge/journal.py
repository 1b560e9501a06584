"""An append-only journal of one process: what must not be lost stands here before anybody is told of it.

A journal is a lock and some segments in a folder: `<name>.lock`, which its process holds as long as it lives, and
`<name>-<base>.log`. A segment begins with `MAGIC`; then come entries: length and CRC-32 of the payload, four bytes
each, little-endian, and the payload. `base` counts the bytes of all segments before, so that one number, a position,
names a place in the whole journal.

An entry is in the kernel's hands when `append` returns: a process that is killed loses nothing. What a machine without
power loses is decided by `Fsync`. An entry that was cut, or whose checksum is wrong, is passed over and told, and never
stops a reader; what is good behind it is found. This file does not know what an entry means.
"""

import fcntl
import os
import re
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from aibridge.errors import AibridgeError

MAGIC = b"AIBJRNL1"
"""The first bytes of a segment. Another format has another last byte: it is left to the program that knows it."""

SEGMENT_BYTES = 16 * 1024 * 1024
"""Of one segment, about; with a small bound a quarter of that. What is wholly in the store is removed by segments."""

_HEAD = struct.Struct("<II")
_SEGMENT = re.compile(r"(.+)-(\d{16,})\.log")


class JournalError(AibridgeError):
    """An entry cannot be written: the disk is full or broken, or the journal's bound is reached."""


class Fsync(StrEnum):
    """When entries are brought to the disk itself."""

    ALWAYS = "always"
    """Before `append` returns."""
    INTERVAL = "interval"
    """At each `sync`, which another thread calls about every second."""
    NEVER = "never"
    """When the system sees fit."""


class Batch(NamedTuple):
    """What was read at once: payloads, the position behind them, and how many bytes were no good entries."""

    entries: list[bytes]
    position: int
    lost: int


class Extent(NamedTuple):
    """Where a journal's segments begin, lowest first, and where the last ends."""

    bases: Sequence[int]
    end: int


class Journal:
    """The journal of this process, to write to. Appending is for one thread, the rest for one other.

    Args:
        folder: where journals are; made where it is not there.
        max_bytes: of all segments that are not removed yet; appending over it fails.
        fsync: when entries are brought to the disk.
        family: of processes that belong together; a few letters and digits, or none.

    Raises:
        OSError: there can be no journal.
    """

    def __init__(self, folder: Path, *, max_bytes: int, fsync: Fsync = Fsync.INTERVAL, family: str = "") -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.name = f"{int(time.time()):x}-{os.urandom(4).hex()}" + (f"-{family}" if family else "")
        self.end = 0
        self._max_bytes = max_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 4)
        self._fsync = fsync
        self._synced = 0
        self._bases: deque[int] = deque()
        self._base = 0  # of the segment that is written to
        self._fd = -1
        self._lock = _create_lock(folder, self.name)
        try:
            self._begin_segment()
        except BaseException:
            os.close(self._lock)
            _lock_path(folder, self.name).unlink()
            raise

    @property
    def extent(self) -> Extent:
        """Where the entries are that were appended up to now."""
        end = self.end  # first: a segment that begins meanwhile lies behind it
        return Extent(tuple(self._bases), end)

    @property
    def is_half_full(self) -> bool:
        """Whether what waits, and is not removed yet, takes half of the bound."""
        return (self.end - self._bases[0]) * 2 > self._max_bytes

    def append(self, payload: bytes, *, beyond: bool = False) -> None:
        """Write an entry.

        Args:
            payload: not empty.
            beyond: the bound does not count. For what ends something that was begun within it.

        Raises:
            JournalError: it is not written.
        """
        entry = _HEAD.pack(len(payload), crc32(payload)) + payload
        end = self.end + len(entry)
        if not beyond and end - self._bases[0] > self._max_bytes:
            raise JournalError(f"the journal has reached its bound, {self._max_bytes} bytes")
        try:
            if not os.fstat(self._fd).st_nlink:
                self._begin_again()
            if self.end + len(entry) - self._base > self._segment_bytes:
                self._begin_segment()
            # At its place, and not at the file's end: what a full disk has cut is overwritten by the next entry.
            if os.pwrite(self._fd, entry, self.end - self._base) != len(entry):
                raise JournalError("the disk is full")
            self.end += len(entry)
            if self._fsync is Fsync.ALWAYS:
                os.fdatasync(self._fd)
        except OSError as error:
            raise JournalError(f"{self.folder}: {error.strerror}") from error

    def sync(self) -> None:
        """Bring to the disk what was appended, where that is the policy. Raises `OSError`."""
        bases, end = self.extent
        if self._fsync is not Fsync.INTERVAL or end == self._synced:
            return
        for base, limit in zip(bases, [*bases[1:], end], strict=True):
            if limit > self._synced:
                _sync(_segment_path(self.folder, self.name, base))
        _sync(self.folder)
        self._synced = end

    def say_alive(self) -> None:
        """Leave a mark of the time: should the process be killed, it lived until then at least."""
        os.utime(self._lock)

    def remove_before(self, position: int) -> None:
        """Remove the segments that end at or before a position."""
        while len(self._bases) > 1 and self._bases[1] <= position:
            # On the disk first: the bound counts what is there.
            _segment_path(self.folder, self.name, self._bases[0]).unlink(missing_ok=True)
            self._bases.popleft()

    def close(self, *, remove: bool) -> None:
        """Let go of the journal: what is left of it is for the next who looks for such. Never raises.

        Args:
            remove: all of it is in the store.
        """
        os.close(self._fd)
        if remove:
            with suppress(OSError):
                remove_journal(self.folder, self.name)
        os.close(self._lock)

    def _begin_again(self) -> None:
        """Somebody removed the files under our hands: what is written to them now is kept by nobody."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _create_lock(self.folder, self.name)
        os.dup2(lock, self._lock, inheritable=False)  # in one step: another thread uses that number
        os.close(lock)
        self._begin_segment()

    def _begin_segment(self) -> None:
        path = _segment_path(self.folder, self.name, self.end)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            whole = os.write(fd, MAGIC) == len(MAGIC)
        except OSError:
            whole = False
        if not whole:
            os.close(fd)
            path.unlink()
            raise JournalError(f"{self.folder}: the disk is full")
        before, self._fd = self._fd, fd
        self._base = self.end
        self._bases.append(self._base)
        self.end += len(MAGIC)
        if before >= 0:
            os.close(before)
        if self._fsync is Fsync.ALWAYS:
            _sync(self.folder)


class Reader:
    """Reads a journal, one batch after another.

    Args:
        folder: where it is.
        name: of the journal.
        position: where to begin.
    """

    def __init__(self, folder: Path, name: str, position: int = 0) -> None:
        self.folder = folder
        self.name = name
        self.position = position

    def read(self, extent: Extent, max_bytes: int) -> Batch:
        """Return what follows the position, about `max_bytes` of it at most. The position stays: set it to go on.

        Raises `OSError` where a segment cannot be read.
        """
        for base, limit in zip(extent.bases, [*extent.bases[1:], extent.end], strict=True):
            if limit > self.position:
                return self._read_segment(base, limit, max_bytes)
        return Batch([], self.position, 0)

    def _read_segment(self, base: int, limit: int, max_bytes: int) -> Batch:
        start = max(self.position, base + len(MAGIC))
        path = _segment_path(self.folder, self.name, base)
        if not path.exists():
            return Batch([], limit, limit - start)
        with path.open("rb", buffering=0) as segment:
            magic = segment.read(len(MAGIC))
            if magic != MAGIC:
                if magic[:-1] == MAGIC[:-1]:
                    raise JournalError(f"{path}: of another version of this program; it is left alone")
                return Batch([], limit, limit - base)
            segment.seek(start - base)
            data = segment.read(min(max_bytes, limit - start))
            if _needs(data) > len(data):
                data += segment.read(min(_needs(data), limit - start) - len(data))
            entries, taken = _cut(data)
            if taken:
                return Batch(entries, start + taken, 0)
            lost = _to_next(data)
            if lost == len(data):  # nothing good is near: look through all of the segment
                data += segment.read(limit - start - len(data))
                lost = _to_next(data)
        return Batch([], start + lost, lost)


def _needs(data: bytes) -> int:
    """Return how many bytes the first entry takes."""
    return _HEAD.size + _HEAD.unpack_from(data)[0] if len(data) >= _HEAD.size else 0


def _cut(data: bytes) -> tuple[list[bytes], int]:
    """Return the entries that the data begins with, up to the first that is no good, and the bytes that they take."""
    entries = []
    at = 0
    while payload := _good_at(data, at):
        entries.append(payload)
        at += _HEAD.size + len(payload)
    return entries, at


def _good_at(data: bytes, at: int) -> bytes:
    """Return the payload of a whole good entry at a place; none is empty, so that empty is: there is no such entry."""
    start = at + _HEAD.size
    if start >= len(data):
        return b""
    size, checksum = _HEAD.unpack_from(data, at)
    if start + size > len(data):
        return b""
    payload = data[start : start + size]
    return payload if crc32(payload) == checksum else b""


def _to_next(data: bytes) -> int:
    """Return how many bytes are before the next good entry; all where there is none.

    What a bad entry says of its length is not to be trusted: each place behind its beginning is looked at.
    """
    end = len(data.rstrip(b"\0"))  # zeros are what a power failure leaves
    return next((at for at in range(1, end) if _good_at(data, at)), len(data))


def journal_folder(store: Path) -> Path:
    """Return where the journals of a store's file are: beside it."""
    return store.with_name(f"{store.name}.journal")  # with a hyphen it would stand where SQLite has a file of its own


def is_of(name: str, family: str) -> bool:
    """Tell whether a journal is of a family of processes."""
    return bool(family) and name.endswith(f"-{family}")


# --- of all journals in a folder ------------------------------------------------------------------------------------


def names_in(folder: Path) -> set[str]:
    """Return the names of all journals, of the living and of the dead."""
    names = set()
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            found = _SEGMENT.fullmatch(path.name)
            if found:
                names.add(found[1])
            elif path.suffix == ".lock":
                names.add(path.stem)
    return names


def is_live(folder: Path, name: str) -> bool:
    """Tell whether a running process holds a journal."""
    try:
        fd = os.open(_lock_path(folder, name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[float | None]:
    """Hold a dead journal meanwhile. Yields when its process was last known to live, or None: it lives."""
    last_sign = max((path.stat().st_mtime for path in folder.glob(f"{name}*")), default=0.0)
    fd = os.open(_lock_path(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield last_sign if _try_lock(fd, fcntl.LOCK_EX) else None
    finally:
        os.close(fd)


def extent_of(folder: Path, name: str) -> Extent:
    """Return the extent of a dead journal."""
    found = (_SEGMENT.fullmatch(path.name) for path in folder.iterdir())
    bases = sorted(int(match[2]) for match in found if match and match[1] == name)
    end = bases[-1] + _segment_path(folder, name, bases[-1]).stat().st_size if bases else 0
    return Extent(bases, end)


def remove_journal(folder: Path, name: str) -> None:
    """Remove a journal that is ours: our own, or one that is claimed. Raises `OSError`."""
    # The lock last: without it what is left would be nobody's.
    for base in extent_of(folder, name).bases:
        _segment_path(folder, name, base).unlink(missing_ok=True)
    _lock_path(folder, name).unlink(missing_ok=True)


def _create_lock(folder: Path, name: str) -> int:
    """Make a lock that is held from the moment at which it can be seen."""
    hidden = folder / f".{name}"
    fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(_lock_path(folder, name))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


def _segment_path(folder: Path, name: str, base: int) -> Path:
    return folder / f"{name}-{base:016d}.log"


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
