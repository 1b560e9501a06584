"""What a model of OpenAI's says, whichever of the two APIs asks it: texts, thoughts, tool calls and their token counts.

Pure. The same request gets the same answer, as in `scripts.py`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aibridge.simulator.faults import Play, Word
from aibridge.simulator.scripts import BYTES_PER_TOKEN, THOUGHTS, sample, text_deltas
from aibridge.simulator.values import Ask, Shape, to_json

CREATED = 1_767_874_658
"""The one moment at which every answer is made, in seconds since the epoch."""
SYSTEM_FINGERPRINT = "fp_51e1070cf2"
_CACHE_UNIT = 128
_CACHED_FROM = 1024
_SAID = ("instructions", "messages", "input", "tools")
_CUSTOM_INPUT = 'print("hello world")'


class Call(NamedTuple):
    """One call of a tool that the client has. `custom` tools take a text, functions JSON in `arguments`."""

    id: str
    name: str
    arguments: str
    custom: bool


class Counts(NamedTuple):
    """Token counts. `cached` is a part of the input, `reasoning` of the output."""

    input: int
    cached: int
    output: int
    reasoning: int


class Speech(NamedTuple):
    """What the model says once. Calls and texts exclude each other."""

    digest: str
    texts: tuple[str, ...]
    cut_short: bool
    thoughts: tuple[str, ...]
    calls: tuple[Call, ...]


def speak(ask: Ask, play: Play, shape: Shape, *, limit: Any, thinking: bool, answered: bool) -> Speech:
    """Return what the model says.

    Args:
        ask: the request; its tools may be of either API's form.
        play: what to play.
        shape: the length of texts.
        limit: the most tokens of text, where it is a number.
        thinking: whether it thinks first.
        answered: whether the request brings a tool's result, so that no tool is called again.
    """
    said = to_json([ask.model, *(ask.document.get(name) for name in _SAID), limit])
    digest = hashlib.sha256(said).hexdigest()
    texts, cut_short = text_deltas(play, shape, limit if isinstance(limit, int) else None)
    calls = () if cut_short else _calls(ask, play, digest, answered=answered)
    return Speech(digest, () if calls else tuple(texts), cut_short, THOUGHTS if thinking else (), calls)


def count(ask: Ask, speech: Speech, *, times: int = 1, more: int = 0) -> Counts:
    """Return the counts of an answer that says a speech so many times, and `more` beside it."""
    asked = len(to_json([ask.document.get(name) for name in _SAID])) // BYTES_PER_TOKEN + 1
    cached = asked // 2 // _CACHE_UNIT * _CACHE_UNIT if asked >= _CACHED_FROM else 0
    calls = sum(len(call.arguments) // BYTES_PER_TOKEN + 1 for call in speech.calls)
    spoken = len(speech.thoughts) + len(speech.texts) + calls + more
    return Counts(asked, cached, spoken * times, len(speech.thoughts) * times)


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what names a tool: Chat Completions puts it one level deeper than Responses does."""
    inner = tool.get(str(tool.get("type")))
    return inner if isinstance(inner, dict) else tool


def _calls(ask: Ask, play: Play, digest: str, *, answered: bool) -> tuple[Call, ...]:
    offered = [tool for tool in _listed(ask.document.get("tools")) if tool.get("type") in ("function", "custom")]
    named = play.get(Word.TOOL)
    chosen = named.name if named else _chosen(ask, offered, answered=answered and Word.TOOL_LOOP not in play)
    if not chosen:
        return ()
    tool = next((tool for tool in offered if function_of(tool).get("name") == chosen), {})
    custom = tool.get("type") == "custom"
    parameters = function_of(tool).get("parameters")
    arguments = _CUSTOM_INPUT if custom else json.dumps(sample(parameters) if isinstance(parameters, dict) else {})
    number = max(1, play.number(Word.TOOLS, 1))
    return tuple(Call(f"call_{digest[22:40]}{place:04}", chosen, arguments, custom) for place in range(number))


def _chosen(ask: Ask, offered: Sequence[Mapping[str, Any]], *, answered: bool) -> str:
    choice = ask.document.get("tool_choice")
    if choice == "none" or answered:
        return ""
    if isinstance(choice, dict) and choice.get("type") in ("function", "custom"):
        return str(function_of(choice).get("name", ""))
    return next((str(name) for tool in offered if (name := function_of(tool).get("name"))), "")


def _listed(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
