"""The whole house against a scripted upstream: CPU per request and per event, added latency, memory per live stream.

`python bench/gateway.py` measures every subject that is installed, in interleaved rounds, and prints tables.
`python bench/gateway.py --render` writes the tables and plots of the committed results into bench/README.md.
"""

import argparse
import contextlib
import datetime as dt
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import programs
import report
import traffic
from doors import HERE, Address, Door, Route, Subject
from machine import describe_machine, raise_file_limit, versions
from peers import peer_versions
from processes import accounting_error, machine_ns, memory_kb, tree, tree_cpu_ns
from scenarios import CORE, FULL, PEERS, SCENARIOS, Scenario, Times, marks, script, smaller, times
from subjects import SUBJECTS

RESULTS = HERE / "results"
ACCOUNT_TOLERANCE = 0.05
WARM_UP = next(one for one in SCENARIOS if one.name == "json")
METHOD = (
    "one upstream and one load generator in C on loopback; one process (worker) of each subject; "
    "subjects interleaved in every round, the order reversed every other round; "
    "CPU is user and system time of the subject's process tree inside the window; every answer verified"
)

Cell = dict[str, Any]


# ---- one cell: one scenario on one subject


@dataclass
class Samples:
    """CPU and memory at the beginning and at the end of the window."""

    subject: int
    upstream: int
    cpu: list[tuple[int, int, int, int]] = field(default_factory=list)
    memory: list[dict[str, int]] = field(default_factory=list)

    def take(self, load: int) -> None:
        """Note where all stand; memory, which takes longer to read, only at the end."""
        self.cpu.append((tree_cpu_ns(self.subject), tree_cpu_ns(self.upstream), tree_cpu_ns(load), machine_ns()))
        if self.subject and len(self.cpu) == 2:
            self.memory.append(memory_kb(tree(self.subject)))

    def spent(self) -> tuple[int, ...]:
        """Nanoseconds of subject, upstream, load generator and the whole machine inside the window."""
        if len(self.cpu) < 2:
            return (0, 0, 0, 0)
        return tuple(after - before for before, after in zip(*self.cpu, strict=True))


@dataclass(frozen=True)
class Bench:
    """What all cells share."""

    directory: Path
    upstream: programs.Upstream
    seconds: float

    def address(self, scenario: Scenario, subject: Subject) -> Address:
        """Where a subject finds the upstream: the load generator itself speaks no TLS."""
        if scenario.tls and subject.name != report.NOTHING and self.upstream.secured:
            return self.upstream.secured
        return self.upstream.plain

    def warm(self, subject: Subject, door: Door) -> None:
        """Have a fresh subject load and allocate what it does once."""
        first = next(iter(subject.routes()))
        self._run(replace(WARM_UP, api=first), subject, door, Times(0, 0.1, 0.9))

    def cell(self, scenario: Scenario, subject: Subject, door: Door) -> Cell:
        """Measure one scenario on one running subject."""
        idle = memory_kb(tree(door.pid)) if scenario.shape == "idle" and door.pid else {}
        samples = Samples(door.pid, self.upstream.pid)
        answer = self._run(scenario, subject, door, times(scenario, self.seconds), samples)
        memory = samples.memory[-1] if samples.memory else {}
        return _figures(answer, samples.spent(), self.upstream.stats()) | _memory(scenario, idle, memory)

    def _run(
        self, scenario: Scenario, subject: Subject, door: Door, plan: Times, samples: Samples | None = None
    ) -> Cell:
        route = subject.routes()[scenario.api]
        self.upstream.play(script(scenario, self.seconds), scenario.period, together=scenario.together)
        self.upstream.stats()
        wanted = marks(scenario, self.seconds, route)
        load = programs.Load(door.port, _request(scenario, route, door.port), scenario, plan, wanted)
        return programs.run(load, self.directory, samples.take if samples else lambda _: None)


def _request(scenario: Scenario, route: Route, port: int) -> bytes:
    stream = scenario.shape != "json"
    body = traffic.request_body(route.speaks, scenario.body, stream=stream, model=route.model)
    path = route.stream_path if stream and route.stream_path else route.path
    return traffic.request(port, path, body, dict(route.headers))


