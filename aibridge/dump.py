"""The API dump: what passes between us and the upstreams, written to files, for an operator who looks for a fault.

A tee stands between a connection and who takes its answer; without a dump there is none, and nothing is asked. Each
attempt has files of its own, named by the interception's id and the attempt's number. Nothing that a client or an
upstream says is part of a path.
"""

import time

from aibridge.dumpfiles import DumpFile, DumpFiles
from aibridge.dumptext import secrets_in
from aibridge.ids import uuid7
from aibridge.lifecycle import OF_THE_NETWORK, Signal, ends_by
from aibridge.upstream import Sink
from aibridge.values import Attempt, Interception, Learned, Outcome, ResponseHead, UpstreamRequest, address_of

_BY_THE_NETWORK = ends_by(*OF_THE_NETWORK)
"""Ends that the bytes of an answer cannot show."""


def subfolders_for(providers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders that dumps of these providers go to."""
    return (*providers, *(_relayed_in(provider) for provider in providers))


class Dump:
    """Dumps attempts. A `Listener`, since only an attempt's end tells what the network did."""

    def __init__(self, files: DumpFiles) -> None:
        self._files = files

    def tee(self, interception: Interception, number: int, request: UpstreamRequest, sink: Sink) -> Sink:
        """Dump a request that is sent, and return what its answer has to go through on its way to `sink`."""
        return _tee(self._files, interception.provider, f"{interception.id}-{number}", request, sink)

    def relayed(self, provider: str) -> "RelayedDump":
        """Return a dump for one request that is relayed only."""
        return RelayedDump(self._files, _relayed_in(provider))

    def opened(self, interception: Interception) -> None:
        """Nothing is sent yet."""

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """It stands in the answer, whose bytes are written down."""

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Write down what the network did where it failed."""
        if attempt.cause in _BY_THE_NETWORK:
            name = f"{interception.id}-{attempt.number}"
            _write_error(
                self._files, address_of(interception, attempt).provider, name, f"{attempt.cause}: {attempt.error}"
            )

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """The attempts have told all."""


class RelayedDump:
    """Dumps one request that is relayed only, under an id that it has for this alone."""

    def __init__(self, files: DumpFiles, folder: str) -> None:
        self._files = files
        self._folder = folder
        self._id = uuid7(int(time.time() * 1000))
        self._number = 0

    def tee(self, request: UpstreamRequest, sink: Sink) -> Sink:
        """Dump a request that is sent, and return what its answer has to go through on its way to `sink`."""
        self._number += 1
        return _tee(self._files, self._folder, f"{self._id}-{self._number}", request, sink)

    def failed(self, error: str) -> None:
        """Write down why there is no whole answer."""
        _write_error(self._files, self._folder, f"{self._id}-{max(1, self._number)}", error)


class _Tee:
    """A `Sink` that writes down what it passes on, first."""

    __slots__ = ("_file", "_files", "_sink")

    def __init__(self, files: DumpFiles, file: DumpFile, sink: Sink) -> None:
        self._files = files
        self._file = file
        self._sink = sink

    def head_received(self, head: ResponseHead) -> None:
        self._files.put(self._file, head)
        self._sink.head_received(head)

    def data_received(self, data: bytes) -> None:
        self._files.put(self._file, data)
        self._sink.data_received(data)

    def body_ended(self) -> None:
        self._files.put(self._file, None)
        self._sink.body_ended()

    def upstream_failed(self, signal: Signal, error: str) -> None:
        self._files.put(self._file, None)
        self._sink.upstream_failed(signal, error)


def _tee(files: DumpFiles, folder: str, name: str, request: UpstreamRequest, sink: Sink) -> Sink:
    secrets = secrets_in(request)
    files.put(files.begin(folder, f"{name}.req.txt", secrets), request)
    return _Tee(files, files.begin(folder, f"{name}.resp.txt", secrets), sink)


def _write_error(files: DumpFiles, folder: str, name: str, error: str) -> None:
    files.put(files.begin(folder, f"{name}.req_error.txt"), f"{error}\n".encode())


def _relayed_in(provider: str) -> str:
    return f"{provider}/passthrough"
