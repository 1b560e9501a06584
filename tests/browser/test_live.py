"""What happens now: told by the gateway while one looks, under load."""

import asyncio
import json
import re
import time

import pytest
from dashboard_kit import MODELS

pytestmark = pytest.mark.asyncio(loop_scope="session")
LONG = "slow:50+many:2000"


async def streams_are(page, many):
    """Wait until so many streams are told to run."""
    told = page.locator(".tile").filter(has_text="Streams now").locator("dd > span")
    await told.filter(has_text=re.compile(f"^{many}$")).wait_for()


async def test_streams_and_their_ends_are_told_as_they_happen(looking, at):
    async with looking("#/live") as page:
        await page.get_by_role("status").get_by_text("Live").wait_for()
        running = [
            asyncio.create_task(at.ask(MODELS[0], actor="bob", fault=LONG, leave_after=b"message_stop"))
            for _ in range(7)
        ]
        await streams_are(page, 7)
        await asyncio.gather(
            *(at.ask(model, fault="slow:2") for model in MODELS), at.ask(MODELS[1], actor="bob", fault="cut@400")
        )
        feed = page.get_by_role("table", name="The latest first")
        latest = feed.get_by_role("row").filter(has_text="incomplete body").filter(has_text="claude-haiku-4-5")
        await latest.filter(has_text="bob").first.wait_for()
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await streams_are(page, 0)
        await page.wait_for_function("() => document.querySelectorAll('.plot path.client_gone').length >= 7")
        gone = page.locator(".legend").get_by_role("link", name=re.compile("client gone"))
        assert int(re.search(r"(\d+) \(", await gone.text_content())[1]) >= 7
        assert await page.locator(".plot path.upstream_error").count() > 0


async def test_a_pause_holds_what_is_shown(looking, at):
    async with looking("#/live") as page:
        await page.get_by_role("status").get_by_text("Live").wait_for()
        await page.get_by_role("button", name="Pause").click()
        first = await page.locator(".feed tbody th a").first.get_attribute("href")
        for _ in range(2):  # when the second is told to be gone, so is the first
            running = asyncio.create_task(at.ask(MODELS[0], fault=LONG, leave_after=b"message_stop"))
            await streams_are(page, 1)
            running.cancel()
            await asyncio.wait([running])
            await streams_are(page, 0)
        assert await page.locator(".feed tbody th a").first.get_attribute("href") == first
        await page.get_by_role("button", name="Paused").click()
        await page.wait_for_function("(old) => document.querySelector('.feed tbody th a').hash !== old", arg=first)


async def test_endings_are_shown_where_the_browsers_clock_is_another(looking, at):
    async with looking("#/providers") as page:
        await page.add_init_script("const real = Date.now; Date.now = () => real() + 3600_000")
        await page.reload()
        await page.get_by_role("link", name="Live").click()
        await at.ask(MODELS[0])
        await page.locator(".plot path.completed").first.wait_for()


async def test_a_lost_line_is_told_and_found_again(looking):
    async with looking("#/live", allowed=("ERR_INTERNET_DISCONNECTED", "ERR_NETWORK")) as page:
        line = page.get_by_role("status")
        await line.get_by_text("Live").wait_for()
        await page.context.set_offline(True)
        # Offline cuts what begins; the line that stands is cut by leaving the view.
        await page.get_by_role("link", name="Cost").click()
        await page.get_by_role("alert").get_by_text("does not answer").wait_for()
        await page.context.set_offline(False)
        await page.get_by_role("button", name="Try again").click()
        await page.get_by_role("region", name="By day").wait_for()
        await page.get_by_role("link", name="Live").click()
        await line.get_by_text("Live", exact=True).wait_for()


SEEN = """(seen) => {
  Object.defineProperty(document, "hidden", { value: !seen, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_a_page_that_nobody_sees_lets_go_of_its_line_and_catches_up(looking, at):
    async with looking("#/live") as page:
        line = page.get_by_role("status")
        await line.get_by_text("Live", exact=True).wait_for()
        async with page.expect_event("requestfailed", lambda asked: asked.url.endswith("/live")):
            await page.evaluate(SEEN, arg=False)
        await at.ask(MODELS[0], fault="status:502")
        await at.settled()
        await page.evaluate(SEEN, arg=True)
        await page.get_by_role("table", name="The latest first").get_by_text("http status 502").wait_for()


async def test_a_store_that_is_back_is_complained_of_no_more(looking):
    stats = {"at": 0, "inflight": 1, "events_per_second": 1, "started_per_second": 1, "ended_per_second": 1}
    away = 'event: problem\ndata: {"detail": "it is away"}\n\n'

    def told(number):
        return f"event: stats\ndata: {json.dumps(stats | {'at': time.time(), 'inflight': number})}\n\n"

    async with looking("#/providers") as page:
        bodies = [f"retry: 10\n\n{told(7)}{away}{told(8)}", "retry: 100000\n\n" + "".join(map(told, range(90, 95)))]
        note = page.get_by_role("region", name="Just ended").locator(".note")

        async def answer(route):
            if len(bodies) == 1:
                await note.get_by_text("it is away").wait_for()
            await route.fulfill(content_type="text/event-stream", body=bodies.pop(0))

        await page.route("**/api/v1/live", answer)
        await page.get_by_role("link", name="Live").click()
        await streams_are(page, 94)
        assert await note.text_content() == ""
        await page.unroute_all(behavior="ignoreErrors")
