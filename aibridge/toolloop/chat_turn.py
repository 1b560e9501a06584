"""One turn of a tool loop of Chat Completions: what it calls, and what the client sees of it.

Chunks of a stream are rewritten one by one, and only where something has to change. Other choices than the first are
left alone: requests that ask for several have no loop.
"""

from enum import Enum, auto
from typing import Any

from aibridge import jsontext
from aibridge.dialects.base import fields_of
from aibridge.dialects.chat import is_error
from aibridge.dialects.chat_usage import places_of_usage, usage_in
from aibridge.dialects.counts import is_count
from aibridge.toolloop.base import PREFIX, ToolCall
from aibridge.toolloop.chat_message import NOTHING, Bound, Call, Calls, Message, assistant_message
from aibridge.toolloop.chat_sums import summed
from aibridge.values import Event

_DONE = b"[DONE]"

_WHOLE = frozenset({"tool_calls", "function_call", "stop", "eos", ""})
"""Finish reasons that leave calls whole. OpenAI says `stop` behind a call that was forced, Gemini and Ollama behind
any, Together AI `eos`; old Ollama says nothing."""

_REASONS = ("finish_reason", "native_finish_reason", "stop_reason")
"""OpenAI's; OpenRouter's and vLLM's own beside it."""

_FIRST = (0, None)
_BREAK = "\n\n"
"""Between the texts of two turns: the model ended the first one for a call that the client does not see."""


class Shown:
    """What the client knows of the answer from the turns that have ended; at first nothing."""

    def __init__(self) -> None:
        self.turns = 0
        self.id = ""
        self.created: Any = None
        self.has_role = False
        self.needs_break = False
        self.details = 0
        """Indices of `reasoning_details` that are taken."""
        self.usage: dict[str, Any] = {}
        self.message = Message()
        """The whole of it, of an answer that is not streamed."""


class Stand(Enum):
    """Where a turn stands."""

    RUNNING = auto()
    GOES_ON = auto()
    """The model has stopped for injected calls: another turn follows."""
    LAST = auto()
    FAILED = auto()


