"""What Responses answers: pure functions from a request to output items, and from these to events or a document."""

from collections.abc import Iterator, Mapping
from itertools import count as counting
from typing import Any, NamedTuple

from aibridge.simulator.encodings import encode_sse
from aibridge.simulator.faults import Play, Word
from aibridge.simulator.openai_chat import with_keep_alive
from aibridge.simulator.openai_speech import CREATED, Call, Counts, Speech, count, speak
from aibridge.simulator.scripts import ENDLESS_TEXT, in_parts
from aibridge.simulator.values import Ask, Event, Shape, to_json

_ECHOED: dict[str, Any] = {
    "instructions": None, "max_output_tokens": None, "max_tool_calls": None, "parallel_tool_calls": True,
    "previous_response_id": None, "prompt_cache_key": None, "safety_identifier": None, "store": True,
    "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "user": None,
    "metadata": {},
}  # fmt: skip
"""What of a request its answer repeats, with what stands there else."""
_WEB_SEARCH = {"type": "web_search_call", "action": {"type": "search", "query": "sample"}}
_SHELL = {"type": "exec", "command": ["ls"], "env": {}}
_CLICK = {"type": "click", "button": "left", "x": 7, "y": 7}
_PATCH = {"type": "create_file", "path": "sample.txt", "diff": "+sample\n"}
_HOSTED: dict[str, dict[str, Any]] = {
    "web_search": _WEB_SEARCH,
    "web_search_preview": _WEB_SEARCH,
    "file_search": {"type": "file_search_call", "queries": ["sample"], "results": None},
    "code_interpreter": {"type": "code_interpreter_call", "code": "1 + 1", "container_id": "cntr_1", "outputs": []},
    "image_generation": {"type": "image_generation_call", "result": "iVBORw0KGgo="},
    "mcp": {"type": "mcp_call", "name": "sample", "arguments": "{}", "server_label": "sim", "output": "done",
            "error": None},
    "local_shell": {"type": "local_shell_call", "call_id": "call_hosted", "action": _SHELL},
    "shell": {"type": "shell_call", "call_id": "call_hosted", "action": {"commands": ["ls"], "timeout_ms": None}},
    "apply_patch": {"type": "apply_patch_call", "call_id": "call_hosted", "operation": _PATCH},
    "computer_use_preview": {"type": "computer_call", "call_id": "call_hosted", "action": _CLICK,
                             "pending_safety_checks": []},
}  # fmt: skip
"""The output item of each hosted tool, by the tool's type."""
_PROGRESS = {
    "web_search_call": ("in_progress", "searching", "completed"),
    "file_search_call": ("in_progress", "searching", "completed"),
    "code_interpreter_call": ("in_progress", "interpreting", "completed"),
    "image_generation_call": ("in_progress", "generating", "completed"),
    "mcp_call": ("in_progress", "completed"),
}
"""The events `response.TYPE.STEP` of hosted items that have such."""
_COMPACTED = "gAAAAABcompacted"


class Item(NamedTuple):
    """One output item: as it is announced, the events between (without numbers), and as a whole."""

    start: dict[str, Any]
    between: tuple[dict[str, Any], ...]
    whole: dict[str, Any]


