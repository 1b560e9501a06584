"""Chromium before a gateway that has had traffic: one of each for all tests here, and a session for each test."""

import shutil
from contextlib import asynccontextmanager
from importlib import resources
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from dashboard_kit import ADMIN_KEY, house, traffic

ROUNDS = 15
VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
  violations.push(`${violatedDirective}: ${blockedURI}`));
"""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser():
    """Chromium, where it is installed."""
    playwright = pytest.importorskip("playwright.async_api", reason="no Playwright here: `make browser` installs it")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: `make browser` installs it on Debian")
    async with playwright.async_playwright() as started:
        # Without a sandbox: root has none, and what is looked at is ours.
        running = await started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield running
        await running.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def at(browser, tmp_path_factory):  # noqa: ARG001 - no gateway where nobody looks
    """A gateway with records of real traffic."""
    async with house(tmp_path_factory.mktemp("dashboard")) as running:
        await traffic(running, ROUNDS)
        yield running


@pytest.fixture
def looking(browser, at):
    """Return a context manager that opens the dashboard, and afterwards asserts that the page did nothing forbidden.

    `allowed` are pieces of words that the console may say as errors.
    """

    @asynccontextmanager
    async def look(path="", *, key=ADMIN_KEY, allowed=(), **options):
        options = {"viewport": {"width": 1280, "height": 800}, "timezone_id": "UTC", **options}
        options["reduced_motion"] = "reduce"  # a colour that fades is neither
        context = await browser.new_context(**options)
        context.set_default_timeout(60_000)
        wrong, failed = [], []
        await context.add_init_script(VIOLATIONS)
        page = await context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda said: wrong.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("request", lambda asked: wrong.append(f"asked {asked.url}") if not _is_ours(asked.url, at) else None)
        page.on("response", lambda answer: failed.append(answer) if answer.status >= 500 else None)
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        await at.settled()  # what another test had going
        try:
            if key:
                answer = await context.request.post(f"{at.url}/api/v1/login", data={"key": key})
                assert answer.ok, await answer.text()
            await page.goto(f"{at.url}/dashboard/{path}")
            yield page
            assert await page.evaluate("window.violations") == []
            # The console has no more than a number.
            told = [f"{answer.url}: {await answer.text()}" for answer in failed]
            assert [words for words in wrong if not any(piece in words for piece in allowed)] == [], told
        finally:
            await context.close()

    return look


def _is_ours(url, at):
    return urlsplit(url).netloc == urlsplit(at.url).netloc


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core."""
    pytest.importorskip("axe_playwright_python", reason="no axe-core here: `make browser` installs it")
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text()
