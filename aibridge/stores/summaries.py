"""What many interceptions come to: how they ended over time, and how long they took. Read only, each answer bounded."""

from typing import Any

from aibridge.stores.base import Fields, Query
from aibridge.stores.browsing import Filters, where
from aibridge.stores.recorded import WITH_USAGE

BUCKETS = {"minute": 60, "hour": 3600, "day": 86_400}
"""Seconds of the pieces that time is cut into; they begin with UTC's."""

MAX_BUCKETS = 1500
"""Of one answer: a day in minutes."""
_ENOUGH_BUCKETS = 400
MAX_OUTCOMES = 40_000
MAX_NAMES = 20
"""Models or providers whose latency is told: those with the most answers."""
MAX_SAMPLE = 200_000
"""Answers that quantiles are made of: the latest."""

LATENCY_GROUPS = ("model", "provider")
QUANTILES = (50, 90, 99)
_MEASURED = ("time_to_first_event", "duration", "tokens_per_second")


class TooFine(Exception):
    """Time would be cut into too many pieces."""


def bucket_for(query: Query, filters: Filters, until: float, bucket: str | None) -> str:
    """Return the bucket that was asked for, or else the finest that makes not many. Raises `TooFine`.

    Args:
        query: asks the store: time before the first interception counts for nothing.
        filters: which interceptions.
        until: where time ends.
        bucket: a name of `BUCKETS`.
    """
    first = query("SELECT min(started_at) AS first FROM interceptions WHERE started_at >= ?", (filters.since,))
    seconds = until - (first[0]["first"] or until)
    if bucket is None:
        return next((name for name, size in BUCKETS.items() if seconds <= size * _ENOUGH_BUCKETS), "day")
    if seconds > BUCKETS[bucket] * MAX_BUCKETS:
        raise TooFine(f"should be larger for so much time: an answer has {MAX_BUCKETS} pieces at most")
    return bucket


def outcomes(query: Query, filters: Filters, bucket: str) -> list[Fields]:
    """Return how many ended how, by when they began: `at`, `termination`, `cause`, `count`."""
    conditions, values, _ = where(filters)
    text = (
        f"SELECT {_start_of(bucket)} AS at, termination, cause, count(*) AS count FROM interceptions"  # noqa: S608 - our own names
        f" WHERE {conditions} AND termination IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT {MAX_OUTCOMES}"
    )
    return query(text, values)


def latency(query: Query, filters: Filters, by: str, bucket: str | None) -> tuple[list[Fields], int]:
    """Return quantiles of answers by name, and of how many answers they are made, `MAX_SAMPLE` at most.

    Only completed answers count, where the filters name no other end. Tokens a second are those of the time behind the
    first event.

    Args:
        query: asks the store.
        filters: which interceptions.
        by: one of `LATENCY_GROUPS`.
        bucket: a name of `BUCKETS`; None: of the whole time.
    """
    if filters.termination is None:
        filters = filters._replace(termination="completed")
    conditions, values, time = where(filters)
    at = "NULL" if bucket is None else _start_of(bucket)
    taken = f"""
    WITH sample AS MATERIALIZED (
        SELECT {by} AS name, {at} AS at, time_to_first_event, duration,
        CASE WHEN duration > time_to_first_event AND streaming
            THEN output_tokens / (duration - time_to_first_event) END AS tokens_per_second
        FROM {WITH_USAGE} WHERE {conditions} ORDER BY {time} DESC LIMIT {MAX_SAMPLE}
    ), kept AS (SELECT name FROM sample GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {MAX_NAMES})
    """  # noqa: S608 - our own names
    size = query(f"{taken} SELECT count(*) AS size FROM sample", values)[0]["size"]  # noqa: S608 - our own names
    measures = " UNION ALL ".join(map(_quantiles_of, _MEASURED))
    items: dict[tuple[Any, Any], Fields] = {}
    for row in query(f"{taken} {measures}", values):
        item = items.setdefault((row["name"], row["at"]), _nothing(row, bucket))
        item[row["what"]] = {f"p{part}": row[f"p{part}"] for part in QUANTILES}
        item["count"] = max(item["count"], row["total"])
    return [items[key] for key in sorted(items, key=lambda key: (str(key[0]), key[1] or 0))], size


def _start_of(bucket: str) -> str:
    seconds = BUCKETS[bucket]
    return f"CAST(started_at / {seconds} AS INTEGER) * {seconds}"


def _quantiles_of(what: str) -> str:
    """Return the query for one measure: of each name the values in their order, and of these the ones at the ranks."""
    parts = ", ".join(
        f"max(CASE WHEN place = (total * {part} + 99) / 100 THEN value END) AS p{part}" for part in QUANTILES
    )
    return f"""
    SELECT '{what}' AS what, name, at, total, {parts} FROM (
        SELECT name, at, {what} AS value, row_number() OVER (PARTITION BY name, at ORDER BY {what}) AS place,
        count(*) OVER (PARTITION BY name, at) AS total
        FROM sample WHERE {what} IS NOT NULL AND name IN (SELECT name FROM kept)
    ) GROUP BY name, at
    """  # noqa: S608 - our own names


def _nothing(row: Fields, bucket: str | None) -> Fields:
    when = {} if bucket is None else {"at": row["at"]}
    return {"name": row["name"], **when, "count": 0, **dict.fromkeys(_MEASURED)}