class ResponsesAnswer:
    """One answer. `usage` is None where the client gets none."""

    def __init__(self, ask: Ask, play: Play, shape: Shape) -> None:
        document = ask.document
        answered = _answers_a_tool(document)
        self._speech = speak(
            ask,
            play,
            shape,
            limit=document.get("max_output_tokens"),
            thinking=isinstance(document.get("reasoning"), dict),
            answered=answered,
        )
        hosted = [] if answered and Word.TOOL_LOOP not in play else _hosted_items(document, self._speech.digest)
        self._items = [*_reasoning(self._speech, document), *hosted, *_said(self._speech)]
        self._counts = count(ask, self._speech, more=len(hosted))
        self._ask = ask
        self._play = play

    @property
    def usage(self) -> dict[str, Any] | None:
        """The final counts, where the answer tells them."""
        return None if Word.NO_USAGE in self._play or self._in_background else usage_document(self._counts)

    def document(self) -> dict[str, Any]:
        """Return the answer that is no stream; one in the background has only begun."""
        return self._response("queued") if self._in_background else self._finished()

    def events(self) -> list[Event]:
        """Return all events, the terminal one last."""
        opening = self._response("in_progress")
        told: list[dict[str, Any]] = [
            {"type": "response.created", "response": opening},
            {"type": "response.in_progress", "response": opening},
        ]
        for index, item in enumerate(self._items):
            told.append({"type": "response.output_item.added", "output_index": index, "item": item.start})
            told += [event | {"output_index": index} for event in item.between]
            told.append({"type": "response.output_item.done", "output_index": index, "item": item.whole})
        final = self._finished()
        told.append({"type": f"response.{final['status']}", "response": final})
        return [_numbered(event, number) for number, event in enumerate(told)]

    def endless_events(self) -> Iterator[Event]:
        """Yield events of a stream that never ends."""
        yield from self.events()[:2]
        place = {"item_id": f"msg_{self._speech.digest[:32]}", "output_index": 0, "content_index": 0}
        for number in counting():
            delta = {"delta": f"{ENDLESS_TEXT}{number} ", "logprobs": []}
            yield _numbered({"type": "response.output_text.delta", **place, **delta}, number + 2)

    def error_event(self, kind: str, number: int) -> Event:
        """Return an error in band: `flat`, `nested`, or else `response.failed` with this code."""
        code = kind if kind not in ("", "flat", "nested") else "server_error"
        message = "The server had an error while processing your request. Sorry about that!"
        if kind == "flat":
            return _numbered({"type": "error", "code": code, "message": message, "param": None}, number)
        if kind == "nested":
            error = {"type": code, "code": code, "message": message, "param": None}
            return _numbered({"type": "error", "error": error}, number)
        response = self._response("failed") | {"error": {"code": code, "message": message}}
        return _numbered({"type": "response.failed", "response": response}, number)

    @property
    def _in_background(self) -> bool:
        return self._ask.document.get("background") is True and not self._ask.streaming

    def _response(self, status: str) -> dict[str, Any]:
        return {
            "id": f"resp_{self._speech.digest[:48]}",
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "background": self._ask.document.get("background") is True,
            "error": None,
            "incomplete_details": None,
            "model": self._ask.model,
            "output": [],
            "service_tier": "default",
            **{name: self._ask.document.get(name, default) for name, default in _ECHOED.items()},
            "usage": None,
        }

    def _finished(self) -> dict[str, Any]:
        stop = self._play.get(Word.STOP)
        reason = stop.name if stop else "max_output_tokens" if self._speech.cut_short else ""
        response = self._response("incomplete" if reason else "completed")
        response["output"] = [item.whole for item in self._items]
        response["incomplete_details"] = {"reason": reason} if reason else None
        return response | {"usage": self.usage}


def compacted(ask: Ask, play: Play, shape: Shape) -> dict[str, Any]:
    """Return the answer of `/responses/compact`."""
    speech = speak(ask, play, shape, limit=None, thinking=False, answered=True)
    item = {"id": f"cmp_{speech.digest[:32]}", "type": "compaction", "encrypted_content": _COMPACTED}
    return {
        "id": f"resp_{speech.digest[:48]}",
        "object": "response.compaction",
        "created_at": CREATED,
        "output": [item],
        "usage": None if Word.NO_USAGE in play else usage_document(count(ask, speech)),
    }


def usage_document(counts: Counts) -> dict[str, Any]:
    """Return counts as Responses tells them."""
    return {
        "input_tokens": counts.input,
        "input_tokens_details": {"cached_tokens": counts.cached},
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.input + counts.output,
    }


