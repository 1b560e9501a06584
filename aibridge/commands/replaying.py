"""The command `replay`: an answer as the API dump has it, read by this build, and compared with the record."""

import argparse
import glob
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from aibridge import jsontext
from aibridge.assembly import build_provider, content_rules, own_dialects
from aibridge.commands.parser import Commands, add_json
from aibridge.commands.reporting import Fields, configuration, told_time
from aibridge.commands.terminal import Colour, painter, plain, print_lines
from aibridge.config import Config
from aibridge.dialects import DIALECTS
from aibridge.dumptext import read_response
from aibridge.errors import AibridgeError, ConfigError
from aibridge.lifecycle import Cause, Signal, Termination
from aibridge.relay import Relay
from aibridge.replay import END_OF, Answer, Played, events_in, play
from aibridge.stores import recorded
from aibridge.stores.recorded import COUNTS
from aibridge.stores.sqlite import querying
from aibridge.telemetry.metrics import Metrics
from aibridge.values import ResponseHead, UsageSource

_CANNOT_SAY = 2

_OF_ATTEMPTS = (
    "termination", "cause", "error", "http_status", "terminal_event_seen", "last_event", "events", "bytes_in",
    "upstream_request_id", "note",
)  # fmt: skip
_SEEN = ("http_status", "terminal_event_seen", "events", "bytes_in", "bytes_out")
_OF_THE_WHOLE = ("message_id", "response_model", "stop_reason", "usage_source")


class Replayed(NamedTuple):
    """One attempt: what is there of it, and what is not; what the record says of it, and what this build says."""

    number: int
    file: str
    missing: str
    events: list[str]
    record: Fields
    now: Fields

    @property
    def differences(self) -> list[str]:
        """The names of what is not the same."""
        return [name for name, value in self.record.items() if value != self.now[name]]

    @property
    def equal(self) -> bool | None:
        """Whether all is the same; None where that cannot be said."""
        return None if self.missing or not self.record else not self.differences


def add_commands(commands: Commands) -> None:
    """Add the command of this file."""
    replay = commands.add(
        "replay",
        _replay,
        "play a dumped answer through this build, and say whether it ends as it was recorded",
        [
            "replay 0198c0de-0000-7000-8000-000000000001 --config aibridge.yaml",
            "replay 0198c0de-0000-7000-8000-000000000001 --json | jq .equal",
        ],
        'docs/configuration.md, "The API dump"',
    )
    replay.add_argument("id", metavar="ID", help="of the interception")
    replay.add_argument("--config", metavar="FILE", help="the gateway's, which names its dump and its records")
    add_json(replay)


def _replay(options: argparse.Namespace) -> int:
    configured = configuration(options)
    record = _record(configured.records.path, options.id)
    replayed = list(_replayed(configured, record))
    verdicts = {one.equal for one in replayed}
    equal = False if False in verdicts else None if None in verdicts else True
    lines = [_as_json(record, replayed, equal)] if options.json else _as_text(record, replayed, equal)
    print_lines(lines, as_json=options.json)
    return _CANNOT_SAY if equal is None else 0 if equal else 1


def _record(path: Path, interception_id: str) -> Fields:
    if not path.exists():
        raise ConfigError(f"{path}: there are no records; --config FILE names the gateway's configuration")
    with querying(path) as query:
        found = recorded.interception(query, interception_id)
    if found is None:
        raise AibridgeError(f"{interception_id}: {path} has no such interception; `aibridge tail` shows ids")
    if found["started_at"] is None:
        raise AibridgeError(f"{interception_id}: its beginning is lost: nobody knows how to read its answer")
    return found


