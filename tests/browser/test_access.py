"""For everybody: by keys alone, by ear, on a phone, in the dark. And what the files may not do."""

import re
from pathlib import Path

import pytest
from dashboard_kit import shown

import aibridge

VIEWS = {
    "live": "Live",
    "interceptions": "Interceptions",
    "interceptions?termination=upstream_error": "Interceptions",
    "sessions": "Sessions",
    "sessions/session-0": "Session",
    "outcomes?period=1h": "Outcomes",
    "latency?period=1h": "Latency",
    "costs": "Cost",
    "providers": "Providers",
}
STATIC = Path(aibridge.__file__).parent / "adminapi" / "static"
RULES = {
    "light": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "dark": ["color-contrast"],  # what colours can break
}
ALIVE = pytest.mark.asyncio(loop_scope="session")


async def each_view(page):
    """Go to each view by its address, and to one interception, and yield its name when it is there."""
    for path, title in VIEWS.items():
        await page.evaluate(f"location.hash = '#/{path}'")
        await shown(page)
        assert await page.locator("h1").text_content() == title
        yield path
    await page.evaluate("location.hash = '#/interceptions?cause=tool_loop_limit'")
    await shown(page)  # the view before has links at the same place
    await page.locator("tbody th a").first.click()
    await page.get_by_role("region", name="Timeline").wait_for()
    yield "interception"


@ALIVE
@pytest.mark.parametrize("scheme", RULES)
async def test_no_view_breaks_a_rule_of_wcag(looking, axe, scheme):
    async with looking(color_scheme=scheme) as page:
        await page.evaluate(axe)
        found = {}
        async for view in each_view(page):
            # The first rows stand for all: a hundred alike take long.
            await page.evaluate("document.querySelectorAll('tbody tr:nth-child(n + 6)').forEach((row) => row.remove())")
            result = await page.evaluate("(rules) => axe.run({ runOnly: rules })", RULES[scheme])
            assert result["passes"], view
            broken = {rule["id"]: [node["html"][:150] for node in rule["nodes"][:3]] for rule in result["violations"]}
            found |= {view: broken} if broken else {}
        assert found == {}


@ALIVE
async def test_the_login_breaks_no_rule_of_wcag(looking, axe):
    async with looking(key="", allowed=("status of 401",)) as page:
        await page.get_by_label("Admin key").wait_for()
        await page.evaluate(axe)
        assert (await page.evaluate("axe.run()"))["violations"] == []


@ALIVE
async def test_no_view_is_wider_than_a_phone(looking):
    async with looking(viewport={"width": 360, "height": 740}, has_touch=True) as page:
        async for view in each_view(page):
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, view
        await page.get_by_role("button", name="Menu").click()
        await page.get_by_role("navigation", name="Views").get_by_role("link", name="Cost").click()
        await page.get_by_role("heading", name="Cost", level=1).wait_for()
        assert await page.get_by_role("button", name="Menu").get_attribute("aria-expanded") == "false"


@ALIVE
async def test_keys_alone_lead_from_the_start_to_one_interception(looking):
    async with looking("#/providers") as page:
        await page.get_by_role("heading", name="Providers", level=1).wait_for()
        focused = page.locator(":focus")
        await page.keyboard.press("Tab")
        assert await focused.text_content() == "Skip to the content"
        assert (await focused.bounding_box())["y"] >= 0
        await page.keyboard.press("Enter")
        assert await focused.get_attribute("id") == "main"
        assert page.url.endswith("#/providers")
        await page.keyboard.press("Shift+Tab")  # the last of the frame
        for _ in range(20):
            if await focused.text_content() == "Interceptions":
                break
            await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await page.locator("h1:focus:text-is('Interceptions')").wait_for()
        await tab_to(page, "select[name=termination]")
        await page.keyboard.type("client")
        await tab_to(page, "button[type=submit]")
        await page.keyboard.press("Enter")
        await page.wait_for_url(re.compile(r"termination=client_gone$"))
        await shown(page)
        await page.locator("button[type=submit]:focus").wait_for()
        await tab_to(page, "tbody th a")
        await page.keyboard.press("Enter")
        await page.locator("h1:focus").wait_for()
        await page.get_by_role("region", name="How it ended").wait_for()


async def tab_to(page, selector):
    for _ in range(40):
        if await page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"no key leads to {selector}")


@ALIVE
async def test_every_stop_of_the_keyboard_is_seen(looking):
    async with looking("#/outcomes?period=1h") as page:
        await page.locator(".plot svg").wait_for()
        await page.keyboard.press("Tab")
        for _ in range(30):
            outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            name = await page.evaluate("document.activeElement.outerHTML.slice(0, 120)")
            if name.startswith("<body"):
                break
            assert outline != "none", name
            await page.keyboard.press("Tab")


@ALIVE
@pytest.mark.parametrize(
    "forbidden",
    [
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'document.title = 1' }))",
        "document.body.setAttribute('style', 'color: red')",
        "void fetch('https://example.invalid/').catch(() => null)",
        "console.error('a fault')",
    ],
)
async def test_what_a_page_may_not_do_is_seen(looking, forbidden):
    async def do():
        async with looking("#/providers") as page:
            await page.get_by_role("heading", name="Providers", level=1).wait_for()
            await page.evaluate(forbidden)

    with pytest.raises(AssertionError):
        await do()


def test_no_file_makes_html_of_text_or_has_code_or_style_inline():
    files = [path for path in STATIC.rglob("*") if path.suffix in {".js", ".html", ".css", ".svg"}]
    assert len(files) > 20
    for path in files:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            path
        )
        assert not re.search(r"<style|style=|<script(?! (type=\"module\" )?src=)| on\w+=\"", text), path
        foreign = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text)) - {"http://www.w3.org"}
        assert foreign == set(), path
