"""Which ends are told: each once, also one that is late in the store, and of many no more than a number."""

from contextlib import closing

import pytest
from record_kit import INTERCEPTION, OUTCOME

from aibridge.adminapi import live
from aibridge.adminapi.live import MAX_TOLD, Ends
from aibridge.stores.entries import closed_parts, entry, opened_parts, rows_of
from aibridge.stores.sqlite import SQLiteStore, querying

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path):
    with closing(SQLiteStore(tmp_path / "records.db")) as store:
        yield store


def end(store, *ended):
    """Write interceptions that ended, by their ids and moments."""
    entries = []
    for name, at in ended:
        one = INTERCEPTION._replace(id=name)
        entries.append(entry(at, opened_parts(one) + closed_parts(one, OUTCOME._replace(ended_at=at))))
    store.write(rows_of(entries, "j")[0], "j", 1)


def told(store, ends):
    with querying(store.path) as query:
        rows, skipped = ends.new(query)
    return [row["id"] for row in rows], skipped


def test_each_end_is_told_once(store):
    ends = Ends(NOW)
    assert told(store, ends) == ([], 0)
    end(store, ("before", NOW - 1), ("b", NOW + 2), ("a", NOW + 1))
    assert told(store, ends) == (["a", "b"], 0)
    assert told(store, ends) == ([], 0)
    end(store, ("late", NOW + 1.5), ("c", NOW + 10))
    assert told(store, ends) == (["late", "c"], 0)
    end(store, ("too late", NOW + 10 - live._OVERLAP_SECONDS - 1), ("d", NOW + 60))
    assert told(store, ends) == (["d"], 0)
    end(store, ("later", NOW + 50))
    assert told(store, ends) == (["later"], 0)


def test_of_many_not_all_are_told(store):
    ends = Ends(NOW)
    end(store, *((f"{number:04}", NOW + 1 + number / 1000) for number in range(MAX_TOLD + 7)))
    ids, skipped = told(store, ends)
    assert (ids, skipped) == ([f"{number:04}" for number in range(MAX_TOLD)], 7)
    assert told(store, ends) == ([], 0)


def test_what_is_looked_at_is_bounded(store, monkeypatch):
    monkeypatch.setattr(live, "_MAX_LOOKED_AT", 10)
    ends = Ends(NOW)
    end(store, *((f"{number:04}", NOW + 1 + number) for number in range(100)))
    seen = []
    while news := told(store, ends)[0]:
        seen += news
        assert len(ends._told) <= 10
    assert seen == [f"{number:04}" for number in range(100)]
