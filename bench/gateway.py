"""The whole house against a scripted upstream: CPU per request and per event, added latency, memory per live stream.

`python bench/gateway.py` measures every subject that is installed, in interleaved rounds, and prints tables.
`python bench/gateway.py --render` writes the tables of the committed results into bench/README.md.
"""

import argparse
import contextlib
import datetime as dt
import importlib.metadata
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import programs
import report
import traffic
from processes import accounting_error, cpu_ns, machine_ns, memory_kb, tree
from scenarios import SCENARIOS, Scenario, Times, marks, script, smaller, times
from subjects import KEY, SUBJECTS, Door, Subject, nginx_binary

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "gateway.json"
FILES_WANTED = 16_384
METHOD = (
    "one upstream and one load generator in C on loopback; one process (worker) of each subject; "
    "subjects interleaved in every round, the order reversed every other round; "
    "CPU is user and system time of the subject's process tree inside the window; every answer verified"
)

Cell = dict[str, Any]


# ---- one cell: one scenario on one subject


@dataclass
class Samples:
    """CPU and memory at the beginning and at the end of the window, of all processes that there are then."""

    subject: int
    upstream: int
    cpu: list[tuple[int, int, int, int]] = field(default_factory=list)
    memory: list[dict[str, int]] = field(default_factory=list)

    def take(self, load: int) -> None:
        """Note where all stand; memory, which takes longer to read, only at the end."""
        subject = tree(self.subject) if self.subject else []
        self.cpu.append((cpu_ns(subject), cpu_ns([self.upstream]), cpu_ns([load]), machine_ns()))
        self.memory.append(memory_kb(subject) if subject and len(self.cpu) == 2 else {})

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

    def cell(self, scenario: Scenario, subject: Subject, door: Door) -> Cell:
        """Measure one scenario on one running subject."""
        if scenario.shape == "memory":
            self._run(
                SCENARIOS[1], subject, door, Times(0, 0.1, 0.3)
            )  # what is loaded or allocated once does not count
        idle = memory_kb(tree(door.pid) if door.pid else [])
        samples = Samples(door.pid, self.upstream.pid)
        answer = self._run(scenario, subject, door, times(scenario, self.seconds), samples)
        memory = samples.memory[-1] if samples.memory else {}
        return _figures(answer, samples.spent(), self.upstream.stats()) | _memory(scenario, idle, memory)

    def _run(
        self, scenario: Scenario, subject: Subject, door: Door, plan: Times, samples: Samples | None = None
    ) -> Cell:
        self.upstream.play(script(scenario, self.seconds), scenario.period, together=scenario.together)
        self.upstream.stats()
        request = _request(scenario, subject, door.port)
        wanted = marks(scenario, self.seconds, decodes=subject.decodes)
        load = programs.Load(door.port, request, scenario, plan, wanted)
        return programs.run(load, self.directory, samples.take if samples else lambda _: None)


def _request(scenario: Scenario, subject: Subject, port: int) -> bytes:
    path = subject.bedrock_path if scenario.bedrock else subject.messages_path
    as_bedrock = scenario.bedrock and not subject.decodes
    body = traffic.request_body(scenario.body, stream=scenario.shape != "json", bedrock=as_bedrock)
    return traffic.request(port, path, body, {"x-api-key": KEY})


def _figures(answer: Cell, spent: tuple[int, ...], upstream: Cell) -> Cell:
    requests, events, seconds = answer["requests"], answer["events"], answer["seconds"] or 1
    subject, played, loaded, machine = spent
    latencies = ((name, q) for name in ("first_byte", "first_event", "gap") for q in ("p50", "p99"))
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
    if scenario.shape != "memory" or not live:
        return {}
    per_stream = {f"{kind}_kb_per_stream": (live[kind] - idle[kind]) / scenario.connections for kind in live}
    return per_stream | {"idle_rss_mb": idle["rss"] / 1024, "live_rss_mb": live["rss"] / 1024}


# ---- rounds


def _round(bench: Bench, number: int, subjects: list[Subject], scenarios: list[Scenario]) -> list[Cell]:
    order = subjects if number % 2 == 0 else subjects[::-1]
    cells = []
    with contextlib.ExitStack() as children:
        doors = {subject.name: _start(children, bench, subject) for subject in order}
        for scenario in scenarios:
            for subject in order:
                with contextlib.ExitStack() as own:
                    door = _start(own, bench, subject) if scenario.shape == "memory" else doors[subject.name]
                    figures = bench.cell(scenario, subject, door)
                cells.append({"round": number, "scenario": scenario.name, "subject": subject.name} | figures)
                _tell(cells[-1])
    return cells


