"""What to answer: pure functions from a request to a message, and from a message to events. No bytes on the wire here.

The same request gets the same answer, ids and token counts included, so that a test can say what must come. Text when
there is nothing else; a tool call when the request brings tools and does not already answer one; thinking when it is
on.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, NamedTuple

from aibridge.simulator.faults import Play, Word
from aibridge.simulator.values import Api, Ask, Event, Shape, to_json

_SENTENCE = (
    "The simulator gives the same answer to the same request , word by word , so that a test can say what must come : "
    "naïve façades , 日本語 , Ελληνικά and \U0001f642 pass through as they are ."
)
_WORDS = tuple(_SENTENCE.split())
_UNICODE = 'line\u2028paragraph\u2029next\x85line \U0001f469\u200d\U0001f680 \ud83d\ude42 \u0000 \\ " / \u007f \ufeff '
THOUGHTS = ("The user asks something.", " I think about it", " for three deltas.")
_SIGNATURE = "EuYBCkYICxgCKkDsimulated/signature+of+a+thinking+block=="
ENDLESS_TEXT = "and so on, without end, "
_ARGUMENT_PARTS = 3
_DEEPEST_SCHEMA = 8
_MOST_PROPERTIES = 64
_SAID = ("system", "tools", "messages")
BYTES_PER_TOKEN = 4


class Flavour(NamedTuple):
    """Where the APIs that speak Anthropic's events differ."""

    id_prefix: str
    ping: bool
    """A ping comes after the first block's start."""
    full_delta_usage: bool
    """`message_delta` repeats all counts."""
    metrics: bool
    """`message_stop` carries `amazon-bedrock-invocationMetrics`."""


FLAVOURS = {
    Api.ANTHROPIC: Flavour(id_prefix="", ping=True, full_delta_usage=False, metrics=False),
    Api.BEDROCK: Flavour(id_prefix="bdrk_", ping=False, full_delta_usage=True, metrics=True),
}


class Counts(NamedTuple):
    """Token counts of a message."""

    input: int
    cache_creation: int
    cache_read: int
    output: int


class Block(NamedTuple):
    """One content block: as it starts, its deltas, and as a whole."""

    start: dict[str, Any]
    deltas: tuple[dict[str, Any], ...]
    whole: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What the model says."""

    api: Api
    id: str
    model: str
    blocks: tuple[Block, ...]
    stop_reason: str
    counts: Counts


def compose(api: Api, ask: Ask, play: Play, shape: Shape) -> Message:
    """Return the message that answers a request."""
    # Not of the whole body: a gateway may add to it, and the answer must still be the same.
    said = to_json([ask.model, *(ask.document.get(key) for key in (*_SAID, "max_tokens"))])
    digest = hashlib.sha256(said).hexdigest()
    limit = ask.document.get("max_tokens")
    text, cut_short = text_deltas(play, shape, limit if isinstance(limit, int) else None)
    tools = () if cut_short else _tool_blocks(api, ask, play, digest)
    blocks = (*_thinking_blocks(ask), *(tools or (_text_block(text),)))
    natural = "max_tokens" if cut_short else "tool_use" if tools else "end_turn"
    stop = play.get(Word.STOP)
    return Message(
        api=api,
        id=f"msg_{FLAVOURS[api].id_prefix}01{digest[:22]}",
        model=ask.model,
        blocks=blocks,
        stop_reason=stop.name if stop else natural,
        counts=_counts(ask, sum(len(block.deltas) for block in blocks)),
    )


def count_input(ask: Ask) -> int:
    """Return the number of input tokens of a request: a quarter of its text's bytes."""
    said = [ask.document.get(key) for key in _SAID]
    return len(to_json(said)) // BYTES_PER_TOKEN + 1


def message_document(message: Message) -> dict[str, Any]:
    """Return a message as the answer that is no stream."""
    return {
        **_head(message),
        "content": [block.whole for block in message.blocks],
        "stop_reason": message.stop_reason,
        "stop_sequence": None,
        "usage": _start_usage(message) | {"output_tokens": message.counts.output},
    }


