"""A child process that carries large parts of a journal into a store, so that this process's interpreter is left alone.

The child is this file: `python -m aibridge.carrier STORE VERSION`. It reads requests from its standard input, one JSON
line each, and answers each with one on its standard output. It decides nothing and logs nothing; at the end of its
input it ends, so that it outlives its parent by one batch at most. It inherits no file: a journal's lock tells that its
process lives, and would be held by whoever had inherited it.
"""

import gc
import logging
import os
import select
import signal
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

from aibridge import __version__
from aibridge.errors import AibridgeError
from aibridge.journal import Extent, JournalError, Reader
from aibridge.jsontext import dumps, loads
from aibridge.stores.base import SCHEMA_VERSION, StoreUnavailable
from aibridge.stores.carrying import Carried, carry, reason_of
from aibridge.stores.sqlite import SQLiteStore

_logger = logging.getLogger(__name__)

ANSWER_WITHIN_S = 60.0
"""For one batch, which takes some 10 ms: a disk may be slow for long, and its sync with it."""

IDLE_S = 1.0
"""Between two calls of `idle` while an answer is awaited."""

END_WITHIN_S = 5.0
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0

_VERSION = f"{__version__}/{SCHEMA_VERSION}"
"""The program may be exchanged under a running gateway. A newer child would bring the store to a version of its own."""

_ENVIRONMENT = ("PATH", "PYTHONHOME", "LD_LIBRARY_PATH", "TMPDIR", "SQLITE_TMPDIR", "AIBRIDGE_SPEEDUPS")
"""What the program needs of ours. In the rest there may be keys of providers and of clients."""


class _Child(NamedTuple):
    process: "subprocess.Popen[bytes]"
    requests: IO[bytes]
    answers: IO[bytes]


class CarrierFailed(AibridgeError):
    """The child cannot be started, has died, or does not answer."""


class Carrier:
    """The child, as its parent sees it: started at the first request, and again, later, after it has failed.

    For one thread. While a request is under way nobody else may write what it writes.

    Args:
        store: the file of an `SQLiteStore`.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._child: _Child | None = None
        self._not_before = 0.0
        self._started = 0.0
        self._backoff = FIRST_BACKOFF_S
        self._failing = False

    @property
    def running(self) -> bool:
        """Whether there is a child that is not known to have ended."""
        return self._child is not None

    def carry(self, reader: Reader, extent: Extent, max_bytes: int, idle: Callable[[], None]) -> Carried | None:
        """Let the child take the step `carry`.

        Args:
            reader: as `carry` has it.
            extent: as `carry` has it.
            max_bytes: as `carry` has it.
            idle: called each second meanwhile. What it raises is passed on, and the child is ended.

        Returns:
            What was done; None where there is no child that can do it. The step may be taken again then.

        Raises: as `carry` does, `JournalError` for its `OSError`.
        """
        if self._child is None and time.monotonic() < self._not_before:
            return None
        near = _near(extent, reader.position)
        request = [str(reader.folder), reader.name, reader.position, near.bases, near.end, max_bytes]
        try:
            child = self._child or self._start()
            kind, said = _ask(child, dumps(request) + b"\n", idle)
        except CarrierFailed as error:
            self._fail(error)
            return None
        except BaseException:  # its answer would be taken for that of the next request
            self._end(kill=True)
            raise
        self._failing = False
        if kind == "carried":
            return Carried(*said)
        raise _RAISED[kind](said)

    def look(self) -> None:
        """See whether the child has died while nothing was asked of it: a dead child nobody waits for is a zombie."""
        if self._child is not None and (status := self._child.process.poll()) is not None:
            self._fail(CarrierFailed(f"it ended with status {status}"))

    def close(self) -> None:
        """End the child. Never raises."""
        self._end(kill=False)

    def _start(self) -> _Child:
        self._started = time.monotonic()
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program
                # -P: from the working directory, which `-m` looks into first, this process may import nothing.
                [sys.executable, "-P", "-m", "aibridge.carrier", self._store, _VERSION],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                process_group=0,  # Ctrl-C is for the gateway
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise CarrierFailed(f"it cannot be started: {error}") from error
        self._child = _Child(process, cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout))
        return self._child

    def _fail(self, error: CarrierFailed) -> None:
        self._end(kill=True)
        now = time.monotonic()
        self._backoff = FIRST_BACKOFF_S if now - self._started > MAX_BACKOFF_S else self._backoff
        self._not_before = now + self._backoff
        self._backoff = min(self._backoff * 2, MAX_BACKOFF_S)
        if not self._failing:  # said once, until one answers
            self._failing = True
            fields = {"reason": str(error)}
            _logger.warning("the process that writes records failed: this one writes them", extra={"fields": fields})

    def _end(self, *, kill: bool) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if kill:
            child.process.kill()
        child.requests.close()
        try:
            child.process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.process.kill()
            with suppress(subprocess.TimeoutExpired):  # a disk that hangs holds even the killed
                child.process.wait(END_WITHIN_S)
        child.answers.close()


_RAISED: dict[str, type[AibridgeError]] = {"unavailable": StoreUnavailable, "unreadable": JournalError}
"""What stands for an error in an answer, and what it is raised as. All else is the child's failure."""


