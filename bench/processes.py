"""What a process tree costs, read from /proc; and child processes that always end."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
TICK_NS = 10_000_000  # USER_HZ is 100 on every Linux that /proc tells its ticks in
STOP_AFTER = 5.0
READS_MAX = 5

# Burns CPU itself, in a child that starts and ends meanwhile, and in one that starts and lives on; then tells the sum.
BURNER = """
import resource, subprocess, sys, time
BURN = '''
import sys, time
while time.process_time() < {seconds}: pass
print(time.process_time(), flush=True)
if len(sys.argv) > 1: sys.stdin.read()
'''
sys.stdin.readline()
begun = time.process_time()
subprocess.run([sys.executable, "-c", BURN], stdout=subprocess.DEVNULL, check=True)
living = subprocess.Popen([sys.executable, "-c", BURN, "stay"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
ended = resource.getrusage(resource.RUSAGE_CHILDREN)
burned = ended.ru_utime + ended.ru_stime + float(living.stdout.readline())
while time.process_time() < {seconds}: pass
print(burned + time.process_time() - begun, flush=True)
sys.stdin.read()
living.communicate()
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


def tree_cpu_ns(pid: int) -> int:
    """User and system time so far of `pid` and all its descendants, those that ended included, in nanoseconds.

    A descendant counts by itself while it lives, and in the account of the one that waited for it afterwards: taken
    twice, the difference holds all that ran between, whatever started or ended meanwhile. Read again where the tree
    changed under the reader, which would miss a child, or count it twice.
    """
    if not pid:
        return 0
    for _ in range(READS_MAX):
        before = tree(pid)
        total = sum(cpu_ns(one) for one in before)
        if tree(pid) == before:
            return total
    raise RuntimeError(f"the processes under {pid} changed at each of {READS_MAX} looks")


def cpu_ns(pid: int) -> int:
    """User and system time so far of one process, its threads and the children it waited for, in nanoseconds."""
    own, waited_for = _coarse(pid)
    return max(_fine(pid), own) + waited_for


def _fine(pid: int) -> int:
    """The scheduler's own account, exact, of the threads alive; 0 where the kernel keeps none."""
    total = 0
    for task in _tasks(pid):
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def _coarse(pid: int) -> tuple[int, int]:
    """In ticks of 10 ms: the process with its ended threads; the children it waited for, with theirs."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0
    own, waited_for = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    return own * TICK_NS, waited_for * TICK_NS


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
    """End a child: politely, then not; and those of its descendants that it leaves behind."""
    descendants = tree(child.pid)[1:]
    child.terminate()
    try:
        child.wait(STOP_AFTER)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for pid in descendants:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
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
    """Have a child and its children burn a known amount of CPU, and say by which part our account of it is wrong."""
    with running([sys.executable, "-c", BURNER.format(seconds=seconds)]) as child:
        begun = tree_cpu_ns(child.pid)
        if child.stdin is None:
            raise ValueError("this child's input is not piped")
        child.stdin.write("go\n")
        child.stdin.flush()
        burned = float(line_of(child, within=30 * seconds + 10))
        return (tree_cpu_ns(child.pid) - begun) / 1e9 / burned - 1
