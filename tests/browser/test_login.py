"""The way in and out."""

import pytest
from dashboard_kit import ADMIN_KEY

pytestmark = pytest.mark.asyncio(loop_scope="session")
UNAUTHORIZED = ("status of 401",)


async def test_a_wrong_key_is_told_and_the_right_one_leads_where_the_address_says(looking):
    async with looking("#/outcomes?period=1h", key="", allowed=UNAUTHORIZED) as page:
        key = page.get_by_label("Admin key")
        await key.fill("no-key-of-this-gateway")
        await key.press("Enter")
        await page.get_by_role("alert").get_by_text("not an admin key").wait_for()
        assert await page.get_by_role("navigation", name="Views").count() == 0
        await key.fill(ADMIN_KEY)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("heading", name="Outcomes", level=1).wait_for()
        assert page.url.endswith("#/outcomes?period=1h")
        assert await page.locator(".who").text_content() == "ann"
        cookie = (await page.context.cookies())[0]
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


async def test_a_logout_ends_the_session_and_another_view_asks_for_the_key(looking):
    async with looking("#/providers", allowed=UNAUTHORIZED) as page:
        await page.get_by_role("heading", name="Providers", level=1).wait_for()
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_label("Admin key").wait_for()
        await page.reload()
        await page.get_by_label("Admin key").wait_for()


async def test_a_session_that_is_over_asks_for_the_key_and_goes_on_where_it_was(looking):
    async with looking("#/interceptions", allowed=UNAUTHORIZED) as page:
        await page.get_by_role("heading", name="Interceptions", level=1).wait_for()
        await page.context.clear_cookies()
        await page.get_by_role("link", name="Cost").click()
        await page.get_by_label("Admin key").fill(ADMIN_KEY)
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Cost", level=1).wait_for()


async def test_the_theme_is_kept_and_the_systems_one_counts_else(looking):
    async with looking("#/providers", color_scheme="dark") as page:
        background = "getComputedStyle(document.body).backgroundColor"
        await page.get_by_role("heading", name="Providers", level=1).wait_for()
        dark = await page.evaluate(background)
        await page.get_by_role("button", name="Theme: auto").click()
        light = await page.evaluate(background)
        assert light != dark
        await page.reload()
        await page.get_by_role("button", name="Theme: light").wait_for()
        assert await page.evaluate(background) == light
        await page.get_by_role("button", name="Theme: light").click()
        assert await page.evaluate(background) == dark
