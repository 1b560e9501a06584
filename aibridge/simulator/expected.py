"""What a reader must end up with: the exact text or document of an answer, computed without any socket."""

import json
from typing import Any

from aibridge.simulator.encodings import encode_sse
from aibridge.simulator.faces import read_document
from aibridge.simulator.faults import CLEAN, Play, parse_play, play_in_model
from aibridge.simulator.openai_chat import Completion, encode_chat
from aibridge.simulator.openai_responses import ResponsesAnswer, encode_response_event
from aibridge.simulator.scripts import compose, message_document, message_events
from aibridge.simulator.values import Api, Ask, Event, Operation, Shape, to_json


def expected_sse(
    request_body: bytes, api: Api | str, *, model: str = "", fault: str = "", shape: Shape | None = None
) -> bytes:
    """Return the text of the whole stream that answers a request; for Bedrock, what its frames stand for.

    Args:
        request_body: as the simulator receives it.
        api: which API it is sent to.
        model: for Bedrock, the model of the path, decoded; elsewhere it is in the body.
        fault: words that shape the answer (`many:100`); those that end it do not show here.
        shape: as in the simulator's settings.
    """
    ask, play = _asked(request_body, model, fault)
    api, shape = Api(api), shape or Shape()
    encode = encode_sse
    match api:
        case Api.CHAT:
            events, encode = Completion(ask, play, shape).events(), encode_chat
        case Api.RESPONSES:
            events, encode = ResponsesAnswer(ask, play, shape).events(), encode_response_event
        case Api.BEDROCK:
            events = message_events(compose(api, ask, play, shape), play)
            return b"".join(_text_of_chunk(event) for event in events)
        case _:
            events = message_events(compose(api, ask, play, shape), play)
    return b"".join(encode(event, play, first=number == 0) for number, event in enumerate(events))


def expected_document(
    request_body: bytes, api: Api | str, *, model: str = "", fault: str = "", shape: Shape | None = None
) -> dict[str, Any]:
    """Return the answer that is no stream, as a reader of its JSON has it. Arguments as for `expected_sse`."""
    ask, play = _asked(request_body, model, fault)
    api, shape = Api(api), shape or Shape()
    match api:
        case Api.CHAT:
            document = Completion(ask, play, shape).document()
        case Api.RESPONSES:
            document = ResponsesAnswer(ask, play, shape).document()
        case _:
            document = message_document(compose(api, ask, play, shape))
    read: dict[str, Any] = json.loads(to_json(document))
    return read


def _text_of_chunk(event: Event) -> bytes:
    """Return the plain event; letters at which careless readers break lines are escaped, as its data is JSON."""
    data = event.data
    for letter in "\u2028\u2029\x85":
        data = data.replace(letter.encode(), f"\\u{ord(letter):04x}".encode())
    return encode_sse(Event(event.type, data), CLEAN)


def _asked(body: bytes, model: str, fault: str) -> tuple[Ask, Play]:
    document = read_document(body)
    name, words = play_in_model(model or str(document["model"]))
    streaming = document.get("stream") is True
    ask = Ask(operation=Operation.MESSAGE, model=name, streaming=streaming, document=document, body=body)
    return ask, parse_play(fault or words or "")
