"""What an API's face must do, and what all faces share. This file does not know any one API.

A face checks credentials, reads a request, and says answers and errors as its provider says them. Adding an API is one
file with a face in it and one line in the table of `answers.py`.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from aibridge.errors import AibridgeError
from aibridge.simulator.faults import CLEAN, Play, Scope
from aibridge.simulator.values import Api, Ask, Piece, Received, Reply, Shape, to_json


class Refusal(AibridgeError):
    """A request that the provider would refuse. `kind` is the provider's own name for why.

    `code` is a second, finer name, and `param` the member of the body that is wrong, where an API tells them.
    """

    def __init__(self, status: int, kind: str, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.code = code
        self.param = param


class Face(Protocol):
    """One API."""

    @property
    def api(self) -> Api:
        """The API that this face speaks."""

    @property
    def scopes(self) -> frozenset[Scope]:
        """What of the faults its answers can play, beside those of all APIs."""

    def owns(self, request: Received) -> bool:
        """Say whether a request is for this API."""

    def new_request_id(self) -> str:
        """Return an id as the provider makes them."""

    def authenticate(self, request: Received, now: float) -> None:
        """Raise `Refusal` where the provider would. `now` is UTC in seconds since the epoch."""

    def read(self, request: Received) -> Ask:
        """Return what is asked. Raises `Refusal`."""

    def reply(self, ask: Ask, play: Play, shape: Shape, request_id: str) -> Reply:
        """Return the answer, with the damage that the play does to its body."""

    def refuse(self, refusal: Refusal, request_id: str, play: Play = CLEAN) -> Reply:
        """Return a refusal in the provider's words; the play may name the server whose words they are."""

    def too_long(self) -> Refusal:
        """Return what the provider says to a prompt that its model cannot take."""

    def status_refusal(self, status: int) -> Refusal:
        """Return what the provider says with an error status."""


def json_reply(status: int, headers: tuple[tuple[str, str], ...], document: Mapping[str, Any]) -> Reply:
    """Return a JSON answer. It is finished with its last byte where it is no error."""
    body = to_json(document)
    ok = status < 400  # noqa: PLR2004 - where errors begin
    pieces = [Piece(body, events=0, terminal=ok)]
    return Reply(status=status, headers=(("content-type", "application/json"), *headers), pieces=pieces)


def read_document(body: bytes) -> dict[str, Any]:
    """Return a request's JSON object. Raises `ValueError` with a text for the client."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The request body is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("The request body is not valid JSON: expected an object")  # noqa: TRY004 - it is a value
    return document


def missing_fields(document: Mapping[str, Any], *names: str) -> str:
    """Return the first missing field as providers say it (`max_tokens: Field required`), or an empty string."""
    return next((f"{name}: Field required" for name in names if name not in document), "")