def _start(children: contextlib.ExitStack, bench: Bench, subject: Subject) -> Door:
    directory = Path(children.enter_context(tempfile.TemporaryDirectory(prefix="aibridge-bench-")))
    return children.enter_context(subject.start(bench.upstream.port, directory))


def _tell(cell: Cell) -> None:
    figures = f"{cell['requests']:8} requests {cell['events']:9} events {cell['cores'] or 0:6.2f} cores"
    trouble = f"  FAILED {cell['failed']}: {cell['failure']}" if cell["failed"] else ""
    print(f"round {cell['round']}  {cell['scenario']:<17} {cell['subject']:<9} {figures}{trouble}", file=sys.stderr)


def measure(options: argparse.Namespace, subjects: list[Subject], scenarios: list[Scenario]) -> Cell:
    """Run all rounds; returns what the results file holds."""
    with tempfile.TemporaryDirectory(prefix="aibridge-bench-") as name:
        directory = Path(name)
        programs.compile_all(directory)
        with programs.upstream(directory) as upstream:
            bench = Bench(directory, upstream, options.seconds)
            cells = [cell for number in range(options.rounds) for cell in _round(bench, number, subjects, scenarios)]
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(),
        "method": METHOD,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "accounting_error": accounting_error(),
        "subjects": {subject.name: subject.says for subject in subjects},
        "scenarios": {scenario.name: {"says": scenario.sentence(), "shape": scenario.shape} for scenario in scenarios},
        "cells": cells,
    }


# ---- the machine


def _machine() -> Cell:
    return {
        "cores": os.cpu_count(),
        "cpu": _fact("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_mb": int((_fact("/proc/meminfo", "MemTotal") or "0").split()[0]) // 1024,
        "kernel": platform.release(),
        "system": platform.system(),
    }


def _fact(path: str, name: str) -> str:
    pairs = (line.partition(":") for line in Path(path).read_text().splitlines())
    return next((value.strip() for key, _, value in pairs if key.strip() == name), "")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("aibridge", "aiohttp", "uvloop", "httptools"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    if binary := nginx_binary():
        versions["nginx"] = _output([binary, "-v"]).rpartition("/")[2]
    versions["commit"] = _output(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"])
    return {name: version for name, version in versions.items() if version}


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return (done.stdout or done.stderr).strip()


def raise_file_limit(wanted: int = FILES_WANTED) -> int:
    """As many open files as we may have, for us and our children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)


# ---- the command


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", metavar="NAME,...", help="of " + ", ".join(one.name for one in SUBJECTS))
    parser.add_argument("--scenarios", metavar="NAME,...", help="of " + ", ".join(one.name for one in SCENARIOS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="the window of each cell")
    parser.add_argument("--quick", action="store_true", help="a smoke test: one round, short windows, fewer streams")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results here too")
    parser.add_argument(
        "--render",
        metavar="FILE",
        type=Path,
        nargs="?",
        const=RESULTS,
        help="write these results into README.md, and end",
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    return options


def _chosen(known: list[str], wanted: str | None) -> list[str]:
    names = wanted.split(",") if wanted else known
    if unknown := set(names) - set(known):
        sys.exit(f"bench: unknown {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    return [name for name in known if name in names]


def _subjects(wanted: str | None) -> list[Subject]:
    """The subjects that were named, or else all that can run here; what cannot is said, with the reason."""
    names = _chosen([one.name for one in SUBJECTS], wanted)
    chosen = [one for one in SUBJECTS if one.name in names]
    missing = {one.name: reason for one in chosen if (reason := one.missing())}
    for name, reason in missing.items():
        print(f"bench: without {name}: {reason}", file=sys.stderr)
    if missing and wanted:
        sys.exit(1)
    return [one for one in chosen if one.name not in missing]


def _scenarios(wanted: str | None, *, quick: bool) -> list[Scenario]:
    names = _chosen([one.name for one in SCENARIOS], wanted)
    return [smaller(one) if quick else one for one in SCENARIOS if one.name in names]


def main() -> int:
    options = _arguments()
    if options.render:
        report.write_into(HERE / "README.md", report.tables(json.loads(options.render.read_text())))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all children end
    limit = raise_file_limit()
    scenarios = [one for one in _scenarios(options.scenarios, quick=options.quick) if 2 * one.connections + 100 < limit]
    try:
        results = measure(options, _subjects(options.subjects), scenarios)
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
    if options.json:
        options.json.write_text(report.as_json(results))
    print(report.tables(results))
    return 1 if any(cell["failed"] for cell in results["cells"]) else 0


if __name__ == "__main__":
    sys.exit(main())
