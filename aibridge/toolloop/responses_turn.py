"""One turn of the Responses API: the items that it has brought, and whose turn it is then. Pure."""

from aibridge import jsontext
from aibridge.body import Body
from aibridge.errors import CorruptPayload
from aibridge.toolloop.base import MAX_TURN_BYTES, ToolCall
from aibridge.toolloop.responses_items import Item, read_items, wait_for_client


class Turn:
    """What one answer of the upstream has brought.

    Args:
        theirs: names of the client's own tools that begin as ours do.
    """

    __slots__ = ("_kept", "calls", "id", "items", "skipped", "stored", "theirs")

    def __init__(self, theirs: frozenset[str]) -> None:
        self.theirs = theirs
        self.id = ""
        """Of the upstream's response."""
        self.stored = True
        """Whether the upstream says that it keeps the response, or nothing of it."""
        self.items: list[Item] = []
        self.calls: tuple[ToolCall, ...] = ()
        self.skipped: tuple[ToolCall, ...] = ()
        self._kept = 0

    def keep(self, size: int) -> None:
        """Count bytes that are kept. Raises `CorruptPayload` where they are too many."""
        self._kept += size
        if self._kept > MAX_TURN_BYTES:
            raise CorruptPayload(f"the answer is over {MAX_TURN_BYTES} bytes, and calls tools of the gateway")

    def take(self, item: Item) -> None:
        """Take an item that is complete."""
        self.keep(len(item.raw))
        self.items.append(item)

    def end(self, response: Body, *, completed: bool) -> None:
        """Take the response at its end, and decide who is asked next.

        Its output counts; where it is empty, as some servers leave it in streams, the items that came before do.

        Args:
            response: the object.
            completed: whether the model has said all, so that its calls can be run.
        """
        self.id = text_in(response, "id") or self.id
        self.stored = response.value("store") != b"false"
        self.items = read_items(response.value("output")) or self.items
        ours = tuple([item.call() for item in self.items if item.whole and item.is_ours(self.theirs)])
        others = [item for item in self.items if not item.is_ours(self.theirs)]
        if completed and not wait_for_client(others):
            self.calls = ours
        else:
            self.skipped = ours


def text_in(body: Body, key: str) -> str:
    """Return a top-level string; the empty one where it is another value."""
    value = body.value(key)
    return str(jsontext.loads(value)) if value is not None and value.startswith(b'"') else ""
