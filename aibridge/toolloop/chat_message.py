"""An assistant's message of Chat Completions, put together of its deltas, and the messages that go back with it."""

from collections.abc import Sequence
from typing import Any

from aibridge import jsontext
from aibridge.dialects.base import MAX_FACTS
from aibridge.dialects.counts import is_count
from aibridge.errors import CorruptPayload
from aibridge.toolloop.base import MAX_TURN_BYTES, Image, Text, ToolCall, ToolResult

NOTHING: tuple[Any, ...] = (None, "", [])
"""Values of members that say nothing."""

_WITHOUT = frozenset({"role", "tool_calls", "function_call"})
"""Members of a delta that are not put together here: calls are, below."""

_NO_IMAGES = "[image left out: this API takes none]"
_ERROR = "Error: "


class Bound:
    """What may still be kept of one turn."""

    def __init__(self) -> None:
        self._left = MAX_TURN_BYTES

    def charge(self, value: Any) -> None:
        """Count a value that is kept. Raises `CorruptPayload` where the turn becomes too large."""
        self._left -= len(value) if isinstance(value, str) else len(jsontext.dumps(value))
        if self._left < 0:
            raise CorruptPayload(f"a turn of the tool loop is over the limit of {MAX_TURN_BYTES} bytes")


class Message:
    """The members of a message as they came, whatever a server calls them; calls and what says nothing are left out."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[Any]] = {}

    def add(self, delta: dict[str, Any], bound: Bound) -> None:
        """Take a delta, or a whole message."""
        for key, value in delta.items():
            if value not in NOTHING and key not in _WITHOUT:
                bound.charge(value)
                self._pieces.setdefault(key, []).append(value)

    def clear(self) -> None:
        """Forget all."""
        self._pieces.clear()

    def fields(self) -> dict[str, Any]:
        """Return the members, pieces of text and of lists one behind the other, in the order they came."""
        return {key: _joined(pieces) for key, pieces in self._pieces.items()}


def _joined(pieces: list[Any]) -> Any:
    if _are_texts(pieces):
        return "".join(pieces)
    if all(isinstance(piece, str | list) for piece in pieces):
        # Mistral's thoughts are lists of parts, its text is text, both in `content`.
        listed = [[{"type": "text", "text": piece}] if isinstance(piece, str) else piece for piece in pieces]
        return _merged([part for parts in listed for part in parts])
    return pieces[-1]


def _merged(parts: list[Any]) -> list[Any]:
    """Put pieces of one part together: those that have the same index, and stand one behind the other (OpenRouter)."""
    runs: list[list[Any]] = []
    for part in parts:
        if runs and _is_same(part, runs[-1][0]):
            runs[-1].append(part)
        else:
            runs.append([part])
    return [_one_of(run) if len(run) > 1 else run[0] for run in runs]


def _is_same(part: Any, other: Any) -> bool:
    if not isinstance(part, dict) or not isinstance(other, dict) or not is_count(part.get("index")):
        return False
    return all(part.get(key) == other.get(key) for key in ("index", "type"))


_TEXTS = ("text", "summary", "data")


def _one_of(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one part: texts are joined, of all else the last word that is said counts."""
    said = {key: value for piece in pieces for key, value in piece.items() if value is not None}
    texts = {key: [piece.get(key) or "" for piece in pieces] for key in _TEXTS if key in said}
    return {**said, **{key: "".join(values) for key, values in texts.items() if _are_texts(values)}}


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