def _replayed(configured: Config, record: Fields) -> Iterator[Replayed]:
    """Play the attempts of an interception, one behind the other. Raises `AibridgeError` where nothing was dumped."""
    folder = configured.dump.path
    if folder is None:
        raise ConfigError("dump.path is not configured: what upstreams say is not written down, and cannot be played")
    files = _files(folder, record["id"])
    if not files:
        raise AibridgeError(
            f"{record['id']}: {folder} holds no answer to it: there was none, the dump was off, or it has been deleted"
            " (dump.max_total_bytes)"
        )
    rows = {row["number"]: row for row in record["attempts"]}
    before: Relay | None = None
    for number in sorted({*rows, *files}):
        row = rows.get(number)
        attempt = _Recorded(configured, record, row, is_last=number == max(rows, default=0))
        replayed, before = attempt.replayed(number, files.get(number), before)
        yield replayed


def _files(folder: Path, interception_id: str) -> dict[int, Path]:
    """Return the files of an interception's answers by the number of the attempt, whichever provider gave them."""
    found = folder.glob(f"*/{glob.escape(interception_id)}-*.resp.txt")
    return {int(path.name.removesuffix(".resp.txt").rpartition("-")[2]): path for path in found}


class _Recorded:
    """One attempt as it was recorded; `row` is None where the gateway was killed meanwhile."""

    def __init__(self, configured: Config, record: Fields, row: Fields | None, *, is_last: bool) -> None:
        self._config = configured
        self._record = record
        self._row = row
        self._is_last = is_last
        name = str((row or {}).get("provider") or record["provider"])
        if name not in configured.providers:
            raise ConfigError(f"provider {name} answered, and is not in the configuration; --config FILE names another")
        self._provider = build_provider(name, configured, Metrics())
        self._dialect = own_dialects(configured).get(name, {}).get(record["dialect"]) or DIALECTS[record["dialect"]]
        self._policy = content_rules(configured, name).policy

    def replayed(self, number: int, file: Path | None, before: Relay | None) -> tuple[Replayed, Relay]:
        """Play it behind the attempt before. Returns its relay too."""
        head, body, missing = self._read(file)
        answer = self._answer(head, body)
        # Whether the client had ordered the usage that the request asked for, no dump tells.
        asked = [False, True] if self._record["dialect"] == "chat" and answer.streaming else [False]
        recorded = self._recorded()
        candidates = []
        for adds_usage in asked:
            played = self._played(answer._replace(adds_usage=adds_usage), before)
            one = Replayed(number, str(file or ""), missing, events_in(played.text), recorded, self._now(played))
            candidates.append((one, played.relay))
        return min(candidates, key=lambda candidate: len(candidate[0].differences))

    def _played(self, answer: Answer, before: Relay | None) -> Played:
        return play(answer, self._provider, self._dialect, self._policy, self._record["id"], before)

    def _read(self, file: Path | None) -> tuple[ResponseHead | None, bytes, str]:
        """Return head and body as far as they went through the relay, and what is missing of them."""
        if file is None:
            came = self._row is not None and self._row["http_status"] is not None
            return None, b"", "an answer came, and the dump does not have it" if came else ""
        head, body = read_response(file.read_bytes())
        if self._row is None:
            return head, body, "the gateway was killed: there is no end to compare with"
        size = self._row["bytes_in"] or 0
        if len(body) >= size:
            return head, body[:size], ""
        limit = self._config.dump.max_body_bytes
        lost = "some was lost, or held a secret of the request"
        why = f"dump.max_body_bytes is {limit}" if len(body) == limit else lost
        return head, body, f"the dump holds {len(body)} bytes of {size}: {why}"

    def _answer(self, head: ResponseHead | None, body: bytes) -> Answer:
        record, row = self._record, self._row
        streaming = bool(record["streaming"])
        if row is None:
            return Answer(head, body, streaming, unfinished=True)
        cause = Cause(row["cause"])
        end = END_OF.get(cause)
        heard_out = end is Signal.CLIENT_LOST and record["usage_source"] == UsageSource.PROVIDER_FINAL
        if cause is Cause.HTTP_STATUS and head is not None and _promised(head) > len(body):
            end = Signal.CUT
        return Answer(head, body, streaming, end=end, error=row["error"] or "", heard_out=heard_out)

    def _recorded(self) -> Fields:
        """Return what the record says of the attempt, as far as it can be compared."""
        row = self._row
        if row is None:
            return {}
        found = {name: row[name] for name in _OF_ATTEMPTS}
        if self._is_last and not self._has_tools_of_ours:
            alone = len(self._record["attempts"]) == 1
            found |= {name: self._record[name] for name in _OF_THE_WHOLE}
            found |= {name: (self._record if alone else row)[name] for name in COUNTS}
        if self._writes_a_stream:
            found["bytes_out"] = row["bytes_out"]
        return found

    def _now(self, played: Played) -> Fields:
        """Return the same of this build."""
        attempt, evidence = played.attempt, played.attempt.evidence
        return {
            **{name: getattr(attempt, name) for name in ("termination", "cause", "usage_source")},
            **{name: getattr(attempt, name) or None for name in ("error", "message_id")},
            **{name: getattr(evidence, name) for name in _SEEN},
            **{name: getattr(evidence, name) or None for name in ("last_event", "upstream_request_id", "note")},
            "response_model": played.response_model or None,
            "stop_reason": played.stop_reason or None,
            **{name: getattr(attempt.usage, name) for name in COUNTS},
        }

    @property
    def _has_tools_of_ours(self) -> bool:
        return any(tool["latency"] is not None for tool in self._record["tools"])

    @property
    def _writes_a_stream(self) -> bool:
        """Whether all that its client got is made of the answer alone."""
        row = self._row
        if row is None or row["termination"] not in {Termination.COMPLETED, Termination.UPSTREAM_ERROR}:
            return False
        return bool(self._record["streaming"] and row["events"] and not self._has_tools_of_ours)


