"""Costs made anew, of the counts that a store keeps, beside a gateway that writes.

Rows that the price lists at hand have rated already are passed over: whoever is stopped in the middle goes on where it
was, and a second run finds nothing to do. A batch is read and priced outside of any lock, and written in one short
transaction; counts never change once they are written, so that nothing can come between.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aibridge import jsontext
from aibridge.stores.sqlite import changing
from aibridge.values import Cost, Usage

RERATED_AT_ONCE = 500
"""Rows of one transaction: some 5 ms, in which a gateway's writer waits."""


class Counted(NamedTuple):
    """The tokens of one interception, and what their price depends on; `before` is what they were said to cost."""

    interception_id: str
    started_at: float
    provider: str
    provider_kind: str
    upstream_model: str
    response_model: str
    turns: tuple[Usage, ...]
    before: Cost


_COLUMNS = (
    "interception_id, started_at, coalesce(answered_by, provider), coalesce(answered_kind, provider_kind),"
    " coalesce(answered_model, upstream_model), response_model,"
    " input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens, extras, service_tier,"
    " region, turns, cost_nanodollars, price_version"
)
# Without its beginning, which was lost with a part of a journal, nobody knows whose model it was.
_NEXT = (
    f"SELECT {_COLUMNS} FROM interceptions JOIN token_usages ON interception_id = id"  # noqa: S608 - our own names
    " WHERE started_at >= ?1 AND (started_at, id) > (?1, ?2) AND price_version IS NOT ?3"
    " ORDER BY started_at, id LIMIT ?4"
)
_UPDATE = "UPDATE token_usages SET cost_nanodollars = ?2, price_version = ?3, unpriced = ?4 WHERE interception_id = ?1"


def rerate(
    path: str | Path,
    price: Callable[[Counted], Cost],
    version: str,
    since: float,
    *,
    dry_run: bool = False,
    at_once: int = RERATED_AT_ONCE,
) -> Iterator[list[tuple[Counted, Cost]]]:
    """Rate anew what was rated by other prices, the oldest first. Yields each batch, once it is written.

    Args:
        path: the store's file.
        price: says what tokens cost.
        version: of its prices.
        since: what began before is left as it is; UTC seconds.
        dry_run: write nothing.
        at_once: rows of one transaction.

    Raises:
        StoreUnavailable: the store cannot be written to now. What was yielded stays.
        StoreRefused: it is no store of this version.
    """
    with changing(path) as db:
        at, last = since, ""
        while rows := db.execute(_NEXT, (at, last, version, at_once)).fetchall():
            batch = [(counted, price(counted)) for counted in map(_counted, rows)]
            if not dry_run:
                db.execute("BEGIN IMMEDIATE")
                db.executemany(_UPDATE, [(counted.interception_id, *_columns(cost)) for counted, cost in batch])
                db.execute("COMMIT")
            yield batch
            at, last = batch[-1][0].started_at, batch[-1][0].interception_id


def _columns(cost: Cost) -> tuple[int | None, str, str | None]:
    return cost.nanodollars, cost.version, None if cost.unpriced is None else cost.unpriced.value


def _counted(row: tuple[Any, ...]) -> Counted:
    """Return a row of `_COLUMNS` as what it says. NULL is what nobody said."""
    interception_id, started_at, provider, kind, upstream_model, response_model, *counts = row
    fresh, output, read, written, extras, service_tier, region, turns, nanodollars, version = counts
    named = jsontext.loads(extras.encode()) if extras else {}
    whole = Usage(fresh, output, read, written, tuple(named.items()), service_tier or "", region or "")
    return Counted(
        interception_id=interception_id,
        started_at=started_at,
        provider=provider or "",
        provider_kind=kind or "",
        upstream_model=upstream_model or "",
        response_model=response_model or "",
        turns=_turns(turns) if turns else (whole,),
        before=Cost(nanodollars, version or ""),
    )


def _turns(text: str) -> tuple[Usage, ...]:
    return tuple(
        Usage(fresh, output, read, written, tuple(map(tuple, extras)), service_tier or "", region or "")
        for fresh, output, read, written, extras, service_tier, region in jsontext.loads(text.encode())
    )