def _environment() -> dict[str, str]:
    """Return the child's environment. It finds the modules that we find, wherever those are, and no others."""
    ours = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return ours | {"PYTHONPATH": os.pathsep.join(sys.path)}


def _near(extent: Extent, position: int) -> Extent:
    """Return the extent's part that a step from this position may be about: a request is short, whatever waits."""
    first = max(0, bisect_right(extent.bases, position) - 1)
    here, behind = extent.bases[first : first + 2], extent.bases[first + 2 :]
    return Extent(here, behind[0] if behind else extent.end)


def _ask(child: _Child, request: bytes, idle: Callable[[], None]) -> tuple[str, Any]:
    """Return the kind of an answer, and what it says. Raises `CarrierFailed`, and what `idle` raises."""
    with suppress(BrokenPipeError):  # then there is no answer either
        child.requests.write(request)
    poll = select.poll()  # and not `select`, which knows 1,024 files only
    poll.register(child.answers, select.POLLIN)
    give_up_at = time.monotonic() + ANSWER_WITHIN_S
    answer = b""
    while not answer.endswith(b"\n"):
        if poll.poll(IDLE_S * 1000):
            more = os.read(child.answers.fileno(), 1 << 16)
            if not more:
                raise CarrierFailed(f"it ended with status {child.process.wait()}")
            answer += more
        else:
            idle()
            if time.monotonic() >= give_up_at:
                raise CarrierFailed(f"it has not answered within {ANSWER_WITHIN_S:.0f} s")
    kind, said = loads(answer)
    if kind == "failed":
        raise CarrierFailed(said)
    return kind, said


# --- the child ------------------------------------------------------------------------------------------------------


def serve(path: Path, requests: Iterable[bytes], answers: BinaryIO) -> None:
    """Answer requests to their end."""
    store: SQLiteStore | None = None
    try:
        for request in requests:
            folder, name, position, bases, end, max_bytes = loads(request)
            try:
                store = store or SQLiteStore(path)
                reader = Reader(Path(folder), name, position)
                answer: tuple[str, Any] = "carried", tuple(carry(store, reader, Extent(bases, end), max_bytes))
            except StoreUnavailable as error:
                answer = "unavailable", str(error)
            except (OSError, JournalError) as error:
                answer = "unreadable", str(error)
            except Exception as error:  # noqa: BLE001 - its parent says so, and does it itself
                answer = "failed", reason_of(error)
            answers.write(dumps(answer) + b"\n")
    finally:
        if store is not None:
            store.close()


def main() -> None:
    """Be the child, until the end of standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # who stops the whole group: what is under way is written first
    path, version = sys.argv[1:]
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as answers, suppress(BrokenPipeError):
        if version == _VERSION:
            serve(Path(path), sys.stdin.buffer, answers)
        else:
            answers.write(dumps(("failed", f"its version is {_VERSION}, and not {version}")) + b"\n")


if __name__ == "__main__":
    main()