def message_events(message: Message, play: Play) -> list[Event]:
    """Return all events of a message's stream, the terminal one last."""
    pings = Word.PINGS in play
    events = [_start_event(message)]
    for index, block in enumerate(message.blocks):
        events.append(_event("content_block_start", index=index, content_block=block.start))
        if index == 0 and FLAVOURS[message.api].ping:
            events.append(_PING)
        for delta in block.deltas:
            events.extend([_PING] * pings)
            events.append(_event("content_block_delta", index=index, delta=delta))
        events.append(_event("content_block_stop", index=index))
    events += (_delta_event(message), _stop_event(message, play))
    return [_padded(event, place) for place, event in enumerate(events)] if Word.PADDED in play else events


def endless_events(message: Message) -> Iterator[Event]:
    """Yield events of a stream that never ends."""
    yield _start_event(message)
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for number in count():
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": f"{ENDLESS_TEXT}{number} "})


def _head(message: Message) -> dict[str, Any]:
    return {"id": message.id, "type": "message", "role": "assistant", "model": message.model}


def _start_event(message: Message) -> Event:
    opening = {
        **_head(message),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _start_usage(message),
    }
    return _event("message_start", message=opening)


def _delta_event(message: Message) -> Event:
    usage: dict[str, Any] = {"output_tokens": message.counts.output}
    if FLAVOURS[message.api].full_delta_usage:
        usage = _cached_usage(message.counts) | usage
    delta = {"stop_reason": message.stop_reason, "stop_sequence": None}
    return _event("message_delta", delta=delta, usage=usage)


def _stop_event(message: Message, play: Play) -> Event:
    if not FLAVOURS[message.api].metrics:
        return _event("message_stop")
    counts = metered(message.counts, play)
    metrics = {
        "inputTokenCount": counts.input,
        "outputTokenCount": counts.output,
        "invocationLatency": latency_ms(play),
        "firstByteLatency": latency_ms(play, first_byte=True),
    }
    if counts.cache_read or counts.cache_creation:
        metrics["cacheReadInputTokenCount"] = counts.cache_read
        metrics["cacheWriteInputTokenCount"] = counts.cache_creation
    return _event("message_stop", **{"amazon-bedrock-invocationMetrics": metrics})


def metered(counts: Counts, play: Play) -> Counts:
    """Return the counts that AWS's metrics tell."""
    more = play.number(Word.MISCOUNT, 0)
    return Counts(*(count + more for count in counts)) if more else counts


def latency_ms(play: Play, *, first_byte: bool = False) -> int:
    """Return the milliseconds that AWS says it took. The usual ones are those of recorded traffic."""
    told = play.get(Word.LATENCY)
    if told is None or told.number is None:
        return 943 if first_byte else 1403
    return told.number // 2 if first_byte else told.number


def _cached_usage(counts: Counts) -> dict[str, Any]:
    return {
        "input_tokens": counts.input,
        "cache_creation_input_tokens": counts.cache_creation,
        "cache_read_input_tokens": counts.cache_read,
    }


def _start_usage(message: Message) -> dict[str, Any]:
    creation = {"ephemeral_5m_input_tokens": message.counts.cache_creation, "ephemeral_1h_input_tokens": 0}
    usage = _cached_usage(message.counts) | {"cache_creation": creation, "output_tokens": 1}
    return usage if message.api is Api.BEDROCK else usage | {"service_tier": "standard"}


def _counts(ask: Ask, output: int) -> Counts:
    """Split the input into fresh, written and read tokens where the request asks for caching."""
    tokens = count_input(ask)
    if b'"cache_control"' not in ask.body:
        return Counts(tokens, 0, 0, output)
    read, created = tokens // 2, tokens // 4
    return Counts(tokens - read - created, created, read, output)


def text_deltas(play: Play, shape: Shape, max_tokens: int | None) -> tuple[list[str], bool]:
    """Return the text's deltas, and whether `max_tokens` cut them short. A number asked for by a word is kept."""
    wanted = play.number(Word.MANY, shape.deltas)
    allowed = wanted if max_tokens is None or Word.MANY in play else min(wanted, max_tokens)
    size = play.number(Word.SIZE, shape.delta_chars)
    deltas = [_UNICODE] * (Word.UNICODE in play) + [_delta_text(number, size) for number in range(allowed)]
    huge = play.get(Word.HUGE)
    if huge is not None:
        deltas[:1] = ["x" * (huge.number or 0)]
    return deltas, allowed < wanted