def _promised(head: ResponseHead) -> int:
    length = head.header(b"content-length")
    return int(length) if length.isdigit() else 0


def _runs(events: Iterable[str]) -> list[Fields]:
    """Return events with how many of one type stand behind each other."""
    return [{"type": kind, "count": len(list(some))} for kind, some in groupby(events)]


def _as_json(record: Fields, replayed: Iterable[Replayed], equal: bool | None) -> str:  # noqa: FBT001 - an answer
    attempts = [
        {
            "number": one.number,
            "file": one.file or None,
            "missing": one.missing or None,
            "events": _runs(one.events),
            "record": one.record,
            "now": {name: one.now[name] for name in one.record or one.now},
            "differences": one.differences,
        }
        for one in replayed
    ]
    return jsontext.dumps({"id": record["id"], "equal": equal, "attempts": attempts}).decode()


def _as_text(record: Fields, replayed: Iterable[Replayed], equal: bool | None) -> Iterator[str]:  # noqa: FBT001 - as above
    paint = painter()
    words = (record["provider"], record["model"] or "-", "stream" if record["streaming"] else "no stream")
    yield plain(f"{record['id']}  {'  '.join(words)}  {told_time(record['started_at'])}")
    for one in replayed:
        yield f"attempt {one.number}: {plain(one.file) or 'no answer was dumped'}"
        if one.missing:
            yield paint(f"  {one.missing}", Colour.YELLOW)
        yield from _event_lines(one.events)
        for name in one.record or one.now:
            if name in one.differences:
                told = f"in the record {_shown(one.record[name])}, of this build {_shown(one.now[name])}"
                yield paint(f"! {name:<28}{told}", Colour.RED)
            else:
                yield f"  {name:<28}{_shown(one.now[name])}"
    yield _VERDICTS[equal]


_VERDICTS = {
    True: "equal: this build reads it as the record says",
    False: "different: this build does not read it as the record says",
    None: "it cannot be said whether this build reads it as the record says: see what is missing above",
}


def _event_lines(events: list[str]) -> Iterator[str]:
    at = 1
    for run in _runs(events):
        last = at + run["count"] - 1
        yield f"  {f'{at}-{last}' if last > at else at:>13}  {plain(run['type'])}"
        at = last + 1


def _shown(value: Any) -> str:
    return "-" if value is None else plain(str(value))
