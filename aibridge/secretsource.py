"""Secrets that stand elsewhere than in the configuration: in a file, or in what a command prints.

They are read whenever the configuration is. No text of an error here holds what was read.
"""

import contextlib
import errno
import os
import select
import signal
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

WITHIN_S = 10.0
"""For a command to print its secret, and to end."""
MOST = 16 * 1024 * 1024
"""Bytes of a file of certificates, or of prices."""
MAX_BYTES = 64 * 1024
"""Of a secret: a key or a token is far below, and a file that is not one is not to be read whole."""

_FORMS = "should be a text, {file: PATH} or {command: [PROGRAM, ARGUMENT, ...]}"


class SecretUnavailable(Exception):
    """A secret cannot be had; the text says why."""


class SecretReader:
    """Reads the secrets of one look at the configuration; of a source that is named twice, once.

    Args:
        files: gets every file that is read, or would be, were it there.
    """

    def __init__(self, files: set[Path]) -> None:
        self._files = files
        self._known: dict[tuple[str, ...], str] = {}

    def read(self, source: Mapping[str, object]) -> str:
        """Return the secret, without the newline at its end.

        Args:
            source: `{"file": PATH}` or `{"command": [PROGRAM, ...]}`.

        Raises:
            SecretUnavailable: there is none, or the source is neither.
        """
        key = _key(source)
        if key not in self._known:
            self._known[key] = self._read(*key)
        return self._known[key]

    def _read(self, form: str, *words: str) -> str:
        if form == "command":
            raw, name = _printed(words), f"the command {words[0]}"
        else:
            path = Path(words[0])
            self._files.add(path)
            raw, name = _stored(path), f"the file {path}"
        if len(raw) > MAX_BYTES:
            raise SecretUnavailable(f"{name} holds more than {MAX_BYTES} bytes")
        try:
            return raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise SecretUnavailable(f"{name} holds no UTF-8 text") from None


def _key(source: Mapping[str, object]) -> tuple[str, ...]:
    """Return the form, and its words."""
    match source:
        case {"file": str(path), **rest} if path and not rest:
            return "file", path
        case {"command": [*words], **rest} if words and words[0] and not rest:
            if all(isinstance(word, str) and "\0" not in word for word in words):
                return "command", *map(str, words)
    raise SecretUnavailable(_FORMS)


def _stored(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        why = error.strerror if isinstance(error, OSError) else "no path"
        raise SecretUnavailable(f"the file {path} cannot be read: {why}") from None


def read_regular(path: Path, most: int = MOST) -> bytes:
    """Return what a file holds that an operator names: without a wait, since it is read while streams are served.

    Raises:
        OSError: it cannot be read, is no regular file, or holds more than `most` bytes.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        raw = file.read(most + 1)
    if len(raw) > most:
        raise OSError(errno.EFBIG, f"it holds more than {most} bytes")
    return raw


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting: for whoever writes to a pipe one would wait for ever, and nobody could end it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _printed(words: tuple[str, ...]) -> bytes:
    """Run a program, without a shell, and return what it prints; what it says besides is not heard."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own command
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise SecretUnavailable(f"the command {words[0]} cannot be started: {error.strerror}") from None
    give_up_at = time.monotonic() + WITHIN_S
    try:
        printed = _read_pipe(process, give_up_at)
        if len(printed) <= MAX_BYTES:
            status = process.wait(max(give_up_at - time.monotonic(), 0))
            if status:
                raise SecretUnavailable(f"the command {words[0]} failed: exit status {status}")
    except subprocess.TimeoutExpired:
        raise SecretUnavailable(f"the command {words[0]} did not end within {WITHIN_S:g} s") from None
    finally:
        _end(process)
    return printed


def _read_pipe(process: "subprocess.Popen[bytes]", give_up_at: float) -> bytes:
    """Read to the end, or past the bound. Raises `TimeoutExpired`."""
    pipe = process.stdout
    assert pipe is not None  # noqa: S101 - it was asked for
    printed = bytearray()
    ready = select.poll()  # `select` takes no descriptor from 1024 on, and each connection has one
    ready.register(pipe, select.POLLIN)
    while len(printed) <= MAX_BYTES:
        left = give_up_at - time.monotonic()
        if not ready.poll(max(left, 0) * 1000):
            raise subprocess.TimeoutExpired(process.args, WITHIN_S)
        piece = os.read(pipe.fileno(), MAX_BYTES)
        if not piece:
            break
        printed += piece
    return bytes(printed)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program that has not ended by itself, with what it has started; what one leaves that has, is its own."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()
    process.wait()