def _delta_text(number: int, size: int) -> str:
    word = _WORDS[number % len(_WORDS)] + " "
    return word if not size else (word * (size // len(word) + 1))[:size]


def _text_block(deltas: list[str]) -> Block:
    return Block(
        start={"type": "text", "text": ""},
        deltas=tuple({"type": "text_delta", "text": text} for text in deltas),
        whole={"type": "text", "text": "".join(deltas)},
    )


def _thinking_blocks(ask: Ask) -> tuple[Block, ...]:
    thinking = ask.document.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") not in ("enabled", "adaptive"):
        return ()
    thoughts = () if thinking.get("display") == "omitted" else THOUGHTS
    deltas = [{"type": "thinking_delta", "thinking": thought} for thought in thoughts]
    signature = {"type": "signature_delta", "signature": _SIGNATURE}
    whole = {"type": "thinking", "thinking": "".join(thoughts), "signature": _SIGNATURE}
    return (Block({"type": "thinking", "thinking": "", "signature": ""}, (*deltas, signature), whole),)


def _tool_blocks(api: Api, ask: Ask, play: Play, digest: str) -> tuple[Block, ...]:
    tools = ask.document.get("tools")
    offered = [tool for tool in tools if isinstance(tool, dict) and "name" in tool] if isinstance(tools, list) else []
    named = play.get(Word.TOOL)
    chosen = named.name if named else _chosen_tool(ask, offered, again=Word.TOOL_LOOP in play)
    if not chosen:
        return ()
    schema: Any = next((tool.get("input_schema") for tool in offered if tool["name"] == chosen), None)
    arguments = sample(schema) if isinstance(schema, dict) else {}
    prefix = f"toolu_{FLAVOURS[api].id_prefix}01{digest[22:42]}"
    number = max(1, play.number(Word.TOOLS, 1))
    return tuple(_tool_block(f"{prefix}{place:02}", chosen, arguments) for place in range(number))


def _chosen_tool(ask: Ask, offered: list[dict[str, Any]], *, again: bool) -> str:
    """Return the tool to call: the one that must be, else the first; none where the tools have just answered."""
    choice = ask.document.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "none" or (_has_tool_results(ask) and not again):
        return ""
    if kind == "tool" and isinstance(choice, dict):
        return str(choice.get("name", ""))
    return next((str(tool["name"]) for tool in offered if "input_schema" in tool), "")


def _has_tool_results(ask: Ask) -> bool:
    messages = ask.document.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    blocks = content if isinstance(content, list) else []
    return any(isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks)


def _tool_block(tool_id: str, name: str, arguments: Any) -> Block:
    opening = {"type": "tool_use", "id": tool_id, "name": name}
    parts = ["", *in_parts(json.dumps(arguments, ensure_ascii=False))]
    return Block(
        start={**opening, "input": {}},
        deltas=tuple({"type": "input_json_delta", "partial_json": part} for part in parts),
        whole={**opening, "input": arguments},
    )


def in_parts(text: str) -> list[str]:
    """Return the text of a tool's arguments as models give it, bit by bit."""
    size = len(text) // _ARGUMENT_PARTS + 1
    return [text[start : start + size] for start in range(0, len(text), size)]


def sample(schema: dict[str, Any], depth: int = 0) -> Any:
    """Return a value that a JSON schema of the usual kind accepts."""
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        return _sample_object(schema, depth)
    if kind == "array":
        items = schema.get("items")
        return [sample(items, depth + 1)] if isinstance(items, dict) and depth < _DEEPEST_SCHEMA else []
    return {
        "integer": schema.get("minimum", 7),
        "number": schema.get("minimum", 1.5),
        "boolean": True,
        "null": None,
    }.get(str(kind), "sample")


def _sample_object(schema: dict[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or depth >= _DEEPEST_SCHEMA:
        return {}
    required = schema.get("required")
    wanted = required if isinstance(required, list) and required else properties
    names = [name for name in wanted if isinstance(name, str) and isinstance(properties.get(name), dict)]
    return {name: sample(properties[name], depth + 1) for name in islice(names, _MOST_PROPERTIES)}


def _event(kind: str, **members: Any) -> Event:
    return Event(kind, to_json({"type": kind, **members}))


_PING = Event("ping", b'{"type": "ping"}')
"""With its blank, as the provider sends it."""


def _padded(event: Event, place: int) -> Event:
    """Put blanks before the last brace, as the provider does against guessing by length."""
    return Event(event.type, event.data[:-1] + b" " * (place * 7 % 16) + b"}")