def _figures(answer: Cell, spent: tuple[int, ...], upstream: Cell) -> Cell:
    requests, events, seconds = answer["requests"], answer["events"], answer["seconds"] or 1
    subject, played, loaded, machine = spent
    latencies = ((name, q) for name in ("first_byte", "first_event", "gap", "late") for q in ("p50", "p99"))
    return {
        "seconds": seconds,
        "requests": requests,
        "events": events,
        "requests_per_second": requests / seconds,
        "events_per_second": events / seconds,
        "cpu_us_per_request": subject / 1e3 / requests if subject and requests else None,
        "cpu_us_per_event": subject / 1e3 / events if subject and events else None,
        "cores": subject / 1e9 / seconds if subject else None,
        "cores_upstream": played / 1e9 / seconds,
        "cores_load": loaded / 1e9 / seconds,
        "cores_others": max(0.0, (machine - subject - played - loaded) / 1e9 / seconds),
        "failed": answer["failed"] + answer["unfinished"],
        "failure": answer["first_failure"] or ("unfinished" if answer["unfinished"] else ""),
        "reconnects": answer["reconnects"],
        "upstream_connections": upstream["connections"],
        "upstream_late_p99_ms": upstream["late_ms"]["p99"],
        **{f"{name}_{q}_ms": answer[f"{name}_ms"][q] for name, q in latencies if answer[f"{name}_ms"]["n"]},
    }


def _memory(scenario: Scenario, idle: dict[str, int], live: dict[str, int]) -> Cell:
    if not idle or not live:
        return {}
    per_stream = {f"{kind}_kb_per_stream": (live[kind] - idle[kind]) / scenario.connections for kind in live}
    return per_stream | {"idle_rss_mb": idle["rss"] / 1024, "live_rss_mb": live["rss"] / 1024}


# ---- rounds


def takes(subject: Subject, scenario: Scenario) -> bool:
    """Whether a subject is measured in a scenario at all."""
    if subject.only and scenario.name not in subject.only:
        return False
    held = scenario.connections if scenario.held else 0
    return scenario.api in subject.routes() and held <= subject.holds and (subject.tls or not scenario.tls)


def _round(bench: Bench, number: int, subjects: list[Subject], scenarios: list[Scenario]) -> Iterator[Cell]:
    """Measure all; each subject is started once a round and upstream, and for idle streams anew."""
    order = subjects if number % 2 == 0 else subjects[::-1]
    broken: set[str] = set()
    with contextlib.ExitStack() as children:
        doors: dict[tuple[str, Address], Door] = {}
        for scenario in scenarios:
            for subject in order:
                if not takes(subject, scenario) or subject.name in broken:
                    continue
                try:
                    figures = _measured(bench, scenario, subject, doors, children)
                except RuntimeError as error:  # the others are measured all the same
                    broken.add(subject.name)
                    figures = {"requests": 0, "events": 0, "cores": None, "failed": 1, "failure": str(error)}
                cell = {"round": number, "scenario": scenario.name, "subject": subject.name} | figures
                _tell(cell)
                yield cell


def _measured(
    bench: Bench,
    scenario: Scenario,
    subject: Subject,
    doors: dict[tuple[str, Address], Door],
    children: contextlib.ExitStack,
) -> Cell:
    address = bench.address(scenario, subject)
    if scenario.shape == "idle":
        with contextlib.ExitStack() as own:
            return bench.cell(scenario, subject, _start(own, bench, subject, address))
    if (subject.name, address) not in doors:
        doors[subject.name, address] = _start(children, bench, subject, address)
    return bench.cell(scenario, subject, doors[subject.name, address])


def _start(children: contextlib.ExitStack, bench: Bench, subject: Subject, upstream: Address) -> Door:
    directory = Path(children.enter_context(tempfile.TemporaryDirectory(prefix="aibridge-bench-")))
    door = children.enter_context(subject.start(upstream, directory))
    if door.pid:
        bench.warm(subject, door)
    return door


