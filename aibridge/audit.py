"""The audit: do the books add up? `aibridge audit` prints the sum, and each difference with the ids it is about.

`started = completed + failed + client_gone + in flight`, where in flight is only what a running process holds: that the
locks of the journals tell. A store is read as it is at one moment, also while gateways write to it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aibridge.journal import is_live, journal_folder, names_in
from aibridge.lifecycle import NOT_ASKED, STATUS_OF, TERMINATION_OF, Termination
from aibridge.stores.base import MODEL_THOUGHTS, TOOL_USAGES, USER_PROMPTS
from aibridge.stores.sqlite import Connection, reading

SHOWN_IDS = 20
"""Of one difference; how many more there are is told."""


class Difference(NamedTuple):
    """What does not fit, and the interceptions that it is about."""

    what: str
    ids: list[str]

    def __str__(self) -> str:
        more = len(self.ids) - SHOWN_IDS
        shown = ", ".join(self.ids[:SHOWN_IDS])
        return f"{self.what}: {len(self.ids)}: {shown}{f', and {more} more' if more > 0 else ''}"


class Audit(NamedTuple):
    """What the books say: all there are, the ended by status, what runs, what waits in journals, what does not fit."""

    started: int
    ended: dict[str, int]
    in_flight: int
    waiting: list[str]
    differences: list[Difference]

    def fields(self) -> dict[str, Any]:
        """Return it as plain values, every id included."""
        return {**self._asdict(), "differences": [difference._asdict() for difference in self.differences]}


Each = Callable[[Sequence[str]], Iterable[str]]
"""Goes through the questions to a store, as `iter` does, and may tell how far it is."""


def audit(path: Path, each: Each = iter) -> Audit:
    """Look through a store and its journals.

    Args:
        path: the store's file; it is opened for reading only.
        each: told to go through the questions; of a large store one takes seconds.

    Raises:
        StoreUnavailable: it cannot be read now.
        StoreRefused: it is no store.
    """
    folder = journal_folder(path)
    live = _live_in(folder)
    with reading(path) as db:
        sums = _sums(db)
        still_open = list(db.execute("SELECT id, journal FROM interceptions WHERE ended_at IS NULL"))
        found = dict(_differences(db, sums, each))
    live |= _live_in(folder)  # what started or stopped meanwhile held it at the moment that was read
    found["open, and held by no running process"] = [id_ for id_, journal in still_open if journal not in live]
    return Audit(
        started=sum(sums.values()) + len(still_open),
        ended=_by_status(sums),
        in_flight=sum(journal in live for _, journal in still_open),
        waiting=sorted(names_in(folder) - live),
        differences=[Difference(what, sorted(ids)) for what, ids in found.items() if ids],
    )


def _sums(db: Connection) -> Counter[tuple[str | None, str | None]]:
    """Return how many have ended, by termination and cause."""
    query = "SELECT termination, cause, count(*) FROM interceptions WHERE ended_at IS NOT NULL GROUP BY 1, 2"
    return Counter({(termination, cause): count for termination, cause, count in db.execute(query)})


def _differences(
    db: Connection, sums: Iterable[tuple[str | None, str | None]], each: Each
) -> Iterator[tuple[str, list[str]]]:
    for termination, cause in sums:
        if not any(known == cause and end == termination for known, end in TERMINATION_OF.items()):
            query = "SELECT id FROM interceptions WHERE ended_at IS NOT NULL AND termination IS ? AND cause IS ?"
            ids = [row[0] for row in db.execute(query, (termination, cause))]
            yield f"ended as {termination} by {cause}, which is no such end", ids
    for what in each(list(_QUERIES)):
        yield what, [row[0] for row in db.execute(_QUERIES[what])]


_NOT_ASKED = ", ".join(f"'{cause.value}'" for cause in sorted(NOT_ASKED))
_QUERIES = {
    "ended, and its beginning is lost": "SELECT id FROM interceptions WHERE started_at IS NULL",
    "an attempt without its interception": "SELECT DISTINCT interception_id FROM attempts"
    " WHERE interception_id NOT IN (SELECT id FROM interceptions)",
    "ended before it began": "SELECT id FROM interceptions WHERE ended_at < started_at OR duration < 0",
    "completed, and with an error": "SELECT id FROM interceptions"
    " WHERE termination = 'completed' AND error IS NOT NULL",
    "completed, and its last event was not seen": "SELECT id FROM interceptions"
    " WHERE termination = 'completed' AND terminal_event_seen = 0 AND note IS NOT 'missing_done'",
    # Those that the client or the gateway ended, and those that could not be asked, may have had no attempt yet, or one
    # that ended in another way before.
    "ended otherwise than its last attempt": "SELECT id FROM interceptions LEFT JOIN attempts ON interception_id = id"  # noqa: S608 - our own words
    " AND number = (SELECT max(number) FROM attempts WHERE interception_id = id)"
    " WHERE interceptions.termination IN ('completed', 'upstream_error')"
    f" AND interceptions.cause NOT IN ({_NOT_ASKED}) AND interceptions.cause IS NOT attempts.cause",
    "answered by another than its last attempt asked": "SELECT id FROM interceptions JOIN attempts"
    " ON interception_id = id AND number = (SELECT max(number) FROM attempts WHERE interception_id = id)"
    " WHERE interceptions.termination IN ('completed', 'upstream_error') AND answered_by IS NOT attempts.provider",
    "tokens were told, and are lost": "SELECT id FROM interceptions WHERE usage_source != 'none'"
    " AND id NOT IN (SELECT interception_id FROM token_usages)",
    "tokens without their interception": "SELECT interception_id FROM token_usages"
    " WHERE interception_id NOT IN (SELECT id FROM interceptions)",
    **{
        f"{table.name} without their interception": f"SELECT DISTINCT interception_id FROM {table.name}"  # noqa: S608 - our own names
        " WHERE interception_id NOT IN (SELECT id FROM interceptions)"
        for table in (USER_PROMPTS, TOOL_USAGES, MODEL_THOUGHTS)
    },
}


def report(result: Audit) -> Iterator[str]:
    """Yield the lines that an operator reads."""
    parts = " + ".join(f"{count} {status}" for status, count in result.ended.items())
    yield f"{result.started} started = {parts} + {result.in_flight} in flight"
    for name in result.waiting:
        yield f"journal {name}: its process is gone; the next start brings it into the store"
    for difference in result.differences:
        yield f"difference: {difference}"
    if not result.differences:
        yield "no difference"


def _live_in(folder: Path) -> set[str]:
    return {name for name in names_in(folder) if is_live(folder, name)}


def _by_status(sums: Counter[tuple[str | None, str | None]]) -> dict[str, int]:
    counted = dict.fromkeys(STATUS_OF.values(), 0)
    for (termination, _), count in sums.items():
        if termination in set(Termination):
            counted[STATUS_OF[Termination(termination)]] += count
    return counted
