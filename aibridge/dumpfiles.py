"""Dumps on disk, off the event loop: a bounded queue, and one thread that appends to files and deletes old ones.

A call costs an append to the queue. The thread lets parts gather for a moment, and opens, writes and closes each file
once for all of its parts, so that a thousand live streams hold no file open. What cannot be written is lost: counted,
and spoken of once a minute at most. A file that lost a part gets no other: what it holds is a beginning.

Files are 0600 in folders that are 0700. When all of them together are over the bound, the oldest go.
"""

import contextlib
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from aibridge.dumptext import Redactor, head_text, request_text
from aibridge.values import ResponseHead, UpstreamRequest

_logger = logging.getLogger(__name__)

Part = UpstreamRequest | ResponseHead | bytes | None
"""What a file is made of: a request, or a head and pieces of a body and None for its end, or plain text."""

GATHER_S = 0.05
"""Seconds in which parts gather."""
BATCH = 10_000
"""Parts that are written in one go at most."""
MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""Bytes that wait for a disk that is slow; beyond it files lose their rest."""
BLOCK = 4096
"""A file takes whole blocks of a disk, and is counted so: else a million small ones would pass as nothing."""

SAY_EVERY_S = 60.0
"""Seconds between two lines about losses: a full disk fails many times a second."""

_OVERHEAD = 128

_OURS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-\d+\.(req|resp|req_error)\.txt")
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_AGAIN = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class DumpFile:
    """One file, begun and perhaps not there yet. Its size and redactor belong to the writer's thread."""

    __slots__ = ("body_room", "lost", "path", "redactor", "secrets", "size")

    def __init__(self, path: str, secrets: tuple[bytes, ...], body_room: int) -> None:
        self.path = path
        self.secrets = secrets
        self.body_room = body_room
        self.redactor = Redactor(secrets)
        self.size: int | None = None
        self.lost = False


class _Mark:
    """Stands in the queue behind the parts that somebody waits for."""

    def __init__(self, *, last: bool = False) -> None:
        self.reached = threading.Event()
        self.last = last


