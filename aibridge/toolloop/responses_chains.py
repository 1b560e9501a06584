"""What a client's next request must name, where that is not what the client has seen.

A client goes on with `previous_response_id` or `conversation`, and the upstream remembers more than the client was
shown: a later response, or calls of ours that nobody answered. Bounded, and kept by one process: see ADR 0026. Pure.
"""

from typing import NamedTuple

from aibridge import jsontext
from aibridge.body import Body, edited
from aibridge.toolloop.responses_items import output_item
from aibridge.toolloop.responses_request import input_fits, with_outputs_first
from aibridge.values import MAX_ID_CHARACTERS

MAX_CHAINS = 10_000
"""That are remembered; of some 300 bytes each."""

MAX_UNANSWERED = 16
"""Calls of one response."""

_UNANSWERED = "Not run: the call stood beside calls that others answer. Call again if it is still needed."


class Chain(NamedTuple):
    """How an answer is gone on with."""

    shown: str
    """What the client will name: a response's id, or a conversation's."""
    last: str
    """What the upstream has to be told in its place."""
    unanswered: tuple[str, ...] = ()
    """Ids of calls that the upstream wants outputs for, and that the client does not know."""


class Chains:
    """The last chains, by what the client will name."""

    def __init__(self) -> None:
        self._chains: dict[str, Chain] = {}

    def note(self, chain: Chain) -> None:
        """Remember a chain, for the one noted the longest ago; the same name may have stood for another.

        Not where the client sees what the upstream wants, nor ids and calls beyond all measure.
        """
        self._chains.pop(chain.shown, None)
        if chain.shown == chain.last and not chain.unanswered:
            return
        if len(chain.unanswered) > MAX_UNANSWERED:
            return
        if any(len(said) > MAX_ID_CHARACTERS for said in (chain.shown, chain.last, *chain.unanswered)):
            return
        self._chains[chain.shown] = chain
        if len(self._chains) > MAX_CHAINS:
            del self._chains[next(iter(self._chains))]

    def followed(self, body: Body) -> bytes | None:
        """Return a request that goes on with a chain as the upstream wants it; None where it stays as it is.

        A response can be gone on with any number of times; a conversation has the outputs after the first.
        """
        if not input_fits(body):
            return None
        previous = _string(body.value("previous_response_id"))
        chain = self._chains.get(previous)
        if chain is None:
            chain = self._chains.pop(conversation_of(body), None)
        if chain is None:
            return None
        outputs = [output_item(call, _UNANSWERED) for call in chain.unanswered]
        members = with_outputs_first(body, outputs) if outputs else {}
        if chain.last != chain.shown:
            members["previous_response_id"] = jsontext.dumps(chain.last)
        return edited(body, members)


def conversation_of(body: Body) -> str:
    """Return the id of the conversation that a request is part of: a string, or an object with one."""
    said = body.value("conversation")
    fields = jsontext.loads(said) if said is not None else None
    return jsontext.text_of(fields.get("id") if isinstance(fields, dict) else fields)


def _string(raw: bytes | None) -> str:
    return str(jsontext.loads(raw)) if raw is not None and raw.startswith(b'"') else ""
