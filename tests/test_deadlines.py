"""The wheel, turned by hand: a fake clock and a fake `call_later`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.deadlines import TICK, Wheel


class Clock:
    """Time that passes when it is told to, and the calls that wait for it."""

    def __init__(self, now=1000.0):
        self.now = now
        self.waiting = []

    def call_later(self, delay, call):
        self.waiting.append((self.now + delay, call))

    def pass_until(self, end, late=0.0):
        """Let time pass; each call comes `late` seconds after it was due."""
        while self.waiting and min(self.waiting, key=lambda one: one[0])[0] + late <= end:
            due, call = self.waiting.pop(self.waiting.index(min(self.waiting, key=lambda one: one[0])))
            self.now = max(self.now, due + late)
            call()
        self.now = end


class Entry:
    """Keeps the times of its looks; answers with what it was given, then leaves."""

    def __init__(self, *again):
        self.looks = []
        self.again = list(again)

    def check(self, now):
        self.looks.append(now)
        return self.again.pop(0) if self.again else None


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def wheel(clock):
    return Wheel(clock.call_later, lambda: clock.now)


@settings(deadline=None)
@given(st.floats(0, 5), st.floats(0, 1e6), st.lists(st.floats(0, 5), max_size=8))
def test_never_early_and_less_than_two_ticks_late(delay, start, others):
    clock = Clock(start)
    wheel = Wheel(clock.call_later, lambda: clock.now)
    for other in others:
        wheel.add(Entry(), start + other)
    entry = Entry()
    at = start + delay
    wheel.add(entry, at)
    clock.pass_until(at + 2 * TICK + 1e-6)
    (look,) = entry.looks
    assert at - 1e-6 <= look < at + 2 * TICK + 1e-6


def test_looks_again_when_the_entry_says(clock, wheel):
    entry = Entry(1002.0, 1003.0)
    wheel.add(entry, 1001.0)
    clock.pass_until(1010.0)
    assert [int(look) for look in entry.looks] == [1001, 1002, 1003]


def test_a_time_that_has_passed_is_looked_at_next(clock, wheel):
    entry = Entry(990.0, 900.0)
    wheel.add(entry, 5.0)
    clock.pass_until(1000.0 + 6 * TICK)
    assert len(entry.looks) == 3


def test_sleeps_when_it_is_empty_and_wakes_again(clock, wheel):
    wheel.add(Entry(), 1000.5)
    clock.pass_until(1002.0)
    assert clock.waiting == []
    clock.pass_until(5000.0)
    late = Entry()
    wheel.add(late, 5001.0)
    assert len(clock.waiting) == 1
    clock.pass_until(5002.0)
    assert len(late.looks) == 1
    assert clock.waiting == []


def test_many_entries_share_one_timer(clock, wheel):
    for number in range(100):
        wheel.add(Entry(), 1000.0 + number / 10)
    assert len(clock.waiting) == 1


def test_a_loop_that_was_held_up_misses_nothing(clock, wheel):
    entries = [Entry() for _ in range(20)]
    for number, entry in enumerate(entries):
        wheel.add(entry, 1000.0 + number)
    clock.pass_until(1060.0, late=30.0)
    assert all(len(entry.looks) == 1 for entry in entries)


def test_an_entry_may_add_another_while_it_is_looked_at(clock, wheel):
    second = Entry()

    class First(Entry):
        def check(self, now):
            wheel.add(second, now)
            return super().check(now)

    first = First()
    wheel.add(first, 1001.0)
    clock.pass_until(1002.0)
    assert len(first.looks) == len(second.looks) == 1


def test_an_entry_that_raises_takes_no_other_with_it(clock, wheel):
    class Broken(Entry):
        def check(self, now):
            super().check(now)
            raise RuntimeError("a fault of ours")

    before, broken, behind, later = Entry(1002.0), Broken(), Entry(), Entry()
    for entry in (before, broken, behind):
        wheel.add(entry, 1001.0)
    wheel.add(later, 1003.0)
    with pytest.raises(RuntimeError):
        clock.pass_until(1001.5)
    clock.pass_until(1005.0)
    assert len(before.looks) == 2
    assert [len(entry.looks) for entry in (broken, behind, later)] == [1, 1, 1]
    assert clock.waiting == []


def test_a_removed_entry_is_not_looked_at(clock, wheel):
    removed, kept = Entry(), Entry()
    wheel.add(removed, 1001.0)
    wheel.add(kept, 1001.0)
    wheel.remove(removed)
    wheel.remove(removed)
    clock.pass_until(1005.0)
    assert removed.looks == []
    assert len(kept.looks) == 1


def test_an_entry_removed_by_another_s_look(clock, wheel):
    second = Entry()

    class First(Entry):
        def check(self, now):
            wheel.remove(second)
            return super().check(now)

    wheel.add(First(), 1001.0)
    wheel.add(second, 1001.0)
    clock.pass_until(1005.0)
    assert second.looks == []
