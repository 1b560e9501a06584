"""The stream of one turn of the Responses API, as a part of the one stream that the client sees. Pure.

Words, thoughts, the client's calls and the API's own tools pass as they come, with the indices and numbers of the
whole. Calls of ours are withheld with all their events, and so are the beginnings of later turns, and the ends of all
but the last.

Where the upstream keeps the response, its id is what the client goes on with, and only the last turn's will do. So the
beginning waits there until the turn has something to say: a thought without words is nothing yet. See ADR 0026.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from aibridge.body import Body, edited
from aibridge.dialects.chat_extra_usage import start_of_block
from aibridge.errors import CorruptPayload, PayloadError, WireError
from aibridge.toolloop.responses_answer import Answer
from aibridge.toolloop.responses_items import read_item
from aibridge.toolloop.responses_turn import Turn, text_in
from aibridge.values import Event, Frame, Scan, StreamDecoder
from aibridge.wire import encode_event, scan_object

_BEGINNINGS = frozenset({"response.created", "response.queued", "response.in_progress"})
_ENDS = frozenset({"response.completed", "response.incomplete", "response.cancelled", "response.failed"})
_ADDED = "response.output_item.added"
_DONE = "response.output_item.done"

_NUMBER = re.compile(rb"\d{1,9}")
_PING = b": ping\n\n"
_NO_BODY = Body(b"{}", ())
_PLACE_BYTES = 128
"""What a place costs to remember."""


class Passing(NamedTuple):
    """An event on its way: as it came, its data scanned, and the members that it gets."""

    event: Event
    block: bytes
    fields: Body
    members: dict[str, bytes]


class TurnDecoder:
    """A `StreamDecoder` over another, which relays whole events and returns all of them.

    Args:
        inner: the decoder of the upstream's bytes.
        turn: takes what the turn brings.
        answer: what the client has seen.
        held: what waits for the beginning, also of earlier turns; None where nothing is to wait.
        ended: told that this turn was the last, and has ended.
    """

    def __init__(
        self,
        inner: StreamDecoder,
        turn: Turn,
        answer: Answer,
        held: list[Passing] | None,
        ended: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._turn = turn
        self._answer = answer
        self._held = held
        self._ended = ended
        self._beginnings: list[Passing] = []
        self._speaks = not answer.opened
        self._places: dict[int, int | None] = {}
        self._withheld_ids: set[str] = set()
        self._over = False
        self._broken = ""

    @property
    def taken(self) -> int:
        """Bytes of the body decoded so far, the withheld ones too."""
        return self._inner.taken

    def feed_data(self, data: bytes) -> Scan:
        """Take a chunk; see `StreamDecoder`."""
        if self._broken:
            raise CorruptPayload(self._broken, Scan(b"", [], 0))
        try:
            return self._passed(self._inner.feed_data(data))
        except WireError as error:
            raise self._cut(error) from None

    def feed_eof(self) -> Scan:
        """Say that the body is complete; see `StreamDecoder`."""
        if self._broken:
            raise CorruptPayload(self._broken, Scan(b"", [], 0))
        try:
            return self._closed(self._passed(self._inner.feed_eof()))
        except WireError as error:
            raise self._cut(error) from None

    def _cut(self, error: WireError) -> WireError:
        """Return the error with what the client gets of the events before it."""
        if not self._broken:
            error.before = self._closed(self._passed(error.before))
        return error

    def _closed(self, scan: Scan) -> Scan:
        """Return the last scan of a stream with what was held back, where its end did not come."""
        return scan if self._over else scan._replace(relay=scan.relay + self._released())

    def _passed(self, scan: Scan) -> Scan:
        """Return a scan as the client sees it. Raises `CorruptPayload` where too much would have to be kept."""
        texts: list[bytes] = []
        events: list[Event | Frame] = []
        behind = size = 0
        for event in scan.events:
            if isinstance(event, Frame):
                events.append(event)
                continue
            start = start_of_block(scan.relay, behind, event.end)
            block, comments = scan.relay[start : event.end], scan.relay[behind:start]
            behind = event.end
            try:
                text = comments + (b"" if self._over else self._take(event, block))
            except CorruptPayload as error:
                self._broken = str(error)
                error.before = Scan(b"".join(texts), events, len(events))
                raise
            texts.append(text)
            size += len(text)
            events.append(event._replace(end=size))
        return Scan(b"".join((*texts, scan.relay[behind:])), events, scan.count)

    def _take(self, event: Event, block: bytes) -> bytes:
        """Return what the client gets of one event."""
        try:
            fields = Body(event.data, scan_object(event.data))
        except PayloadError:  # no data at all, [DONE]
            return self._released() + block
        kind = text_in(fields, "type") or event.type
        passing = Passing(event, block, fields, {})
        if kind in _BEGINNINGS:
            return self._begin(passing)
        if kind in _ENDS:
            return self._end(passing, completed=kind == "response.completed")
        if kind in {_ADDED, _DONE}:
            return self._take_item(passing, done=kind == _DONE)
        self._over = kind == "error"
        if not self._over and self._is_withheld(fields):
            return b""
        too_early = kind == "keepalive" and not self._answer.opened  # it would be the first event of all
        return _PING if too_early else self._passed_on(passing)

    def _passed_on(self, passing: Passing) -> bytes:
        """Return an event with its place in the whole, behind what has waited."""
        self._place(passing)
        return self._released() + self._written(passing)

    # the response

    def _begin(self, passing: Passing) -> bytes:
        response = _object_in(passing.fields, "response")
        self._turn.id = self._turn.id or text_in(response, "id")
        self._answer.meet(response)
        if not self._speaks:
            return b""
        if self._answer.opened:
            return self._written(self._begun(passing))
        self._turn.keep(len(passing.block))
        self._beginnings.append(passing)
        return b"" if self._held is not None else self._released()

    def _begun(self, passing: Passing) -> Passing:
        response = _object_in(passing.fields, "response")
        return passing._replace(members={"response": self._answer.begun(response)}) if response.members else passing

    def _end(self, passing: Passing, *, completed: bool) -> bytes:
        self._over = True
        response = _object_in(passing.fields, "response")
        self._turn.end(response, completed=completed and is_completed(response))
        if self._turn.calls:
            self._answer.add(response, self._turn.items)
            return b""
        text = self._released()
        self._ended()
        if response.members:
            passing.members["response"] = self._answer.ended(response, self._turn.items)
        return text + self._written(passing)

    def _released(self) -> bytes:
        """Return the beginning, and what has waited for it, where it was not sent yet."""
        if self._answer.opened:
            return b""
        self._answer.open(self._turn.id)
        held = self._held or []
        texts = [self._written(passing) for passing in (*map(self._begun, self._beginnings), *held)]
        self._beginnings.clear()
        held.clear()
        return b"".join(texts)

    # items

    def _take_item(self, passing: Passing, *, done: bool) -> bytes:
        item = read_item(passing.fields.value("item") or b"")
        if item is None:
            return self._passed_on(passing)
        if done:
            self._turn.take(item)
        index = _number_in(passing.fields, "output_index")
        if item.is_ours(self._turn.theirs):
            self._withhold(passing.fields, index)
            return b""
        if index is not None and (not done or self._places.get(index) is None):
            self._turn.keep(_PLACE_BYTES)
            self._places[index] = self._answer.next_index()
        if item.silent and self._held is not None and not self._answer.opened:
            self._turn.keep(len(passing.block))
            self._place(passing)
            self._held.append(passing)
            return b""
        return self._passed_on(passing)

    def _withhold(self, fields: Body, index: int | None) -> None:
        """Note that the events of an item are not for the client; they name its place, or at least its id."""
        self._turn.keep(_PLACE_BYTES)
        if index is not None:
            self._places[index] = None
        else:
            self._withheld_ids.add(text_in(_object_in(fields, "item"), "id"))

    def _is_withheld(self, fields: Body) -> bool:
        index = _number_in(fields, "output_index")
        if index is not None:
            return self._places.get(index, index) is None
        return bool(self._withheld_ids) and text_in(fields, "item_id") in self._withheld_ids

    def _place(self, passing: Passing) -> None:
        """Give an event that names a place the one that the client knows."""
        index = _number_in(passing.fields, "output_index")
        if index is None:
            return
        place = self._places.get(index)
        if place is None:
            self._turn.keep(_PLACE_BYTES)
            place = self._places[index] = self._answer.next_index()
        if place != index:
            passing.members["output_index"] = b"%d" % place

    def _written(self, passing: Passing) -> bytes:
        """Return the text of an event: the block itself where nothing has to change."""
        event, block, fields, members = passing
        number = _number_in(fields, "sequence_number")
        if number is not None:
            ours = self._answer.next_number(number)
            if ours != number:
                members = {**members, "sequence_number": b"%d" % ours}
        changed = {key: value for key, value in members.items() if fields.value(key) != value}
        if not changed:
            return block
        return encode_event(event.type if event.type.isprintable() else "", edited(fields, changed))


def is_completed(response: Body) -> bool:
    """Whether a response says that the model has come to its end, or nothing of it."""
    return text_in(response, "status") in {"", "completed"}


def _object_in(fields: Body, key: str) -> Body:
    value = fields.value(key)
    if value is None or not value.startswith(b"{"):
        return _NO_BODY
    return Body(value, scan_object(value))


def _number_in(fields: Body, key: str) -> int | None:
    value = fields.value(key)
    return int(value) if value is not None and _NUMBER.fullmatch(value) else None
