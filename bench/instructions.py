"""Instructions that the compiled wire takes, counted by callgrind: exact where time is noisy.

    python bench/instructions.py           compare with the committed figures; 1 where one is too high
    python bench/instructions.py --write   count anew, and commit what it writes

A count depends on the compiler, on Python and on what the processor has. So each is told as a ratio to a plain C loop
(yardstick.c) that the same compiler builds, and that is counted, in the same run. Where all that made the committed
figures is here too, a ratio may be 5 % higher at most; elsewhere 30 %, which still tells a kernel that lost its way.
Without valgrind, a C compiler or the compiled wire nothing is compared, and that is said.
"""

import argparse
import ctypes
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # data.py stands beside; the bench is no package
import data
import yardstick
from yardstick import Yardstick

RESULTS = Path(__file__).resolve().parent / "results" / "instructions.json"
SAME, OTHER = 1.05, 1.30
FRAMES = 1_024
BODY = 100_000
LOOP = "plain C loop, a frame"
FEATURES = ("avx2", "bmi2", "pclmulqdq", "sse4_1", "sse4_2", "ssse3")

Counts = dict[str, float]


# ---- inside callgrind


def count_all(library: Path) -> None:
    """Run every kernel once to be warm, and once to be counted. Callgrind writes the counts beside its output file."""
    loop = Yardstick(library)
    for name, _, run in kernels(loop):
        run()
        loop.count_from()
        run()
        loop.count_to(name)


def kernels(loop: Yardstick) -> list[tuple[str, float, Callable[[], object]]]:
    """Name, units a run, and run of all that is counted. The names say the unit."""
    speedups: Any = importlib.import_module("aibridge._speedups")
    frames, events = data.bedrock_frames(FRAMES), data.sse_events(FRAMES)
    body = data.request_body(BODY)
    whole = b"".join(frames)
    out = ctypes.create_string_buffer(len(whole))
    size = loop.frames_to_text(whole, out)
    if out.raw[:size] != speedups.ChunkTranscoder(quiet=data.QUIET).feed_data(whole).relay:
        raise AssertionError("the plain C loop and the compiled wire do not do the same work")
    found: list[tuple[str, float, Callable[[], object]]] = [
        (LOOP, FRAMES, partial(loop.frames_to_text, whole, out)),
        ("scan a request, a KB", len(body) / 1000, partial(speedups.scan_object, body)),
    ]
    pieces = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    for together in (64, 1):
        feed = partial(_feed, partial(speedups.ChunkTranscoder, quiet=data.QUIET), _grouped(frames, together))
        found.append((f"frames to text, {together} a chunk, a frame", FRAMES, feed))
        feed = partial(_feed, partial(speedups.SSEScanner, quiet=data.QUIET), _grouped(events, together))
        found.append((f"look at events, {together} a chunk, an event", FRAMES, feed))
        feed = partial(_feed, speedups.ChunkedDecoder, _grouped(pieces, together))
        found.append((f"chunked coding, {together} a chunk, a piece", FRAMES, feed))
    return found


def _grouped(pieces: list[bytes], size: int) -> list[bytes]:
    return [b"".join(pieces[at : at + size]) for at in range(0, len(pieces), size)]


def _feed(kernel: Callable[..., Any], chunks: list[bytes]) -> None:
    feed = kernel().feed_data
    for chunk in chunks:
        feed(chunk)


# ---- outside


def count() -> Counts:
    """Instructions a unit of every kernel."""
    with tempfile.TemporaryDirectory(prefix="aibridge-bench-") as name:
        directory = Path(name)
        library = yardstick.build(directory, "CALLGRIND")
        out = directory / "callgrind"
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        command += [sys.executable, __file__, "--inside", str(library)]
        same = {"PYTHONHASHSEED": "0", "AIBRIDGE_SPEEDUPS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=os.environ | same, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        totals = dict(map(_read, directory.glob("callgrind.*")))
        return {name: totals[name] / units for name, units, _ in kernels(Yardstick(library))}


def _read(path: Path) -> tuple[str, int]:
    """The name and the instructions of one of callgrind's files."""
    lines = path.read_text().splitlines()
    name = next(line.rpartition("Request: ")[2] for line in lines if line.startswith("desc: Trigger"))
    return name, next(int(line.split()[1]) for line in lines if line.startswith("totals:"))


def made_with() -> dict[str, str]:
    """All that a count depends on."""
    flags = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), ""
    ).split()
    return {
        "compiler": _first_line([*yardstick.find_compiler(), "--version"]),
        "python": platform.python_version(),
        "cython": next((one.version for one in importlib.metadata.distributions(name="cython")), ""),
        "valgrind": _first_line(["valgrind", "--version"]),
        "machine": " ".join([platform.machine(), *(name for name in FEATURES if name in flags)]),
    }


def _first_line(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\n")[0]


def missing() -> str:
    """Why nothing can be counted here, or nothing."""
    if not shutil.which("valgrind"):
        return "valgrind is not installed"
    if not yardstick.find_compiler():
        return "there is no C compiler"
    header = subprocess.run(
        [*yardstick.find_compiler(), "-fsyntax-only", "-DCALLGRIND", str(yardstick.SOURCE)],
        capture_output=True,
        check=False,
    )
    if header.returncode:
        return "valgrind's headers are not installed"
    try:
        importlib.import_module("aibridge._speedups")
    except ImportError:
        return "the compiled wire is not built"
    return ""


def compare(counts: Counts, here: dict[str, str]) -> int:
    """Print every figure beside the committed one; returns 1 where one is too high."""
    committed = json.loads(RESULTS.read_text())
    other = [name for name, value in committed["made_with"].items() if here[name] != value]
    allowed = OTHER if other else SAME
    told = f"{', '.join(other)} differ from what made the committed figures" if other else "made with the same tools"
    print(f"instructions, and their ratio to the plain C loop ({told}: {allowed - 1:+.0%} at most)\n")
    print(f"{'':<38} {'here':>10} {'ratio':>8} {'committed':>10}")
    worse = 0
    for name, figure in counts.items():
        ratio = figure / counts[LOOP]
        before = committed["instructions"][name] / committed["instructions"][LOOP]
        verdict = "" if ratio <= before * allowed else f"  {ratio / before - 1:+.1%}: too high"
        worse |= bool(verdict)
        print(f"{name:<38} {figure:>10,.1f} {ratio:>8.3f} {before:>10.3f}{verdict}")
    if worse:
        print("\nA change that is worth it: python bench/instructions.py --write, and say why in the commit.")
    return int(worse)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Instructions that the compiled wire takes, beside the committed figures."
    )
    parser.add_argument("--write", action="store_true", help=f"count anew into {RESULTS.name}")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        count_all(options.inside)
        return 0
    if reason := missing():
        print(f"instructions: {reason}: nothing is compared")
        return 0
    counts, here = count(), made_with()
    if options.write:
        rounded = {name: round(figure, 2) for name, figure in counts.items()}
        RESULTS.write_text(json.dumps({"made_with": here, "instructions": rounded}, indent=1) + "\n")
        return 0
    return compare(counts, here)


if __name__ == "__main__":
    sys.exit(main())