class Call:
    """A call under way. `number` is its place among those that the client sees; None: it sees none of it (yet)."""

    __slots__ = ("_arguments", "_fields", "_function", "held", "id", "is_custom", "name", "number")

    def __init__(self) -> None:
        self.is_custom = False
        """Whether it calls a custom tool; none of ours is one."""
        self.id = ""
        self.name = ""
        self.number: int | None = None
        self.held: list[dict[str, Any]] = []
        """What the client may get, once there is a name."""
        self._fields: dict[str, Any] = {}
        self._function: dict[str, Any] = {}
        self._arguments: list[str] = []

    def take(self, entry: dict[str, Any], bound: Bound) -> None:
        """Take what one delta, or a whole message, says of the call."""
        said = function_of(entry)
        self.is_custom |= isinstance(entry.get("custom"), dict)
        self.id = self.id or jsontext.text_of(entry.get("id"))
        self.name = self.name or jsontext.text_of(said.get("name"))
        arguments = said.get("arguments")
        if isinstance(arguments, dict):  # as some servers send them
            arguments = jsontext.dumps(arguments).decode()
        if isinstance(arguments, str) and arguments:
            self._arguments.append(arguments)
        bound.charge(entry)
        self._fields |= {key: value for key, value in entry.items() if value is not None and key != "index"}
        self._function |= {key: value for key, value in said.items() if value is not None}

    @property
    def arguments(self) -> str:
        """The JSON text that came. None at all means that there are none."""
        return "".join(self._arguments) or "{}"

    def fields(self, id: str) -> dict[str, Any]:  # noqa: A002  the API's word
        """Return the call as it stands in a message, with what servers add to it (thought signatures).

        Arguments that are no JSON become JSON that holds them: servers with templates of their own refuse others.
        """
        arguments = self.arguments
        if not jsontext.is_valid(arguments.encode("utf-8", "replace")):
            arguments = jsontext.dumps({"invalid_json": arguments}).decode()
        function = {**self._function, "name": self.name, "arguments": arguments}
        return {**self._fields, "id": id, "type": "function", "function": function}


def function_of(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry of `tool_calls` says of a function, or of a custom tool."""
    said = entry.get("function") or entry.get("custom")
    return said if isinstance(said, dict) else {}


class Calls:
    """The calls of one turn, in the order in which they begin.

    They are told apart as by the observer (`aibridge.dialects.chat_calls`): by their index; by another id together with
    a name where a server gives every call the same index; by id and name where it gives none.
    """

    def __init__(self) -> None:
        self.all: list[Call] = []
        self._by_index: dict[int, Call] = {}

    def call_of(self, entry: dict[str, Any]) -> Call:
        """Return the call that an entry speaks of; a new one where it speaks of none that is there."""
        index = entry.get("index")
        call = self._by_index.get(index) if is_count(index) else self._call_without_index(entry)
        if call is None or self._begins_another(call, entry):
            call = self.begin()
            if is_count(index):
                self._by_index[index] = call
        return call

    def _call_without_index(self, entry: dict[str, Any]) -> Call | None:
        for call in self.all:
            if entry.get("id") and call.id == entry["id"]:
                return call
        return self.all[-1] if self.all and not function_of(entry).get("name") else None

    @staticmethod
    def _begins_another(call: Call, entry: dict[str, Any]) -> bool:
        return bool(function_of(entry).get("name") and entry.get("id") and call.id not in {"", entry["id"]})

    def begin(self) -> Call:
        """Return a new call."""
        if len(self.all) >= MAX_FACTS:
            raise CorruptPayload(f"a turn of the tool loop has more than {MAX_FACTS} calls")
        self.all.append(Call())
        return self.all[-1]


def assistant_message(message: Message, calls: Sequence[tuple[Call, str]]) -> bytes:
    """Return the message of a turn that has ended, with its calls under their ids."""
    said = {"role": "assistant", "content": None, **message.fields()}
    return jsontext.dumps({**said, "tool_calls": [call.fields(name) for call, name in calls]})


def tool_message(call: ToolCall, result: ToolResult) -> bytes:
    """Return the message that answers a call. The API takes text alone."""
    content = "\n".join([_text_of(part) for part in result.content])
    if result.is_error and not content.startswith(_ERROR):
        content = _ERROR + content
    return jsontext.dumps({"role": "tool", "tool_call_id": call.id, "content": content})


def _text_of(part: Text | Image) -> str:
    return part.text if isinstance(part, Text) else _NO_IMAGES