class DumpFiles:
    """Writes dumps.

    Args:
        folder: where they go; made where it is missing.
        subfolders: every folder in it that a file may be begun in.
        max_body_bytes: of the body in one file.
        max_total_bytes: of all files together.
        on_lost: told once for each file that could not be written whole; on any thread.

    Raises:
        OSError: a folder cannot be made, or cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        subfolders: Iterable[str],
        *,
        max_body_bytes: int,
        max_total_bytes: int,
        on_lost: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._subfolders = tuple(subfolders)
        self._max_body_bytes = max_body_bytes
        self._max_total_bytes = max_total_bytes
        self._on_lost = on_lost
        self._queue: queue.SimpleQueue[tuple[DumpFile, Part] | _Mark] = queue.SimpleQueue()
        self._put_bytes = 0  # this one belongs to the event loop,
        self._taken_bytes = 0  # and this one to the thread: their difference waits
        self._sizes: dict[str, int] = {}
        self._total = 0
        self._said_at = float("-inf")
        self._closed = False
        self._urgent = threading.Event()
        self._make_folders()
        self._thread = threading.Thread(target=self._run, name="dump", daemon=True)
        self._thread.start()

    def begin(self, subfolder: str, name: str, secrets: tuple[bytes, ...] = ()) -> DumpFile:
        """Return a new file; it is made with its first part. `name` is an id, a number and a kind."""
        return DumpFile(str(self._folder / subfolder / name), secrets, self._max_body_bytes)

    def put(self, file: DumpFile, part: Part) -> None:
        """Append a part, later. Neither waits nor raises."""
        if isinstance(part, bytes):
            part = part[: file.body_room]
            file.body_room -= len(part)
            if not part:
                return
        size = _size_of(part)
        if file.lost or self._closed:
            return
        if self._put_bytes - self._taken_bytes + size > MAX_QUEUED_BYTES:
            self._lose(file, "the disk does not take them quickly enough")
            return
        self._put_bytes += size
        self._queue.put((file, part))

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all parts put before are written or lost. Blocks: not for the event loop. Returns whether."""
        mark = _Mark()
        self._queue.put(mark)
        self._urgent.set()
        return mark.reached.wait(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is left, and end. Blocks: not for the event loop."""
        if not self._closed:
            self._closed = True
            self._queue.put(_Mark(last=True))
            self._urgent.set()
            self._thread.join(timeout)

    def add(self, subfolders: Iterable[str]) -> None:
        """Let files be begun in more folders. Raises `OSError`."""
        self._subfolders = tuple(dict.fromkeys((*self._subfolders, *subfolders)))
        self._make_folders()

    def _make_folders(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for subfolder in self._subfolders:
            path = self._folder
            for step in Path(subfolder).parts:
                path /= step
                path.mkdir(mode=0o700, exist_ok=True)
                path.chmod(0o700)  # one that was there may be open to others
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(f"{path} cannot be written to")

    # --- the writer's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._find_old()
        last = False
        while not last:
            parts, marks = self._take()
            for file, texts in parts.items():
                self._write(file, texts)
            self._delete_old()
            for mark in marks:
                mark.reached.set()
                last = last or mark.last

    def _take(self) -> tuple[dict[DumpFile, list[Part]], list[_Mark]]:
        """Wait for a part or a mark, then take what gathers behind it, by file."""
        items = [self._queue.get()]
        if not isinstance(items[0], _Mark) and self._queue.qsize() < BATCH:
            self._urgent.wait(GATHER_S)
        self._urgent.clear()
        with contextlib.suppress(queue.Empty):
            while len(items) < BATCH:
                items.append(self._queue.get_nowait())
        parts: dict[DumpFile, list[Part]] = {}
        marks = []
        for item in items:
            if isinstance(item, _Mark):
                marks.append(item)
            else:
                parts.setdefault(item[0], []).append(item[1])
        return parts, marks

    def _write(self, file: DumpFile, parts: list[Part]) -> None:
        try:
            text = b"" if file.lost else b"".join([self._text_of(file, part) for part in parts])
            if text:
                self._append(file, text)
        except Exception as error:  # noqa: BLE001 - a full disk, or a bug: the thread outlives both
            self._lose(file, error)
        self._taken_bytes += sum(_size_of(part) for part in parts)

    def _text_of(self, file: DumpFile, part: Part) -> bytes:
        if isinstance(part, bytes):
            return file.redactor.feed(part)
        if isinstance(part, ResponseHead):
            return head_text(part, file.secrets)
        if isinstance(part, UpstreamRequest):
            return request_text(part, file.secrets, self._max_body_bytes)
        return file.redactor.end()

    def _append(self, file: DumpFile, text: bytes) -> None:
        if file.size is None:
            handle = self._create(file.path)
            file.size = 0
        else:
            try:
                handle = os.open(file.path, _AGAIN)
            except FileNotFoundError:  # deleted, by age or by somebody: its rest has no place
                file.lost = True
                return
        try:
            _write_all(handle, text)
        finally:
            file.size = os.fstat(handle).st_size
            os.close(handle)
            self._count(file.path, file.size)

    def _create(self, path: str) -> int:
        try:
            return os.open(path, _NEW, 0o600)
        except FileNotFoundError:  # somebody tidied up
            self._make_folders()
            return os.open(path, _NEW, 0o600)

    def _lose(self, file: DumpFile, reason: object) -> None:
        file.lost = True
        self._on_lost()
        if time.monotonic() - self._said_at > SAY_EVERY_S:
            self._said_at = time.monotonic()
            _logger.error("dumps are being lost", extra={"fields": {"reason": str(reason)}})

    # --- the bound of them all --------------------------------------------------------------------------------------

    def _count(self, path: str, size: int) -> None:
        blocks = -(-size // BLOCK) * BLOCK
        self._total += blocks - self._sizes.get(path, 0)
        self._sizes[path] = blocks

    def _find_old(self) -> None:
        found = []
        for subfolder in self._subfolders:
            with contextlib.suppress(OSError):
                found += list(_files_in(str(self._folder / subfolder)))
        for _, path, size in sorted(found):
            self._count(path, size)
        self._delete_old()

    def _delete_old(self) -> None:
        while self._total > self._max_total_bytes and self._sizes:
            oldest = next(iter(self._sizes))
            self._total -= self._sizes.pop(oldest)
            with contextlib.suppress(OSError):
                Path(oldest).unlink()


def _files_in(folder: str) -> Iterator[tuple[float, str, int]]:
    """Yield time, path and size of each dump in a folder; other files are none of our business."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                yield status.st_mtime, entry.path, status.st_size


def _write_all(handle: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _size_of(part: Part) -> int:
    """Return about how much memory a part takes while it waits."""
    if isinstance(part, bytes):
        return _OVERHEAD + len(part)
    if isinstance(part, UpstreamRequest):
        return _OVERHEAD + len(part.body)
    if isinstance(part, ResponseHead):
        return _OVERHEAD + sum(len(name) + len(value) for name, value in part.headers)
    return _OVERHEAD