def encode_response_event(event: Event, play: Play, *, first: bool = False) -> bytes:
    """Return an event on the wire."""
    if Word.PADDED in play:
        event = Event(event.type, event.data[:-1] + b" " * (len(event.data) % 16) + b"}")
    return with_keep_alive(encode_sse(event, play, first=first), play, first=first)


def _numbered(event: Mapping[str, Any], number: int) -> Event:
    return Event(event["type"], to_json({**event, "sequence_number": number}))


def _reasoning(speech: Speech, document: Mapping[str, Any]) -> list[Item]:
    if not speech.thoughts:
        return []
    item_id = f"rs_{speech.digest[:32]}"
    opening: dict[str, Any] = {"id": item_id, "type": "reasoning", "status": "in_progress", "summary": []}
    reasoning = document["reasoning"]
    if not reasoning.get("summary"):
        return [Item(opening, (), opening | {"status": "completed"})]
    text = "".join(speech.thoughts)
    place = {"item_id": item_id, "summary_index": 0}
    part = {"type": "summary_text", "text": text}
    between = (
        {"type": "response.reasoning_summary_part.added", **place, "part": part | {"text": ""}},
        *({"type": "response.reasoning_summary_text.delta", **place, "delta": one} for one in speech.thoughts),
        {"type": "response.reasoning_summary_text.done", **place, "text": text},
        {"type": "response.reasoning_summary_part.done", **place, "part": part},
    )
    return [Item(opening, between, opening | {"status": "completed", "summary": [part]})]


def _hosted_items(document: Mapping[str, Any], digest: str) -> list[Item]:
    tools = document.get("tools")
    kinds = [str(tool.get("type")) for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return [_hosted(_HOSTED[kind], f"{digest[:30]}{place:02}") for place, kind in enumerate(kinds) if kind in _HOSTED]


def _hosted(made: Mapping[str, Any], digest: str) -> Item:
    kind = made["type"]
    item_id = f"{kind.removesuffix('_call')}_{digest}"
    whole = {"id": item_id, **made, "status": "completed"}
    steps = _PROGRESS.get(kind, ())
    between = tuple({"type": f"response.{kind}.{step}", "item_id": item_id} for step in steps)
    return Item(whole | {"status": "in_progress"}, between, whole)


def _said(speech: Speech) -> list[Item]:
    return [_call(call) for call in speech.calls] or [_text(speech)]


def _text(speech: Speech) -> Item:
    text, item_id = "".join(speech.texts), f"msg_{speech.digest[:32]}"
    opening: dict[str, Any] = {"id": item_id, "type": "message", "status": "in_progress", "role": "assistant"}
    opening["content"] = []
    place = {"item_id": item_id, "content_index": 0}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    between = (
        {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": one, "logprobs": []} for one in speech.texts),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
    )
    status = "incomplete" if speech.cut_short else "completed"
    return Item(opening, between, opening | {"status": status, "content": [part]})


def _call(call: Call) -> Item:
    kind, member = ("custom_tool_call", "input") if call.custom else ("function_call", "arguments")
    item_id = f"{'ctc' if call.custom else 'fc'}_{call.id.removeprefix('call_')}"
    opening = {"id": item_id, "type": kind, "status": "in_progress", "call_id": call.id, "name": call.name}
    told = f"response.{kind}_{member}"
    between = (
        *({"type": f"{told}.delta", "item_id": item_id, "delta": part} for part in in_parts(call.arguments)),
        {"type": f"{told}.done", "item_id": item_id, member: call.arguments},
    )
    return Item(opening | {member: ""}, between, opening | {member: call.arguments, "status": "completed"})


def _answers_a_tool(document: Mapping[str, Any]) -> bool:
    asked = document.get("input")
    last = asked[-1] if isinstance(asked, list) and asked else None
    return isinstance(last, dict) and str(last.get("type", "")).endswith("_call_output")
