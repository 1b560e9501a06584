"""The command line as people have it: processes, terminals, pipes that close, and Ctrl-C."""

import asyncio
import json
import os
import pty
import signal
import sys
import termios
from contextlib import asynccontextmanager, closing

import pytest
from process_kit import ENVIRONMENT, PATIENCE, run
from record_kit import INTERCEPTION, OUTCOME

from aibridge.cli import main
from aibridge.stores.entries import closed_parts, entry, opened_parts, rows_of
from aibridge.stores.sqlite import SQLiteStore
from aibridge.values import Usage, UsageSource


@asynccontextmanager
async def started(*arguments, **more):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aibridge", *arguments,
        env={**ENVIRONMENT, "TERM": "xterm"},
        **{"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **more},
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def store(tmp_path):
    """A store of 5,000 interceptions."""
    path = tmp_path / "many.db"
    with closing(SQLiteStore(path)) as store:
        ones = [INTERCEPTION._replace(id=f"id-{number:05}", started_at=float(number)) for number in range(5000)]
        end = OUTCOME._replace(usage=Usage(5, 7), usage_source=UsageSource.PROVIDER_FINAL)
        entries = [entry(1.0, opened_parts(one) + closed_parts(one, end)) for one in ones]
        store.write(rows_of(entries, "journal-1")[0], "journal-1", 1)
    return path


async def test_tail_follows_a_gateway(build_house, ask, records):
    async with build_house() as house:
        await ask(house, "anthropic")
        await house.books()
        async with started("tail", "--records", str(records), "--json") as tail:
            first = json.loads(await tail.stdout.readline())
            assert (first["provider"], first["cause"]) == ("anthropic", "clean")
            await ask(house, "bedrock", "exception:throttlingException@3")
            await house.books(ended=2)
            second = json.loads(await tail.stdout.readline())
            assert (second["provider"], second["cause"]) == ("bedrock", "exception_frame")
            assert second["id"] == house.outcomes.ended[1][0].id
            tail.send_signal(signal.SIGINT)
            out, err = await tail.communicate()
        assert (tail.returncode, out, err) == (0, b"", b"")


async def test_tail_ends_with_its_reader(build_house, ask, records):
    async with build_house() as house:
        await ask(house, "anthropic")
        await house.books()
        readable, writable = os.pipe()
        async with started("tail", "--records", str(records), stdout=writable) as tail:
            os.close(writable)
            assert await asyncio.to_thread(os.read, readable, 10)
            os.close(readable)
            for number in range(2, 4):
                await ask(house, "anthropic")
                await house.books(ended=number)
            assert (await tail.wait(), await tail.stderr.read()) == (0, b"")


async def test_a_reader_that_has_seen_enough(store, tmp_path):
    file = tmp_path / "aibridge.yaml"
    nobody = {"anthropic": {"base_url": "http://127.0.0.1:1"}}
    file.write_text(json.dumps({"providers": nobody, "auth": {"mode": "open"}, "records": {"path": str(store)}}))
    for command, status in (("doctor", 1), ("tail -n 5000 --no-follow", 0)):
        line = f"{sys.executable} -m aibridge {command} --config {file} | head -n 1; echo ${{PIPESTATUS[0]}}"
        process = await asyncio.create_subprocess_exec(
            "/bin/bash", "-c", line, env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert (out.splitlines()[1:], err) == ([b"%d" % status], b"")


async def on_terminal(*arguments):
    """Run a command whose standard error is a terminal; return status, output, and what the terminal saw."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 100))
    async with started(*arguments, stderr=theirs) as process:
        os.close(theirs)
        seen = asyncio.create_task(asyncio.to_thread(read_all, ours))
        out = await process.stdout.read()
        await process.wait()
        told = await seen
    os.close(ours)
    return process.returncode, out, told


def read_all(descriptor):
    told = b""
    try:
        while data := os.read(descriptor, 65536):
            told += data
    except OSError:  # a terminal's end, on Linux
        pass
    return told.decode()


LONG = [
    ("prune", "--older-than", "2026-01-01"),
    ("export",),
    ("prices", "rerate"),
]


@pytest.mark.parametrize("command", LONG, ids=" ".join)
async def test_long_work_shows_how_far_it_is(store, command):
    """On a terminal; what is written is the same without one, and nothing else is."""
    arguments = [*command, "--records", str(store)]
    if command[0] == "prune":
        arguments += ["--json"]
    status, out, seen = await on_terminal(*arguments)
    assert status == 0
    assert "interceptions" in seen
    if command == ("export",):
        assert "/5000" in seen
        status, piped, err = await run(*arguments, environment=ENVIRONMENT)
        assert (status, piped.encode(), err) == (0, out, "")
    if command[0] == "prune":
        assert json.loads(out) == {"deleted": 5000}


async def test_audit_as_json_and_with_a_bar(store):
    arguments = ("audit", str(store), "--json")
    status, out, _ = await on_terminal(*arguments)
    told = json.loads(out)
    assert (status, told["started"], told["in_flight"], told["ended"]["completed"]) == (1, 5000, 0, 5000)
    differences = {difference["what"]: difference["ids"] for difference in told["differences"]}
    assert len(differences["ended otherwise than its last attempt"]) == 5000


def test_check_and_version_as_json(tmp_path, capsys):
    file = tmp_path / "aibridge.yaml"
    file.write_text('{"providers": {"anthropic": {"api_key": "k"}}, "auth": {"mode": "open"}}')
    assert main(["check", str(file), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err == ""
    assert told["notes"]
    assert told["configuration"]["providers"]["anthropic"]["kind"] == "anthropic"
    assert main(["version", "--json"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)) == ["modules", "python", "version", "wire"]
