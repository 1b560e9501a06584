"""Names that somebody chose to do harm: long, unseen, turned around. What is shown stays readable, and in its place."""

import pytest
import pytest_asyncio
from dashboard_kit import MODELS, house, shown

LONG = "claude-" + "very-long-name-" * 13
WORD = "W" * 100_000
TURNED = "gpt-\u202etini\u202c \u2066x"
pytestmark = pytest.mark.asyncio(loop_scope="session")
VIEWS = ("live", "interceptions", "sessions", "outcomes?period=1h", "latency?period=1h", "costs", "costs?by=tool")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def at(browser, tmp_path_factory):  # noqa: ARG001 - no gateway where nobody looks
    """A gateway whose records are an enemy's."""
    async with house(tmp_path_factory.mktemp("hostile")) as running:
        for number, model in enumerate((LONG, WORD, TURNED)):
            asked = ("anthropic", "/v1/messages", model)
            await running.ask(asked, prompt=f"Tell of {model}", session=f"{LONG}-{number}")
            await running.ask(asked, prompt="again", session=f"{LONG}-{number}", fault="status:529")
        await running.ask(MODELS[0], session="tools", fault="tool:" + "Tool" * 50)
        await running.settled()
        yield running


@pytest.mark.parametrize("width", [360, 1280])
async def test_no_name_makes_a_view_wider_or_endless(looking, width):
    async with looking("#/interceptions", viewport={"width": width, "height": 800}) as page:
        await shown(page)
        one = [
            await page.locator("tbody th a").nth(number).get_attribute("href")
            for number in range(await page.locator("tbody th a").count())
        ]
        await page.evaluate("location.hash = '#/sessions'")
        await shown(page)
        sessions = await page.locator(".sessions h2 a").evaluate_all("all => all.map((one) => one.hash)")
        assert (len(one), len(sessions)) == (7, 4)
        for view in (*VIEWS, *(path.removeprefix("#/") for path in (*one, *sessions))):
            await page.evaluate("(path) => { location.hash = `#/${path}` }", view)
            await shown(page)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, view
            assert await page.evaluate("document.documentElement.scrollHeight") < 10_000, view
            assert await page.locator("main [role=alert]").count() == 0, view


async def test_what_is_not_seen_is_shown_and_filters_have_it_whole(looking):
    async with looking("#/interceptions") as page:
        await shown(page)
        shown_as = "gpt-⟨202E⟩tini⟨202C⟩ ⟨2066⟩x"
        assert await page.locator("tbody td", has_text=shown_as).count() == 2
        assert await page.locator("main", has_text="\u202e").count() == 0
        await page.locator("select[name=model]").select_option(TURNED)
        await page.get_by_role("link", name="Remove filter model").wait_for()
        await shown(page)
        assert await page.locator("tbody tr").count() == 2
        await page.locator("select[name=model]").select_option(WORD[:1024])  # what is recorded of it
        await page.wait_for_url(lambda url: "WWWW" in url)
        await shown(page)
        assert await page.locator("tbody tr").count() == 2
