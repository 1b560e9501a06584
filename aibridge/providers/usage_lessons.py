"""Which models' servers refuse to be asked for usage in a stream. Kept in memory, within bounds. Pure.

A refusal that names `stream_options` is a suspicion: it may quote the client, and be about something else. The same
request without is the proof, where its answer is a good one.
"""

from collections import OrderedDict

from aibridge import jsontext
from aibridge.body import read_body
from aibridge.dialects import asking_usage
from aibridge.values import ResponseHead, UpstreamRequest

_MOST_MODELS = 256
_REFUSALS = frozenset({400, 422})
_MEMBER = "stream_options"
_ASKED = {"include_usage": True}


def names_stream_options(head: ResponseHead, body: bytes) -> bool:
    """Whether an answer is a refusal that may be about `stream_options`."""
    return head.status in _REFUSALS and _MEMBER.encode() in body


def without_asking(raw: bytes) -> bytes | None:
    """Return a request that `asking_usage` has changed as it was; None where the client itself had stream options."""
    body = read_body(raw)
    last = body.members[-1]
    if last.key != _MEMBER or jsontext.loads(raw[last.value_start : last.value_end]) != _ASKED:
        return None
    return raw[: body.members[-2].value_end] + raw[last.value_end :]


class UsageLessons:
    """What was learned, by the model's name upstream."""

    def __init__(self) -> None:
        self._refusing: OrderedDict[str, bool] = OrderedDict()

    def refuses(self, model: str) -> bool:
        """Whether this model's server is known to refuse."""
        return self._refusing.get(model, False)

    def suspect(self, model: str) -> None:
        """A request was refused, and is sent again without."""
        self._refusing.setdefault(model, False)
        if len(self._refusing) > _MOST_MODELS:
            self._refusing.popitem(last=False)

    def learn_from(self, request: UpstreamRequest) -> None:
        """A request that did not ask has a good answer. It proves a suspicion where it would have been asked."""
        if not self._refusing or not request.target.partition("?")[0].endswith("/chat/completions"):
            return
        body = read_body(request.body)
        if body.model in self._refusing and asking_usage(body) is not None:
            self._refusing[body.model] = True