class Turn:
    """One answer of the upstream.

    Args:
        shown: what the client knows; the turn adds to it.
        names: functions that the client has defined.
    """

    def __init__(self, shown: Shown, names: frozenset[str]) -> None:
        self._shown = shown
        self._names = names
        self._bound = Bound()
        self._message = Message()
        self._calls = Calls()
        self._stand = Stand.RUNNING
        self._is_over = False  # the last word has come
        self._clients = 0  # calls that are the client's own
        self._details = shown.details
        self._last_text = ""
        self._usage: dict[str, Any] = {}
        self._changed = False  # whether what is at hand is not what came

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The injected calls to run."""
        return self._injected() if self._stand is Stand.GOES_ON else ()

    @property
    def skipped(self) -> tuple[ToolCall, ...]:
        """The injected calls that are not to run, beside calls of the client's."""
        return self._injected() if self._clients else ()

    def end(self) -> bytes:
        """Let another turn follow; return the message that this one was."""
        shown = self._shown
        calls = [(call, self._id_of(at, call)) for at, call in enumerate(self._ours())]
        shown.turns += 1
        shown.usage = summed(shown.usage, self._usage)
        shown.details = self._details
        if self._last_text:
            shown.needs_break = not self._last_text[-1].isspace()
        return assistant_message(self._message, calls)

    def take(self, event: Event) -> bytes | None:
        """Take an event; return the data that the client gets: this very object where it is untouched, or None."""
        if self._is_over:
            return event.data
        if event.data == _DONE:
            self._stop("")
            self._is_over = True
            return None if self._stand is Stand.GOES_ON else event.data
        fields = fields_of(event.data)
        if event.type == "error" or is_error(fields) or _first_choice(fields).get("error"):
            self._stand = Stand.FAILED
            return event.data
        self._changed = False
        if not self._take_chunk(fields):
            return None
        return jsontext.dumps(fields) if self._changed else event.data

    def take_body(self, answer: dict[str, Any]) -> bool:
        """Take an answer that is not streamed, and make of it what the client gets, if it is the last.

        Returns whether that is another than what came.
        """
        choice = _first_choice(answer)
        message = choice.get("message")
        message = message if isinstance(message, dict) else {}
        self._take_name(answer)
        self._take_calls(message, is_whole=True)
        self._message.add(message, self._bound)
        self._stop(jsontext.text_of(choice.get("finish_reason")))
        self._take_usage(answer)
        self._continue(message)
        self._shown.message.add(message, Bound())
        if self._shown.turns:
            message.update(self._shown.message.fields())
            self._changed = True
        return self._changed

    def _take_chunk(self, fields: dict[str, Any]) -> bool:
        """Make of a chunk what the client gets; return whether it gets anything."""
        choice = _first_choice(fields)
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
        self._take_name(fields)
        less = self._take_calls(delta)
        if not self._clients and self._stand is not Stand.LAST:
            self._message.add(delta, self._bound)
        reason = jsontext.text_of(choice.get("finish_reason"))
        if reason:
            self._take_nameless(delta)
            self._stop(reason)
        counts = self._take_usage(fields)
        goes_on = self._stand is Stand.GOES_ON
        if goes_on and (reason or counts):
            self._withhold_end(fields, choice)
            less = True
        if (less or self._shown.turns) and self._shown.has_role and delta.pop("role", None):
            self._changed = less = True
        self._continue(delta)
        tells_end = not goes_on and bool(reason or counts)
        if less and not tells_end and not any(value not in NOTHING for value in delta.values()):
            return False
        self._shown.has_role |= "role" in delta
        return True

    def _take_name(self, fields: dict[str, Any]) -> None:
        """Learn the first turn's id and time, and put them in the place of a later turn's. Azure's first are empty."""
        shown = self._shown
        name = jsontext.text_of(fields.get("id"))
        if name and not shown.id:
            shown.id, shown.created = name, fields.get("created")
        elif name and shown.turns:
            fields["id"] = shown.id
            if "created" in fields:
                fields["created"] = shown.created
            self._changed = True

    def _take_calls(self, said: dict[str, Any], *, is_whole: bool = False) -> bool:
        """Take the calls of a delta, or of a whole message, and leave the client's there, numbered without gaps.

        Returns whether some were there, and none is left.
        """
        entries = said.get("tool_calls")
        if not isinstance(entries, list):
            return False
        kept: list[Any] = []
        for entry in entries:
            kept += self._take_entry(entry, is_whole=is_whole) if isinstance(entry, dict) else [entry]
        return self._put_calls(said, kept, len(entries))

    def _take_entry(self, entry: dict[str, Any], *, is_whole: bool) -> list[dict[str, Any]]:
        """Return what the client gets of an entry, and of those that were held for want of a name."""
        if self._stand is Stand.GOES_ON:
            return []  # too late: the client was not told that the model has stopped
        call = self._calls.begin() if is_whole else self._calls.call_of(entry)
        call.take(entry, self._bound)
        if self._is_ours(call):
            call.held.clear()
            return []
        call.held.append(entry)
        return self._give_held(call, is_whole=is_whole) if call.name or is_whole else []

    def _take_nameless(self, delta: dict[str, Any]) -> None:
        """Give the client, at the end, what never got a name."""
        kept = list(delta.get("tool_calls") or ())
        before = len(kept)
        for call in self._calls.all:
            kept += self._give_held(call, is_whole=False) if call.held else []
        self._put_calls(delta, kept, before)

    def _give_held(self, call: Call, *, is_whole: bool) -> list[dict[str, Any]]:
        """Return what is held of a call of the client's. Its turn is the last, and nothing else is kept of it."""
        if call.number is None:
            call.number = self._clients
            self._clients += 1
            self._message.clear()
        given, call.held = call.held, []
        for entry in given:
            if entry.get("index") != call.number and not (is_whole and "index" not in entry):
                entry["index"] = call.number
                self._changed = True
        return given

    def _put_calls(self, said: dict[str, Any], kept: list[Any], before: int) -> bool:
        self._changed |= len(kept) != before
        if kept:
            said["tool_calls"] = kept
        elif before:
            del said["tool_calls"]
        return before > 0 and not kept

    def _continue(self, said: dict[str, Any]) -> None:
        """Write a delta, or a message, so that it stands behind what the client has of earlier turns."""
        shown = self._shown
        text = said.get("content")
        if isinstance(text, str) and text:
            self._last_text = text
            if shown.needs_break and not text[0].isspace():
                said["content"] = _BREAK + text
                self._changed = True
            shown.needs_break = False
        details = said.get("reasoning_details")
        if isinstance(details, list):
            numbered = [part for part in details if isinstance(part, dict) and is_count(part.get("index"))]
            self._details = max([self._details, *[shown.details + part["index"] + 1 for part in numbered]])
            if shown.details and numbered:
                said["reasoning_details"] = [_moved(part, shown.details) for part in details]
                self._changed = True

    def _take_usage(self, fields: dict[str, Any]) -> bool:
        """Take counts, of which the last ones count, and add those of earlier turns; return whether there are any."""
        said = usage_in(fields)
        if said is None:
            return False
        self._usage = said
        if self._shown.usage:
            for place in places_of_usage(fields):
                place["usage"] = summed(self._shown.usage, place["usage"])
            self._changed = True
        return True

    def _withhold_end(self, fields: dict[str, Any], choice: dict[str, Any]) -> None:
        """Take out what the answer ends with: it goes on."""
        for place in places_of_usage(fields):
            del place["usage"]
        choice.update({name: None for name in _REASONS if name in choice})
        self._changed = True

    def _stop(self, reason: str) -> None:
        """The model has stopped. Calls of ours are run where all came whole, and none of the client's came."""
        if self._stand is Stand.RUNNING:
            goes_on = reason in _WHOLE and not self._clients and bool(self._ours())
            self._stand = Stand.GOES_ON if goes_on else Stand.LAST

    def _injected(self) -> tuple[ToolCall, ...]:
        return tuple(
            [ToolCall(self._id_of(at, call), call.name, call.arguments) for at, call in enumerate(self._ours())]
        )

    def _ours(self) -> list[Call]:
        return [call for call in self._calls.all if self._is_ours(call)]

    def _is_ours(self, call: Call) -> bool:
        return call.name.startswith(PREFIX) and call.name not in self._names and not call.is_custom

    def _id_of(self, at: int, call: Call) -> str:
        """Return a call's id, or one of ours where the server gave none."""
        return call.id or f"call_{self._shown.turns}_{at}"


def _first_choice(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the first choice, with or without an index; an empty one where another comes, or none."""
    choices = fields.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) and choice.get("index") in _FIRST else {}


def _moved(part: Any, by: int) -> Any:
    """Return a part with its index behind those of earlier turns."""
    if isinstance(part, dict) and is_count(part.get("index")):
        return {**part, "index": part["index"] + by}
    return part
