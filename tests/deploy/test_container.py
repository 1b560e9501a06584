"""The gateway as a container has it: the first process, no capabilities, a root that is read-only. And its recipe."""

import asyncio
import os
import shutil
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from deploy_kit import ROOT, bare_environment, run, tool
from process_kit import PATIENCE, line_with

linux_root = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.getuid() != 0 or shutil.which("unshare") is None,
    reason="needs Linux, root, and unshare",
)


def children_of(process):
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def processes_of(child):
    """Return what runs in the container: state and parent by pid, all as the container numbers them."""
    seen = run("nsenter", f"--target={child}", "--mount", "--pid", sys.executable, "-c", (
        "import pathlib\n"
        "for stat in pathlib.Path('/proc').glob('[0-9]*/stat'):\n"
        "    pid, _, rest = stat.read_text().partition(' ')\n"
        "    print(pid, *rest.rpartition(')')[2].split()[:2])"
    ))  # fmt: skip
    return {int(pid): (state, int(parent)) for pid, state, parent in map(str.split, seen.splitlines())}


class Container:
    """`aibridge serve` as the first process of namespaces of its own."""

    def __init__(self, process, pid, line):
        self.process, self.pid, self.line = process, pid, line

    async def end(self):
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def container(home, *arguments):
    """Run the gateway behind `unshare`, which ends as it ends. It can write to its home, and nowhere else."""
    mounts = f"mount --bind {home} {home} && mount -o remount,bind,ro / && cd {home} && exec"
    bare = "setpriv --bounding-set=-all --inh-caps=-all --no-new-privs"
    process = await asyncio.create_subprocess_exec(
        "unshare", "--pid", "--fork", "--mount-proc", "sh", "-c",
        f'{mounts} {bare} "$@"', "sh", sys.executable, "-m", "aibridge", "serve", *arguments,
        stderr=asyncio.subprocess.PIPE, env=bare_environment(home, PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            line = await line_with(process.stderr, "aibridge started")
        yield Container(process, children_of(process)[0], line)
    finally:
        if process.returncode is None:
            for child in children_of(process):
                os.kill(child, signal.SIGKILL)  # and with it all of its container
        await process.communicate()


@linux_root
@pytest.mark.parametrize("workers", [1, 2])
async def test_as_the_first_process_it_ends_when_asked(tmp_path, workers):
    async with container(tmp_path, "--workers", str(workers)) as running:
        inside = processes_of(running.pid)
        assert inside[1][1] == 0
        assert sum(parent == 1 for _, parent in inside.values()) >= workers - 1
        os.kill(running.pid, signal.SIGTERM)
        assert await running.end() == 0


@linux_root
async def test_as_the_first_process_it_takes_new_workers(tmp_path):
    async with container(tmp_path, "--workers", "2") as running:
        os.kill(running.pid, signal.SIGUSR2)
        async with asyncio.timeout(PATIENCE):
            assert await line_with(running.process.stderr, "new workers have taken over")
        os.kill(running.pid, signal.SIGTERM)
        assert await running.end() == 0


@linux_root
@pytest.mark.parametrize("workers", [1, 2])
async def test_as_the_first_process_it_buries_orphans(tmp_path, workers):
    async with container(tmp_path, "--workers", str(workers)) as running:
        inside = ("nsenter", f"--target={running.pid}", "--mount", "--pid")
        orphan = int(run(*inside, "sh", "-c", "sleep 987 >/dev/null 2>&1 & echo $!"))  # its parent ends before it
        assert processes_of(running.pid)[orphan][1] == 1
        run(*inside, "kill", str(orphan))
        async with asyncio.timeout(PATIENCE):
            while orphan in processes_of(running.pid):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.2)
        os.kill(running.pid, signal.SIGTERM)
        assert await running.end() == 0


def test_the_recipe_has_no_fault_that_hadolint_knows():
    assert run(tool("hadolint"), ROOT / "Dockerfile") == ""


def test_the_recipe_runs_as_nobody_in_particular():
    last_stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert "\nUSER 10001\n" in last_stage
    assert "apt-get" not in last_stage