def _tell(cell: Cell) -> None:
    figures = f"{cell['requests']:8} requests {cell['events']:9} events {cell['cores'] or 0:6.2f} cores"
    trouble = f"  FAILED {cell['failed']}: {cell['failure']}" if cell["failed"] else ""
    print(f"round {cell['round']}  {cell['scenario']:<18} {cell['subject']:<19} {figures}{trouble}", file=sys.stderr)


def measure(options: argparse.Namespace, subjects: list[Subject], scenarios: list[Scenario]) -> Cell:
    """Run all rounds; returns what the results file holds."""
    error = accounting_error()
    if abs(error) > ACCOUNT_TOLERANCE:
        raise RuntimeError(
            f"the account of CPU is wrong by {error:+.1%} against a known amount: nothing here would be true"
        )
    with tempfile.TemporaryDirectory(prefix="aibridge-bench-") as name:
        directory = Path(name)
        tls = programs.compile_all(directory)
        if not tls:
            print("bench: without TLS: OpenSSL's headers, or its command, are not installed", file=sys.stderr)
        scenarios = [one for one in scenarios if tls or not one.tls]
        with programs.upstream(directory, tls=tls) as upstream:
            bench = Bench(directory, upstream, options.seconds)
            cells = [cell for number in range(options.rounds) for cell in _round(bench, number, subjects, scenarios)]
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": versions() | peer_versions([one.name for one in subjects]),
        "method": METHOD,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "accounting_error": error,
        "subjects": {subject.name: subject.says for subject in subjects},
        "scenarios": {scenario.name: {"says": scenario.sentence(), "shape": scenario.shape} for scenario in scenarios},
        "cells": cells,
    }


# ---- the command


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=(CORE, FULL, PEERS), default=FULL, help="of subjects and scenarios")
    parser.add_argument("--subjects", metavar="NAME,...", help="of " + ", ".join(one.name for one in SUBJECTS))
    parser.add_argument("--scenarios", metavar="NAME,...", help="of " + ", ".join(one.name for one in SCENARIOS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="the window of each cell")
    parser.add_argument("--quick", action="store_true", help="a smoke test: one round, short windows, fewer streams")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results here too")
    parser.add_argument("--render", action="store_true", help="write the committed results into README.md, and end")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    return options


def _chosen(known: list[str], wanted: str | None, otherwise: list[str]) -> list[str]:
    if wanted is None:
        return otherwise
    names = wanted.split(",")
    if unknown := set(names) - set(known):
        sys.exit(f"bench: unknown {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    return [name for name in known if name in names]


def _subjects(options: argparse.Namespace) -> list[Subject]:
    """The subjects that were named, or else all of the set that can run here; what cannot is said, with the reason."""
    of_set = [one.name for one in SUBJECTS if options.set in one.sets]
    names = _chosen([one.name for one in SUBJECTS], options.subjects, of_set)
    chosen = [one for one in SUBJECTS if one.name in names]
    missing = {one.name: reason for one in chosen if (reason := one.missing())}
    for name, reason in missing.items():
        print(f"bench: without {name}: {reason}", file=sys.stderr)
    if missing and options.subjects:
        sys.exit(1)
    return [one for one in chosen if one.name not in missing]


def _scenarios(options: argparse.Namespace, files: int) -> list[Scenario]:
    of_set = [one.name for one in SCENARIOS if options.set in (FULL, *one.sets)]
    names = _chosen([one.name for one in SCENARIOS], options.scenarios, of_set)
    chosen = [smaller(one) if options.quick else one for one in SCENARIOS if one.name in names]
    too_many = [one.name for one in chosen if 2 * one.connections + 100 > files]
    if too_many:
        print(f"bench: without {', '.join(too_many)}: a process may open {files:,} files only", file=sys.stderr)
    return [one for one in chosen if one.name not in too_many]


def main() -> int:
    options = _arguments()
    if options.render:
        report.render(RESULTS, HERE / "README.md")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all children end
    limit = raise_file_limit()
    try:
        results = measure(options, _subjects(options), _scenarios(options, limit))
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
    if options.json:
        options.json.write_text(report.as_json(results))
    print(report.tables(results))
    return 1 if any(cell["failed"] for cell in results["cells"]) else 0


if __name__ == "__main__":
    sys.exit(main())
