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

from doors import Address
from processes import line_of, running
from scenarios import Scenario, Times
from traffic import Marks, Script

HERE = Path(__file__).resolve().parent
ANSWER_WITHIN = 10.0
LOAD_GRACE = 30.0  # seconds over its plan after which the load generator is killed


def compiler() -> str:
    """The C compiler's path, or nothing."""
    return shutil.which(os.environ.get("CC", "cc")) or ""


def compile_all(directory: Path) -> bool:
    """Build both programs into `directory`, or end; returns whether the upstream speaks TLS."""
    if not compiler():
        sys.exit("bench: no C compiler (cc), which the upstream and the load generator need")
    _compile("load", directory)
    try:
        _compile("upstream", directory, "-DTLS", "-lssl", "-lcrypto", quiet=True)
    except subprocess.CalledProcessError:
        _compile("upstream", directory)
        return False
    return bool(shutil.which("openssl"))


def _compile(name: str, directory: Path, *more: str, quiet: bool = False) -> None:
    command = [compiler(), "-O2", "-o", str(directory / name), str(HERE / f"{name}.c"), *more]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL if quiet else None)


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for this machine that signs itself, and its key, good for a day."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class Upstream:
    """The running upstream, told what to play through its stdin. `secured` is its address over TLS, if it has one."""

    def __init__(self, child: "subprocess.Popen[str]", directory: Path, authority: Path | None) -> None:
        self._child = child
        self._directory = directory
        self.pid = child.pid
        port, tls_port = map(int, line_of(child, ANSWER_WITHIN).split())
        self.plain = Address(port)
        self.secured = Address(tls_port, authority) if tls_port else None

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
def upstream(directory: Path, *, tls: bool) -> Iterator[Upstream]:
    """The upstream, running."""
    files = make_certificate(directory) if tls else ()
    with running([str(directory / "upstream"), *map(str, files)]) as child:
        yield Upstream(child, directory, files[0] if files else None)


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
            "once": int(self.scenario.held),
            "period": self.scenario.period if self.scenario.held else 0,
            "opening": self.marks.opening,
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
