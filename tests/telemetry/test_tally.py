"""Numbers in memory that a supervisor shares: what is counted is read, also of the dead, and always adds up."""

import math
import os
import random
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aibridge.lifecycle import Cause
from aibridge.telemetry import tally as tally_module
from aibridge.telemetry.metrics import Metrics
from aibridge.telemetry.series import OTHER, Bound, CounterFamily, GaugeFamily, HistogramFamily, NanoFamily
from aibridge.telemetry.tally import Described, SharedFamily, Tally, create
from aibridge.telemetry.totals import Totals


@pytest.fixture
def fd():
    made = create()
    yield made
    os.close(made)


def samples(totals):
    families = text_string_to_metric_families(totals.render()[0].decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def total(totals, name, **labels):
    return sum(v for (found, of), v in samples(totals).items() if found == name and labels.items() <= dict(of).items())


def test_another_reads_what_one_writes(fd):
    writes, reads = Tally(fd), Tally(fd)
    counter = SharedFamily(CounterFamily("c", "Counts.", ("a", "b")), writes)
    gauge = SharedFamily(GaugeFamily("g", "Goes.", ()), writes, kind="highest")
    histogram = SharedFamily(HistogramFamily("h", "Spreads.", ("a",), (1, 2.5)), writes)
    counter.child("x", 'ü"\n').value += 2
    counter.child("x", 'ü"\n').value += 0.5
    gauge.child().value -= 3
    for value in (0.5, 1, 2, 99):
        histogram.child("y").observe(value)
    assert reads.read() == {
        Described("c", "counter", "Counts.", ("a", "b")): {("x", 'ü"\n'): [2.5]},
        Described("g", "highest", "Goes.", ()): {(): [-3]},
        Described("h", "histogram", "Spreads.", ("a",), (1, 2.5)): {("y",): [2, 1, 1, 102.5]},
    }


def test_billionths_are_told_as_a_whole_by_all_workers():
    totals = Totals()
    for pid in (1, 2):
        made = create()
        totals.add(pid, tally := Tally(made))
        os.close(made)
        SharedFamily(NanoFamily("cost_dollars", "Costs.", ("a",)), tally).child("x").value += 1_500_000_000
    totals.gone(1)
    assert total(totals, "cost_dollars_total", a="x") == 3.0


def test_a_bound_holds_here_too(fd):
    family = SharedFamily(CounterFamily("c", "", ("a", "b"), Bound(2, frozenset({"b"}))), Tally(fd))
    for number in range(9):
        family.child("x", str(number)).value += 1
    (children,) = Tally(fd).read().values()
    assert children == {("x", "0"): [1], ("x", "1"): [1], ("x", OTHER): [7]}


def test_a_full_memory_harms_nobody(monkeypatch):
    monkeypatch.setattr(tally_module, "SIZE", 4096)
    made = create()
    family = SharedFamily(CounterFamily("c", "", ("a",)), Tally(made))
    for number in range(1000):
        family.child(str(number)).value += 1
    (children,) = Tally(made).read().values()
    os.close(made)
    assert 50 < len(children) < 200
    assert family.child("999").value == 1


class Worker:
    """What a worker's metrics see, without the worker."""

    def __init__(self, totals, pid):
        fd = create()
        totals.add(pid, Tally(fd))
        self.metrics = Metrics(version="1", wire="pure", modules="pure", tally=Tally(fd))
        self.pid = pid
        os.close(fd)


def test_at_every_scrape_the_law_holds_and_no_counter_goes_back(make_interception, make_outcome):
    draw = random.Random(5)
    totals = Totals()
    workers, opened, before, pids = [], {}, {}, iter(range(10**9, 10**9 + 100))  # pids of nobody
    started = ended = crashed = 0
    for _ in range(400):
        choice = draw.random()
        if choice < 0.1 or not workers:
            workers.append(Worker(totals, next(pids)))
            opened[workers[-1]] = []
        worker = draw.choice(workers)
        if choice < 0.15:
            crashed += len(opened.pop(worker))
            workers.remove(worker)
            totals.gone(worker.pid)
        elif choice < 0.6:
            opened[worker].append(make_interception())
            worker.metrics.opened(opened[worker][-1])
            started += 1
        elif opened[worker]:
            worker.metrics.closed(opened[worker].pop(), make_outcome(Cause.CLEAN))
            ended += 1
        now = samples(totals)
        assert total(totals, "aibridge_interceptions_started_total") == started
        assert total(totals, "aibridge_interceptions_total", status="completed") == ended
        assert total(totals, "aibridge_interceptions_total", cause="crashed", status="failed") == crashed
        assert total(totals, "aibridge_interceptions_inflight") == totals.live == sum(map(len, opened.values()))
        assert all(now[key] >= value for key, value in before.items() if not key[0].endswith("inflight"))
        before = {key: value for key, value in now.items() if key[0].startswith("aibridge_interceptions")}
    assert min(started, ended, crashed) > 20


def test_gauges_are_summed_or_the_worst_and_end_with_their_worker():
    totals = Totals()
    workers = [Worker(totals, 10**9 + number) for number in range(2)]
    for number, worker in enumerate(workers, 1):
        worker.metrics.watch_journal(lambda number=number: 100 * number, lambda number=number: number)
        worker.metrics.watch_keys(lambda: {"valid": 2.0, "revoked": 1.0}, lambda number=number: number / 10)
        worker.metrics.watch_key_pools(
            lambda number=number: {("anthropic", "valid"): 3 - number, ("anthropic", "cooling"): number},
            lambda number=number: {("anthropic", "a", "requests"): 100 * number},
        )
        worker.metrics.publish()
    # Each worker learns for itself: their views are summed up, and of what is left the least is told.
    assert total(totals, "aibridge_key_pool_keys", state="valid") == 3
    assert total(totals, "aibridge_key_pool_keys", state="cooling") == 3
    assert total(totals, "aibridge_key_ratelimit_remaining", key="a", kind="requests") == 100
    assert total(totals, "aibridge_gateway_keys", state="valid") == 2
    assert total(totals, "aibridge_key_store_age_seconds") == 0.2
    assert total(totals, "aibridge_journal_bytes") == 300
    assert total(totals, "aibridge_journal_age_seconds") == 2
    assert total(totals, "aibridge_build_info") == 1
    totals.gone(workers[1].pid)
    assert total(totals, "aibridge_journal_bytes") == 100
    assert total(totals, "aibridge_records_dropped_total") == 0
    assert total(totals, "process_resident_memory_bytes") > 0


def test_a_gauge_that_is_told_no_more_is_no_number():
    """The keys of a provider that another configuration does not have."""
    totals = Totals()
    metrics = Worker(totals, 10**9).metrics
    for names in (("anthropic", "gone"), ("anthropic",)):
        metrics.watch_key_pools(
            lambda names=names: {(name, "cooling"): 1.0 for name in names},
            lambda names=names: {(name, "a", "requests"): 7.0 for name in names},
        )
        metrics.publish()
    for name, more in {"aibridge_key_pool_keys": {}, "aibridge_key_ratelimit_remaining": {"key": "a"}}.items():
        assert total(totals, name, provider="anthropic", **more) > 0
        assert math.isnan(total(totals, name, provider="gone", **more))


def test_a_scrape_while_it_is_counted_never_sees_more_ended_than_started(make_interception, make_outcome):
    totals = Totals()
    metrics = Worker(totals, 10**9).metrics
    stopped = threading.Event()

    def count():
        while not stopped.is_set():
            one = make_interception()
            metrics.opened(one)
            metrics.closed(one, make_outcome(Cause.CLEAN))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        assert min(totals.live for _ in range(300)) >= 0
    finally:
        stopped.set()
        thread.join()
    assert totals.live == 0


def test_a_family_that_has_changed_with_the_program_counts_as_it_is_now():
    totals = Totals()
    for pid, labels in ((10**9, ("old",)), (10**9 + 1, ("new", "more"))):
        fd = create()
        totals.add(pid, Tally(fd))
        SharedFamily(CounterFamily("c", "", labels), Tally(fd)).child(*labels).value += 1
        os.close(fd)
    assert {key: value for key, value in samples(totals).items() if key[0] == "c_total"} == {
        ("c_total", (("more", "more"), ("new", "new"))): 1
    }
