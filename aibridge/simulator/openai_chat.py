"""What Chat Completions answers: pure functions from a request to chunks, or to the answer that is no stream."""

from collections.abc import Iterator, Mapping
from itertools import count as counting
from typing import Any

from aibridge.simulator.encodings import encode_sse, line_end
from aibridge.simulator.faults import Play, Word
from aibridge.simulator.openai_speech import CREATED, SYSTEM_FINGERPRINT, Call, Counts, count, speak
from aibridge.simulator.scripts import ENDLESS_TEXT, in_parts
from aibridge.simulator.values import Ask, Event, Shape, to_json

_DONE = Event("done", b"[DONE]")
_KEEP_ALIVE = b": OPENROUTER PROCESSING"
_REASONING_MEMBERS = {"vllm": "reasoning_content", "llamacpp": "reasoning_content", "ollama": "reasoning",
                      "openrouter": "reasoning"}  # fmt: skip
"""How compatible servers tell thoughts; OpenAI itself only counts them."""
_MOST_CHOICES = 128
_MOST_CHUNKS = 1_000_000
_AZURE_FILTER = {"hate": {"filtered": False, "severity": "safe"}}


class Completion:
    """One answer. `usage` is None where the client gets none."""

    def __init__(self, ask: Ask, play: Play, shape: Shape) -> None:
        document = ask.document
        limit = document.get("max_completion_tokens", document.get("max_tokens"))
        thinking = document.get("reasoning_effort") not in (None, "none")
        self._speech = speak(ask, play, shape, limit=limit, thinking=thinking, answered=_answers_a_tool(document))
        wanted = document.get("n")
        most = max(1, min(_MOST_CHOICES, _MOST_CHUNKS // (len(self._speech.texts) + 1)))
        self._choices = min(max(wanted, 1), most) if isinstance(wanted, int) else 1
        self._counts = count(ask, self._speech, times=self._choices)
        self._ask = ask
        self._play = play
        self._thoughts_in = _REASONING_MEMBERS.get(server_of(play), "")
        told = not ask.streaming or self._asks_usage or Word.USAGE_EVERY in play or Word.USAGE_IN_FINISH in play
        self.usage = usage_document(self._counts) if told and Word.NO_USAGE not in play else None

    def document(self) -> dict[str, Any]:
        """Return the answer that is no stream."""
        usage = self.usage
        choices = [
            {"index": index, "message": self._message(), "logprobs": None, "finish_reason": self._finish_reason}
            for index in range(self._choices)
        ]
        head = self._head("chat.completion") | {"choices": choices}
        return head | ({} if usage is None else {"usage": usage})

    def events(self) -> list[Event]:
        """Return all chunks, the last word at the end."""
        deltas = self._deltas()
        chunks = [
            self._chunk(index, delta, so_far=place * self._choices + index)
            for place, delta in enumerate(deltas)
            for index in range(self._choices)
        ]
        if server_of(self._play) == "azure":
            results = [{"prompt_index": 0, "content_filter_results": _AZURE_FILTER}]
            blank = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
            chunks.insert(0, blank | {"prompt_filter_results": results})
        chunks += [self._finish_chunk(index) for index in range(self._choices)]
        if self._asks_usage and self.usage is not None and Word.USAGE_IN_FINISH not in self._play:
            chunks.append(self._head("chat.completion.chunk") | {"choices": [], "usage": self.usage})
        return [Event("chunk", to_json(chunk)) for chunk in chunks] + [_DONE] * (Word.NO_DONE not in self._play)

    def endless_events(self) -> Iterator[Event]:
        """Yield chunks of a stream that never ends."""
        yield Event("chunk", to_json(self._chunk(0, self._deltas()[0], so_far=0)))
        for number in counting():
            yield Event("chunk", to_json(self._chunk(0, {"content": f"{ENDLESS_TEXT}{number} "}, so_far=number)))

    @property
    def _asks_usage(self) -> bool:
        options = self._ask.document.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def _finish_reason(self) -> str:
        stop = self._play.get(Word.STOP)
        if stop is not None:
            return stop.name
        return "length" if self._speech.cut_short else "tool_calls" if self._speech.calls else "stop"

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._speech.digest[:29]}",
            "object": kind,
            "created": CREATED,
            "model": self._ask.model,
            "service_tier": "default",
            "system_fingerprint": SYSTEM_FINGERPRINT,
        }

    def _message(self) -> dict[str, Any]:
        text = "".join(self._speech.texts)
        message: dict[str, Any] = {"role": "assistant", "content": text if self._speech.texts else None}
        message |= {"refusal": None, "annotations": []}
        if self._thoughts_in and self._speech.thoughts:
            message[self._thoughts_in] = "".join(self._speech.thoughts)
        if self._speech.calls:
            message["tool_calls"] = [_call(call) for call in self._speech.calls]
        return message

    def _deltas(self) -> list[dict[str, Any]]:
        content = None if self._speech.calls else ""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": content, "refusal": None}]
        if self._thoughts_in:
            deltas += [{self._thoughts_in: thought} for thought in self._speech.thoughts]
        deltas += [{"content": text} for text in self._speech.texts]
        for index, call in enumerate(self._speech.calls):
            kind = "custom" if call.custom else "function"
            member = "input" if call.custom else "arguments"
            deltas.append({"tool_calls": [{"index": index} | _call(call._replace(arguments=""))]})
            parts = in_parts(call.arguments)
            deltas += [{"tool_calls": [{"index": index, kind: {member: part}}]} for part in parts]
        return deltas

    def _chunk(self, index: int, delta: Mapping[str, Any], *, so_far: int) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._with_usage({"choices": [choice]}, min(so_far, self._counts.output))

    def _finish_chunk(self, index: int) -> dict[str, Any]:
        choice = {"index": index, "delta": {}, "logprobs": None, "finish_reason": self._finish_reason}
        chunk = self._with_usage({"choices": [choice]}, self._counts.output)
        last = index == self._choices - 1
        return chunk | {"usage": self.usage} if last and Word.USAGE_IN_FINISH in self._play else chunk

    def _with_usage(self, members: dict[str, Any], so_far: int) -> dict[str, Any]:
        """Return a chunk; where usage is asked for, those before the last have a null."""
        chunk = self._head("chat.completion.chunk") | members
        if self.usage is None:
            return chunk
        if Word.USAGE_EVERY in self._play:
            counts = self._counts._replace(output=so_far, reasoning=min(so_far, self._counts.reasoning))
            return chunk | {"usage": usage_document(counts)}
        return chunk | {"usage": None} if self._asks_usage else chunk


