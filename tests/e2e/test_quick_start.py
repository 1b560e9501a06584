"""What a new user types, from the pages themselves, in a shell against a gateway without any credential."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from process_kit import ENVIRONMENT, PATIENCE, serving

DOCS = Path(__file__).parents[2] / "docs"
INDEX = (DOCS / "index.md").read_text().partition("### With a provider")[0]
READ = (DOCS / "outcomes.md").read_text().partition("## One of them, read")[2].partition("## The rule")[0]

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def commands(page, name):
    """Return the lines of a page that begin with a command, each with those that continue it."""
    return [
        line.replace("\\\n", " ")
        for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL)
        for line in re.findall(rf"^\$ ({name} (?:.*\\\n)*.*)$", block, re.MULTILINE)
    ]


@pytest.fixture
def house(tmp_path):
    (tmp_path / "aibridge").write_text(f'#!/bin/sh\nexec {sys.executable} -m aibridge "$@"\n')
    (tmp_path / "aibridge").chmod(0o755)
    ports = {"AIBRIDGE_PORT": "0", "AIBRIDGE_ADMIN_PORT": "0"}
    return ENVIRONMENT | ports | {"HOME": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}


async def typed(line, house, started):
    """Run a line of a page, the port of this gateway in the place of the page's; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", line.replace("http://127.0.0.1:8080", started["data"]),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=house,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def typed_until(words, line, house, started):
    """The same, again and again until the records have it."""
    async with asyncio.timeout(PATIENCE):
        while words not in (said := await typed(line, house, started)):  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.1)
    return said


@needs_curl
async def test_the_quick_start(house):
    assert commands(INDEX, "aibridge")[0] == "aibridge serve --demo"
    (asking,) = commands(INDEX, "curl")
    sessions, usage, audit = commands(INDEX, "aibridge")[1:]
    async with serving(environment=house) as (_, started):
        assert '"stop_reason":"end_turn"' in await typed(asking, house, started)
        assert "in 12 out 12" in await typed_until("completed", sessions, house, started)
        assert "claude-sonnet-4-5" in await typed(usage, house, started)
        assert (await typed(audit, house, started)).splitlines() == [
            "1 started = 1 completed + 0 failed + 0 client_gone + 0 in flight",
            "no difference",
        ]


VARYING = {"started_at", "duration", "origin", "time_to_first_event", "upstream_request_id", "user_agent", "cost"}


@needs_curl
async def test_the_outcome_that_is_read_is_a_real_one(house):
    told = re.findall(r"^ +([a-z_]+) {2,}(.+)$", READ.partition("$ aibridge show")[2].partition("```")[0], re.MULTILINE)
    assert len(told) > 25
    async with serving(environment=house) as (_, started):
        said = await typed(commands(READ, "curl")[0], house, started)
        id_ = re.search('"request_id":"([^"]+)"', said)[1]
        page_id = re.search('"request_id":"([^"]+)"', READ)[1]
        assert READ.partition("```text\n")[2].partition("```")[0].replace(page_id, id_).strip() in said
        shown = await typed_until(f"{id_}  upstream_error (truncated)", f"aibridge show {id_} || true", house, started)
    found = re.findall(r"^ +([a-z_]+) {2,}(.+)$", shown, re.MULTILINE)
    assert [one for one in told if one[0] not in VARYING and one not in found] == []
    assert {name for name, _ in told} <= {name for name, _ in found}
