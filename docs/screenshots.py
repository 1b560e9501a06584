"""Takes the pictures of docs/dashboard.md: `python docs/screenshots.py`, where `make browser` has been.

A gateway is started with a simulator, gets real requests with real faults, and is looked at by Chromium. So that plots
over time have something to show, the records are spread over the last day in between.
"""

import asyncio
import contextlib
import random
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, ViewportSize, async_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the tests look at the same house

import dashboard_kit as kit  # noqa: E402

IMAGES = ROOT / "docs" / "images"
DAY = 86_400
ROUNDS = 40
SECONDS_OF_TRAFFIC = 100
ENDS = (
    ("slow:60+cut@1500", None),
    ("slow:40+truncate@6", None),
    ("status:529", None),
    ("slow:80", b"content_block_delta"),
    ("slow:120", b"content_block_delta"),
)
"""How some of the traffic ends: faults, and what the client gets before it leaves."""
WIDE: ViewportSize = {"width": 1180, "height": 760}
PHONE: ViewportSize = {"width": 360, "height": 760}


async def main() -> None:
    """Make the records, and take the pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with kit.house(folder) as at:
            await kit.traffic(at, ROUNDS)
        spread(folder / "records.db")
        async with kit.house(folder) as at, async_playwright() as playwright:
            at.simulator.play("status:503", 1)  # and then a retry, which calls a tool
            answer = await at.ask(kit.MODELS[2], prompt="Review this diff for races between close and drain.")
            load = asyncio.create_task(keep_busy(at))
            browser = await playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            await take_all(browser, at, answer.partition(b"x-aibridge-id: ")[2].split()[0].decode())
            load.cancel()
            await browser.close()


def spread(records: Path) -> None:
    """Move the records into the last day, sessions and threads as a whole, with more of them by day than by night."""
    choose = random.Random(1)  # noqa: S311 - the same pictures each time
    with closing(sqlite3.connect(records)) as db, db:
        db.execute("DELETE FROM interceptions WHERE model = ?", (kit.HOSTILE,))  # a test's
        query = "SELECT DISTINCT coalesce(session_id, thread_root_id, id) FROM interceptions"
        for (session,) in db.execute(query).fetchall():
            back = DAY * choose.triangular(0, 1, 0.25)
            ids = "SELECT id FROM interceptions WHERE coalesce(session_id, thread_root_id, id) = ?"
            for table, column, key in (
                ("attempts", "started_at", "interception_id"),
                ("tool_usages", "created_at", "interception_id"),
                ("interceptions", "ended_at", "id"),
                ("interceptions", "started_at", "id"),
            ):
                text = f"UPDATE {table} SET {column} = {column} - ? WHERE {key} IN ({ids})"  # noqa: S608 - our own names
                db.execute(text, (back, session))


async def keep_busy(at: kit.House) -> None:
    """Send requests until it is enough, eight at a time; a few of them fail."""

    async def keep_asking(choose: random.Random) -> None:
        while True:
            fault = f"slow:{int(choose.lognormvariate(4, 0.8))}"
            leave = None
            if choose.random() < 0.15:  # noqa: PLR2004 - one of seven
                fault, leave = choose.choice(ENDS)
            with contextlib.suppress(OSError, TimeoutError):
                await at.ask(
                    choose.choice(kit.MODELS[:2]), actor=choose.choice(kit.ACTORS), fault=fault, leave_after=leave
                )

    await asyncio.gather(*(keep_asking(random.Random(seed)) for seed in range(8)))  # noqa: S311 - nothing to guess


async def take_all(browser: Browser, at: kit.House, retried: str) -> None:
    """Take each picture; `retried` is the interception that is looked at alone."""
    light = await opened(browser, at, WIDE, "light")
    await shown(light, "live", ".plot path.upstream_error")
    await asyncio.sleep(SECONDS_OF_TRAFFIC)
    await taken(light, "live")
    await shown(light, "outcomes", ".plot rect.upstream_error")
    await taken(light, "outcomes")
    await shown(light, f"interceptions/{retried}", ".plot svg")
    await taken(light, "interception")
    dark = await opened(browser, at, WIDE, "dark")
    await shown(dark, "latency", ".plot path.line")
    await taken(dark, "latency")
    await shown(dark, "interceptions?termination=upstream_error", "tbody th a")
    await taken(dark, "interceptions")
    phone = await opened(browser, at, PHONE, "light")
    await shown(phone, f"sessions/session-8?actor={kit.ACTORS[2]}", ".thread .tools")
    await taken(phone, "phone")


async def opened(browser: Browser, at: kit.House, size: ViewportSize, scheme: Literal["light", "dark"]) -> Page:
    """Return a page that is logged in."""
    context = await browser.new_context(viewport=size, color_scheme=scheme, timezone_id="UTC", reduced_motion="reduce")
    await context.request.post(f"{at.url}/api/v1/login", data={"key": kit.ADMIN_KEY})
    page = await context.new_page()
    await page.goto(f"{at.url}/dashboard/#/providers")
    return page


async def shown(page: Page, view: str, wanted: str) -> None:
    """Go to a view, and wait for what is to be seen in it."""
    await page.evaluate(f"location.hash = {f'#/{view}'!r}")
    await page.locator(f"main:not([aria-busy]) {wanted}").first.wait_for()


async def taken(page: Page, name: str) -> None:
    """Write what is on the screen to a file."""
    await page.evaluate("document.activeElement.blur()")
    await page.screenshot(path=IMAGES / f"dashboard-{name}.png")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    asyncio.run(main())
