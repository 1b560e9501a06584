"""What one wants at night: what fails, where, since when, and the words for others to look into it."""

import asyncio
import csv
import os
import re

import pytest
from dashboard_kit import ADMIN_KEY, MODELS, shown

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_fails_now_leads_to_its_provider_its_records_and_the_latest(looking, at):
    for _ in range(3):
        await at.ask(MODELS[2], fault="status:529")
    async with looking("#/live") as page:
        row = page.get_by_role("region", name="What fails now").get_by_role("row").filter(has_text="bedrock")
        await row.filter(has_text="http status 529").wait_for()
        assert re.search(r"\d+ of \d+ \(", await row.text_content())
        await page.get_by_role("button", name="Pause").click()  # so that a row stays where it is
        await row.get_by_role("link", name="bedrock").click()
        await page.get_by_role("heading", name="Outcomes", level=1).wait_for()
        await page.get_by_role("link", name="Remove filter provider: bedrock").wait_for()
        await page.go_back()
        await row.get_by_role("link", name="http status 529").click()
        await page.wait_for_url(re.compile(r"provider=bedrock&termination=upstream_error&cause=http_status"))
        await shown(page)
        assert await page.locator("tbody tr").filter(has_text="http status 529").count() >= 3
        await page.go_back()
        await row.locator("a.clamp").click()
        verdict = page.get_by_role("region", name="How it ended")
        await verdict.get_by_text("with status 529").wait_for()


async def test_what_is_open_or_down_is_told_without_being_asked_for(looking):
    async with looking("#/live") as page:
        alerts = page.get_by_role("list", name="Needs a look")
        await alerts.get_by_role("link", name="The circuit of openai, gpt-failing is open.").click()
        await page.wait_for_url(re.compile(r"provider=openai&model=gpt-failing"))
        await shown(page)
        assert await page.locator("tbody tr").count() >= 4


@pytest.mark.parametrize("has_clipboard", [True, False])
async def test_an_id_is_copied(looking, has_clipboard):
    options = {"permissions": ["clipboard-read", "clipboard-write"]}
    async with looking("#/interceptions?cause=http_status", **options) as page:
        await page.locator("tbody th a").first.click()
        await page.get_by_role("region", name="How it ended").wait_for()
        id_ = page.url.rpartition("/")[2]
        read = "navigator.clipboard.readText()"
        if not has_clipboard:  # as over plain HTTP, where a page can write there all the same
            await page.evaluate(
                "window.kept = navigator.clipboard;Object.defineProperty(navigator, 'clipboard', { value: undefined })"
            )
            read = "kept.readText()"
        button = page.get_by_role("button", name="Copy the id")
        await button.click()
        await page.locator(".copy", has_text="Copied").wait_for()
        assert await page.evaluate(read) == id_
        assert await button.evaluate("(button) => button === document.activeElement")


async def test_the_export_is_told_as_a_command_that_works(looking, tmp_path):
    async with looking("#/interceptions?termination=client_gone&actor=alice") as page:
        await page.get_by_text("The export as a command").click()
        line = await page.locator(".command code").text_content()
        process = await asyncio.create_subprocess_shell(
            line, cwd=tmp_path, env={**os.environ, "KEY": ADMIN_KEY, "NO_PROXY": "*"}
        )
        assert await process.wait() == 0
        rows = list(csv.DictReader((tmp_path / "interceptions.csv").read_text().splitlines()))
        assert len(rows) == await page.locator("tbody tr").count() > 0
        assert {(row["termination"], row["actor_id"]) for row in rows} == {("client_gone", "alice")}


async def test_no_name_ends_the_commands_quotation(looking):
    async with looking("#/interceptions?model=x'%3B%20touch%20owned%20%23") as page:
        await page.get_by_text("The export as a command").click()
        line = await page.locator(".command code").text_content()
        assert line.count("'") == 2
