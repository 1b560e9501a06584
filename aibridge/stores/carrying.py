"""The one step that brings a part of a journal into a store. The writer's thread takes it, or its `Carrier` does."""

from typing import NamedTuple

from aibridge.errors import AibridgeError
from aibridge.journal import Extent, Reader
from aibridge.stores.base import Store, StoreUnavailable
from aibridge.stores.entries import rows_of


class Carried(NamedTuple):
    """What a step did.

    Attributes:
        position: behind what was read; the reader's own where there was nothing. Before it where the store does not
            know so much: its file was removed, or replaced by an older one, and what is left is to be read again.
        at: when the last entry was written, UTC seconds; None where there was none.
        lost: bytes that were no good entries.
        refused: why the store has none of the entries, nor the position; empty where it has all.
    """

    position: int
    at: float | None = None
    lost: int = 0
    refused: str = ""


def carry(store: Store, reader: Reader, extent: Extent, max_bytes: int) -> Carried:
    """Write what follows the reader's position, and the position behind it, in one transaction.

    What fills a segment is durable in the store: the segment may be removed then.

    Args:
        store: to write to.
        reader: of the journal; its position stays.
        extent: of the journal.
        max_bytes: to read, about; one entry at least.

    Raises:
        StoreUnavailable: nothing is written, and all of it may be offered again.
        StoreRefused: not even the position can be written.
        OSError, JournalError: the journal cannot be read.
    """
    entries, position, lost = reader.read(extent, max_bytes)
    if position == reader.position:
        return Carried(position)
    known = store.position(reader.name)
    if known < reader.position:
        return Carried(known)
    durable = any(reader.position <= base <= position for base in extent.bases)
    if not entries:
        store.write({}, reader.name, position, durable=durable)
        return Carried(position, lost=lost)
    try:
        rows, at = rows_of(entries, reader.name)
        store.write(rows, reader.name, position, durable=durable)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - refused by the store, or not to be understood
        return Carried(position, refused=reason_of(error))
    return Carried(position, at)


def reason_of(error: Exception) -> str:
    """Return what may be told of an error: the words of a foreign one may hold what somebody said."""
    return str(error) if isinstance(error, AibridgeError) else type(error).__name__
