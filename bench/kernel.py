"""What the wire costs: CPU time of frames to text, of a look at server-sent events, of a scan of a request body.

    python bench/kernel.py [--quick] [--json FILE]

Rows: nothing (join the bytes), botocore's EventStreamBuffer (frames only: no base64, JSON or text), a plain C loop
that does the wire's work (yardstick.c), the pure wire, the compiled wire. The rounds of all rows take turns; a figure
is the median of its rounds, from `time.process_time`.
Ratios within one run hold; the figures themselves depend on the machine and on what else runs there.
"""

import argparse
import ctypes
import gc
import importlib
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from botocore.eventstream import EventStreamBuffer

sys.path.insert(0, str(Path(__file__).parent))  # data.py stands beside; the bench is no package
import data
import yardstick

from aibridge import jsontext
from aibridge.wire.jsonscan import scan_object
from aibridge.wire.sse import SSEScanner
from aibridge.wire.transcode import ChunkTranscoder

CHUNK_SIZES = (1, 8, 64)


class Row(NamedTuple):
    """One thing that is measured. `units` is how many units one run does."""

    group: str
    name: str
    unit: str
    units: float
    run: Callable[[], object]


class Wire(NamedTuple):
    """One implementation."""

    name: str
    transcoder: type[ChunkTranscoder]
    scanner: type[SSEScanner]
    scan_object: Callable[[bytes], object]


def main() -> None:
    options = parse_options()
    rows = list(all_rows(frames=2_000 if options.quick else 100_000, body=200_000 if options.quick else 2_000_000))
    figures = measure(rows, rounds=3 if options.quick else options.rounds)
    results = describe(rows, figures)
    print(table(results))
    if options.json:
        Path(options.json).write_text(json.dumps({"environment": environment(), "results": results}, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke test of some seconds; figures mean little")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    return parser.parse_args()


def all_rows(*, frames: int, body: int) -> Iterable[Row]:
    """Yield every row: `frames` frames and as many events a run, a request body of `body` bytes."""
    wires, loop = find_wires(), find_loop()
    bedrock = data.bedrock_frames(frames)
    events = data.sse_events(frames)
    for size in CHUNK_SIZES:
        group = f"frames to text, {size} a chunk"
        chunks = grouped(bedrock, size)
        yield Row(group, "nothing", "frame", frames, partial(nothing, chunks))
        yield Row(group, "botocore", "frame", frames, partial(botocore, chunks))
        if loop and size == max(CHUNK_SIZES):  # below, the way from Python into C is what is measured
            yield Row(group, "plain C", "frame", frames, partial(plain_c, loop, chunks))
        for wire in wires:
            yield Row(group, wire.name, "frame", frames, partial(transcode, wire, chunks, frames))
    for size in CHUNK_SIZES:
        group = f"look at events, {size} a chunk"
        chunks = grouped(events, size)
        yield Row(group, "nothing", "event", frames, partial(nothing, chunks))
        for wire in wires:
            yield Row(group, wire.name, "event", frames, partial(look_at, wire, chunks, frames))
    request = data.request_body(body)
    group = f"scan a request of {len(request) / 1e6:.1f} MB"
    yield Row(group, "orjson", "MB", len(request) / 1e6, partial(jsontext.loads, request))
    for wire in wires:
        yield Row(group, wire.name, "MB", len(request) / 1e6, partial(wire.scan_object, request))


def find_wires() -> list[Wire]:
    """Return the implementations that are here."""
    pure = Wire("pure", ChunkTranscoder, SSEScanner, scan_object)
    try:
        module: Any = importlib.import_module("aibridge._speedups")
    except ImportError:
        print("the compiled wire is not built", file=sys.stderr)
        return [pure]
    return [pure, Wire("compiled", module.ChunkTranscoder, module.SSEScanner, module.scan_object)]


def find_loop() -> yardstick.Yardstick | None:
    """Return the plain C loop, if there is a compiler."""
    if not yardstick.find_compiler():
        print("no C compiler: without the plain C loop", file=sys.stderr)
        return None
    with tempfile.TemporaryDirectory(prefix="aibridge-bench-") as name:
        return yardstick.Yardstick(yardstick.build(Path(name)))


def plain_c(loop: yardstick.Yardstick, chunks: list[bytes]) -> None:
    out = ctypes.create_string_buffer(max(map(len, chunks)))
    for chunk in chunks:
        assert loop.frames_to_text(chunk, out)


def grouped(pieces: list[bytes], size: int) -> list[bytes]:
    return [b"".join(pieces[at : at + size]) for at in range(0, len(pieces), size)]


def nothing(chunks: list[bytes]) -> None:
    b"".join(chunks)


def botocore(chunks: list[bytes]) -> None:
    decoder = EventStreamBuffer()
    for chunk in chunks:
        decoder.add_data(chunk)
        for _ in decoder:
            pass


def transcode(wire: Wire, chunks: list[bytes], expected: int) -> None:
    decoder = wire.transcoder(quiet=data.QUIET)
    counted = 0
    for chunk in chunks:
        counted += decoder.feed_data(chunk)[2]  # as plain as botocore's loop
    assert counted == expected


def look_at(wire: Wire, chunks: list[bytes], expected: int) -> None:
    scanner = wire.scanner(quiet=data.QUIET)
    counted = 0
    for chunk in chunks:
        counted += scanner.feed_data(chunk)[2]
    assert counted == expected


def measure(rows: list[Row], *, rounds: int) -> list[float]:
    """Return CPU microseconds a unit for each row; the rounds of all rows take turns."""
    times: list[list[float]] = [[] for _ in rows]
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        for row, taken in zip(rows, times, strict=True):
            begin = time.process_time()
            row.run()
            taken.append((time.process_time() - begin) / row.units * 1e6)
    gc.enable()
    return [statistics.median(taken) for taken in times]


def describe(rows: list[Row], figures: list[float]) -> list[dict[str, Any]]:
    """Return one dict a row, with its ratio to the slow one that everybody has: botocore, or else the pure wire."""
    results = []
    for row, figure in zip(rows, figures, strict=True):
        group = {other.name: cost for other, cost in zip(rows, figures, strict=True) if other.group == row.group}
        base = "botocore" if "botocore" in group else "pure"
        ratio = group[base] / figure if figure else None
        results.append(
            {"group": row.group, "name": row.name, "unit": row.unit, "cpu_us": figure, "base": base, "ratio": ratio}
        )
    return results


def table(results: list[dict[str, Any]]) -> str:
    lines = [f"{'':<28} {'':<9} {'CPU us':>10}", "-" * 72]
    for one in results:
        ratio = f"{one['ratio']:8.1f} times less than {one['base']}" if one["ratio"] else ""
        lines.append(f"{one['group']:<28} {one['name']:<9} {one['cpu_us']:10.3f} / {one['unit']:<6}{ratio}")
    return "\n".join(lines)


def environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "botocore": version("botocore"),
    }


if __name__ == "__main__":
    main()
