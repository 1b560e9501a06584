"""The two C programs, compiled when the bench runs: the scripted upstream and the load generator."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import line_of, running
from scenarios import Scenario, Times
from traffic import Marks, Script

HERE = Path(__file__).resolve().parent
ANSWER_WITHIN = 10.0
LOAD_GRACE = 30.0  # seconds over its plan after which the load generator is killed


def compile_all(directory: Path) -> None:
    """Build both programs into `directory`, or say in one line that there is no compiler, and stop."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        sys.exit("bench: no C compiler (cc), which the upstream and the load generator need")
    for name in ("upstream", "load"):
        subprocess.run([compiler, "-O2", "-o", str(directory / name), str(HERE / f"{name}.c")], check=True)


class Upstream:
    """The running upstream, told what to play through its stdin."""

    def __init__(self, child: "subprocess.Popen[str]", directory: Path) -> None:
        self._child = child
        self._directory = directory
        self.pid = child.pid
        self.port = int(line_of(child, ANSWER_WITHIN))

    def play(self, script: Script, period: float, *, together: bool) -> None:
        """Answer every request with `script` from now on."""
        path = self._directory / "script"
        path.write_bytes(script.content)
        pattern = "together" if together else "apart"
        micros = round(period * 1e6)
        said = self._say(f"play {path} {script.head_size} {script.tick_size} {script.ticks} {micros} {pattern}")
        if said != "ok":
            raise RuntimeError(f"the upstream did not take its script: {said!r}")

    def stats(self) -> dict[str, Any]:
        """What it counted since the last call."""
        return dict(json.loads(self._say("stats")))

    def _say(self, line: str) -> str:
        if self._child.stdin is None:
            raise ValueError("the upstream has no stdin")
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()
        return line_of(self._child, ANSWER_WITHIN)


@contextlib.contextmanager
def upstream(directory: Path) -> Iterator[Upstream]:
    with running([str(directory / "upstream")]) as child:
        yield Upstream(child, directory)


@dataclass(frozen=True)
class Load:
    """What the load generator is to do."""

    port: int
    request: bytes
    scenario: Scenario
    plan: Times
    marks: Marks

    def arguments(self) -> dict[str, object]:
        """The arguments of the C program, by name."""
        return {
            "port": self.port,
            "connections": self.scenario.connections,
            "once": int(self.scenario.streams),
            "ramp": self.plan.ramp,
            "warm": self.plan.warm,
            "seconds": self.plan.window,
            "mark": self.marks.event,
            "end": self.marks.end,
            "least": self.marks.least,
        }


def run(load: Load, directory: Path, sample: Callable[[int], None]) -> dict[str, Any]:
    """Run the load generator; `sample` is called with its pid as its window begins, and as it ends."""
    request = directory / "request"
    request.write_bytes(load.request)
    arguments = load.arguments() | {"request": request}
    command = [str(directory / "load"), *(f"{name}={value}" for name, value in arguments.items())]
    with running(command) as child, _killed_after(child, load.plan.ramp + load.plan.stream + LOAD_GRACE):
        for line in child.stdout or ():
            if line.strip() not in {"begin", "end"}:
                return dict(json.loads(line))
            sample(child.pid)
    raise RuntimeError("the load generator gave no report")


@contextlib.contextmanager
def _killed_after(child: "subprocess.Popen[str]", seconds: float) -> Iterator[None]:
    clock = threading.Timer(seconds, child.kill)
    clock.start()
    try:
        yield
    finally:
        clock.cancel()
