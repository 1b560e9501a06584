"""Chat Completions and Responses, as OpenAI and compatible servers speak them. It knows no sockets."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from aibridge.simulator.damage import Stream, damage
from aibridge.simulator.faces import Refusal, json_reply
from aibridge.simulator.faults import Play, Scope, Word, play_in_model
from aibridge.simulator.openai import OpenAIFace, headers, read_body, route_of, unknown_url
from aibridge.simulator.openai_chat import Completion, encode_chat, server_of
from aibridge.simulator.openai_errors import chunk_error, status_refusal
from aibridge.simulator.openai_responses import ResponsesAnswer, compacted, encode_response_event
from aibridge.simulator.values import Api, Ask, Event, Operation, Piece, Received, Reply, Shape, to_json

_STREAM_HEADERS = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))


class ChatFace(OpenAIFace):
    """`POST /chat/completions`."""

    api = Api.CHAT
    scopes = frozenset({Scope.EVENTS, Scope.CHAT, Scope.OPENAI})

    def owns(self, request: Received) -> bool:
        """Say whether it is for Chat Completions, or below it."""
        return route_of(request)[0].startswith("/chat/completions")

    def read(self, request: Received) -> Ask:
        """Return what is asked. Azure has the model in the path, and wants to know the API's version then."""
        rest, deployment = route_of(request)
        if request.method != "POST" or rest != "/chat/completions":
            raise unknown_url(request)
        if deployment and "api-version=" not in request.target:
            raise Refusal(404, "invalid_request_error", "Resource not found", "404")
        document = read_body(request.body, *(("messages",) if deployment else ("model", "messages")))
        return _ask(Operation.MESSAGE, deployment or str(document["model"]), document, request.body)

    def reply(self, ask: Ask, play: Play, shape: Shape, request_id: str) -> Reply:
        """Return the answer to any request that was read."""
        completion = Completion(ask, play, shape)
        if not ask.streaming:
            return replace(json_reply(200, headers(request_id), completion.document()), usage=completion.usage)
        if Word.ENDLESS in play:
            pieces: Iterable[Piece] = _endless(encode_chat(event, play) for event in completion.endless_events())
        else:
            pieces = self._damaged(completion.events(), ask, play)
        return _stream_reply(pieces, request_id, completion.usage)

    def _damaged(self, events: list[Event], ask: Ask, play: Play) -> list[Piece]:
        first = events[0]

        def error_event(kind: str, _: int) -> Event:
            usual = status_refusal(500)
            refusal = Refusal(500, kind or usual.kind, usual.message, kind or None)
            return Event("error", to_json(chunk_error(refusal, server_of(play), ask.model)))

        def encode(event: Event) -> bytes:
            return encode_chat(event, play, first=event is first)

        pieces = damage(Stream(events, encode, error_event, play))
        if server_of(play) == "vllm" and Word.ERROR_EVENT in play:  # it says that it is done, all the same
            pieces.append(Piece(encode_chat(Event("done", b"[DONE]"), play)))
        return pieces


class ResponsesFace(OpenAIFace):
    """`POST /responses` and `POST /responses/compact`."""

    api = Api.RESPONSES
    scopes = frozenset({Scope.EVENTS, Scope.OPENAI})

    def owns(self, request: Received) -> bool:
        """Say whether a response is to be made; those that are made already are another face's."""
        return request.method == "POST" and route_of(request)[0] in ("/responses", "/responses/compact")

    def read(self, request: Received) -> Ask:
        """Return what is asked."""
        document = read_body(request.body, "model")
        compact = route_of(request)[0] != "/responses"
        operation = Operation.COMPACT if compact else Operation.MESSAGE
        return _ask(operation, str(document["model"]), document, request.body)

    def reply(self, ask: Ask, play: Play, shape: Shape, request_id: str) -> Reply:
        """Return the answer to any request that was read."""
        if ask.operation is Operation.COMPACT:
            document = compacted(ask, play, shape)
            return replace(json_reply(200, headers(request_id), document), usage=document["usage"])
        answer = ResponsesAnswer(ask, play, shape)
        if not ask.streaming:
            return replace(json_reply(200, headers(request_id), answer.document()), usage=answer.usage)
        if Word.ENDLESS in play:
            pieces: Iterable[Piece] = _endless(encode_response_event(one, play) for one in answer.endless_events())
            return _stream_reply(pieces, request_id, answer.usage)
        events = answer.events()
        first = events[0]

        def encode(event: Event) -> bytes:
            return encode_response_event(event, play, first=event is first)

        return _stream_reply(damage(Stream(events, encode, answer.error_event, play)), request_id, answer.usage)


def _ask(operation: Operation, name: str, document: dict[str, object], body: bytes) -> Ask:
    model, words = play_in_model(name)
    streaming = operation is Operation.MESSAGE and document.get("stream") is True
    return Ask(operation=operation, model=model, words=words, streaming=streaming, document=document, body=body)


def _endless(encoded: Iterable[bytes]) -> Iterator[Piece]:
    return (Piece(data) for data in encoded)


def _stream_reply(pieces: Iterable[Piece], request_id: str, usage: dict[str, object] | None) -> Reply:
    return Reply(status=200, headers=_STREAM_HEADERS + headers(request_id), pieces=pieces, streaming=True, usage=usage)