def usage_document(counts: Counts) -> dict[str, Any]:
    """Return counts as Chat Completions tells them."""
    predicted = {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    return {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning, "audio_tokens": 0, **predicted},
    }


def encode_chat(event: Event, play: Play, *, first: bool = False) -> bytes:
    """Return a chunk on the wire: no `event` line; llama.cpp puts an error into a field of its own."""
    padding = b" " * (len(event.data) % 16) if Word.PADDED in play and event.data.endswith(b"}") else b""
    data = event.data[:-1] + padding + b"}" if padding else event.data
    wire = encode_sse(Event("", data), play, first=first)
    if event.type == "error" and server_of(play) == "llamacpp":
        wire = wire.replace(b"data:", b"error:", 1)
    return with_keep_alive(wire, play, first=first)


def with_keep_alive(wire: bytes, play: Play, *, first: bool) -> bytes:
    """Return an event with a comment before it, where the play wants pings; the first stays the first."""
    return wire if first or Word.PINGS not in play else _KEEP_ALIVE + line_end(play) * 2 + wire


def server_of(play: Play) -> str:
    """Return the name of the compatible server that is played, or an empty string for OpenAI's own."""
    server = play.get(Word.SERVER)
    return server.name if server else ""


def _call(call: Call) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _answers_a_tool(document: Mapping[str, Any]) -> bool:
    messages = document.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("role") == "tool"
