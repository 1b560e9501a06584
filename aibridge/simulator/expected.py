"""What a reader must end up with: the exact server-sent events of an answer, computed without any socket."""

from aibridge.simulator.encodings import encode_sse
from aibridge.simulator.faces import read_document
from aibridge.simulator.faults import CLEAN, parse_play, play_in_model
from aibridge.simulator.scripts import compose, message_events
from aibridge.simulator.values import Api, Ask, Operation, Shape


def expected_sse(
    request_body: bytes, api: Api | str, *, model: str = "", fault: str = "", shape: Shape | None = None
) -> bytes:
    """Return the text of the whole stream that answers a request; for Bedrock, what its frames stand for.

    Args:
        request_body: as the simulator receives it.
        api: which API it is sent to.
        model: for Bedrock, the model of the path; elsewhere it is in the body.
        fault: words that shape the answer (`many:100`); those that end it do not show here.
        shape: as in the simulator's settings.
    """
    document = read_document(request_body)
    name, words = play_in_model(model or str(document["model"]))
    ask = Ask(operation=Operation.MESSAGE, model=name, streaming=True, document=document, body=request_body)
    play = parse_play(fault or words or "")
    events = message_events(compose(Api(api), ask, play, shape or Shape()), play)
    # Variants of text (comments, line ends) are unknown to frames.
    text_play = play if Api(api) is Api.ANTHROPIC else CLEAN
    return b"".join(encode_sse(event, text_play, first=number == 0) for number, event in enumerate(events))
