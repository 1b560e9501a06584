"""What a process tree costs, read from /proc; and child processes that always end."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
TICK_NS = 10_000_000  # USER_HZ is 100 on every Linux that /proc tells its ticks in
STOP_AFTER = 5.0

BURNER = """
import sys, time
while time.process_time() < {seconds}:
    pass
print(time.process_time(), flush=True)
sys.stdin.read()
"""


def tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    found = [pid]
    for one in found:
        for task in _tasks(one):
            with contextlib.suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _tasks(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):
        return list((PROC / str(pid) / "task").iterdir())
    return []


def cpu_ns(pids: list[int]) -> int:
    """User and system time so far of all `pids`, in nanoseconds."""
    return sum(max(_fine(pid), _coarse(pid)) for pid in pids)


def _fine(pid: int) -> int:
    """The scheduler's own account, exact, of the threads alive; 0 where the kernel keeps none."""
    total = 0
    for task in _tasks(pid):
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def _coarse(pid: int) -> int:
    """User and system time in ticks of 10 ms, threads that ended and reaped children included."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15])) * TICK_NS


def machine_ns() -> int:
    """Time that all cores together were not idle so far, the hypervisor's theft included, in nanoseconds."""
    user, nice, system, _idle, _iowait, *rest = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(map(int, (user, nice, system, *rest))) * TICK_NS


def memory_kb(pids: list[int]) -> dict[str, int]:
    """Resident (`rss`) and proportional (`pss`: shared pages divided among their users) memory of all `pids`, in KB."""
    total = {"rss": 0, "pss": 0}
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name.lower() in total:
                    total[name.lower()] += int(rest.split()[0])
    return total


def stop(child: "subprocess.Popen[str]") -> None:
    """End a child: politely, then not."""
    child.terminate()
    try:
        child.wait(STOP_AFTER)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()


@contextlib.contextmanager
def running(command: list[str], **options: object) -> Iterator["subprocess.Popen[str]"]:
    """A child that ends with the block, whatever happens in it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True} | options
    child: subprocess.Popen[str] = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
    try:
        yield child
    finally:
        stop(child)


def line_of(child: "subprocess.Popen[str]", within: float) -> str:
    """The next line a child prints; the child is killed, and the line empty, if none comes in time."""
    if child.stdout is None:
        raise ValueError("this child's output is not piped")
    clock = threading.Timer(within, child.kill)
    clock.start()
    try:
        return child.stdout.readline().strip()
    finally:
        clock.cancel()


def accounting_error(seconds: float = 0.4) -> float:
    """Burn a known amount of CPU in a child and say by which part our account of it is wrong."""
    with running([sys.executable, "-c", BURNER.format(seconds=seconds)]) as child:
        burned = float(line_of(child, within=30 * seconds + 10))
        time.sleep(0.05)
        return cpu_ns(tree(child.pid)) / 1e9 / burned - 1
