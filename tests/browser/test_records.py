"""The views of the records: what they show is what the API says of real interceptions, and addresses hold it."""

import re

import pytest
from dashboard_kit import HOSTILE, shown

from aibridge.lifecycle import TERMINATION_OF

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def asked(page, path):
    """Ask the API with the page's session."""
    answer = await page.context.request.get(f"{page.url.partition('/dashboard/')[0]}/api/v1/{path}")
    assert answer.ok, await answer.text()
    return await answer.json()


async def listed(page):
    """Return the ids of the interceptions in the table."""
    await shown(page)
    await page.locator("tbody tr").first.wait_for()
    links = await page.locator("tbody th a").evaluate_all("all => all.map((one) => one.hash)")
    return [link.removeprefix("#/interceptions/") for link in links]


async def one_that_ended(page, cause):
    return (await asked(page, f"interceptions?cause={cause}&limit=1"))["items"][0]


async def test_pages_lead_through_all_of_them_and_back(looking):
    async with looking("#/interceptions") as page:
        await listed(page)
        there = [row["id"] for row in (await asked(page, "interceptions?since=24h&limit=500"))["items"]]
        seen = await listed(page)
        assert len(there) > 2 * len(seen) == 100
        while await page.get_by_role("link", name="Older").count():
            await page.get_by_role("link", name="Older").click()
            seen += await listed(page)
        assert seen == there
        await page.go_back()
        await page.get_by_role("link", name="Older").wait_for()
        await page.get_by_role("link", name="Newest", exact=True).click()
        await page.wait_for_url(re.compile(r"#/interceptions$"))
        assert await listed(page) == there[:50]


async def test_filters_stand_in_the_address_and_come_off_one_by_one(looking):
    async with looking("#/interceptions") as page:
        await page.get_by_label("Outcome").select_option("upstream_error")
        await page.get_by_role("link", name="Remove filter termination").wait_for()
        await page.locator("select[name=cause]").select_option("incomplete_body")
        await page.get_by_role("link", name="Remove filter cause").wait_for()
        assert page.url.endswith("#/interceptions?termination=upstream_error&cause=incomplete_body")
        wanted = await asked(page, "interceptions?since=24h&cause=incomplete_body")
        assert await listed(page) == [row["id"] for row in wanted["items"]]
        await page.reload()
        assert await listed(page) == [row["id"] for row in wanted["items"]]
        assert await page.locator("select[name=cause]").input_value() == "incomplete_body"
        # A cause of another termination would find nothing: it goes.
        await page.get_by_label("Outcome").select_option("client_gone")
        await page.wait_for_url(re.compile(r"\?termination=client_gone$"))
        await shown(page)
        await page.get_by_label("Actor").select_option("alice")
        await page.wait_for_url(re.compile(r"\?termination=client_gone&actor=alice$"))
        wanted = await asked(page, "interceptions?since=24h&termination=client_gone&actor=alice")
        assert await listed(page) == [row["id"] for row in wanted["items"]]
        await page.get_by_role("link", name="Remove all").click()
        await page.wait_for_url(re.compile(r"#/interceptions$"))


async def test_what_is_exported_is_what_is_filtered(looking):
    async with looking("#/interceptions?termination=client_gone") as page:
        ids = await listed(page)
        async with page.expect_download() as download:
            await page.get_by_role("link", name="CSV").click()
        text = (await (await download.value).path()).read_text()
        assert len(ids) == len(text.splitlines()) - 1 > 0
        assert all(one in text for one in ids)


@pytest.mark.parametrize(
    ("cause", "sentence", "evidence"),
    [
        ("clean", "said its last word", "last word (message_stop) was seen"),
        ("truncated", "before its last word", "last word was not seen"),
        ("http_status", "refused the request", "with status 5"),
        ("disconnected", "client left in the middle", "partial"),
        ("tool_loop_limit", "more turns than are allowed", "a further turn followed"),
        ("circuit_open", "it was not asked", "The upstream was not contacted."),
    ],
)
async def test_one_tells_in_words_why_it_ended_so(looking, cause, sentence, evidence):
    async with looking("#/providers") as page:
        path = f"interceptions?cause={cause}&limit=1" + ("&provider=anthropic" if cause == "clean" else "")
        row = (await asked(page, path))["items"][0]
        await page.evaluate(f"location.hash = '#/interceptions/{row['id']}'")
        verdict = page.get_by_role("region", name="How it ended")
        await verdict.locator(".lead").get_by_text(sentence).wait_for()
        assert row["termination"].replace("_", " ") in await verdict.locator(".lead").text_content()
        assert evidence in await verdict.get_by_role("list", name="Evidence").text_content()
        if row["error"]:
            assert row["error"] in await verdict.text_content()


async def test_a_timeline_has_attempts_and_tools_as_they_were(looking):
    async with looking("#/providers") as page:
        rows = (await asked(page, "interceptions?provider=bedrock&termination=completed&limit=500"))["items"]
        wholes = [await asked(page, f"interceptions/{row['id']}") for row in rows]
        retried = next(one for one in wholes if [told["http_status"] for told in one["attempts"][:2]] == [503, 200])
        await page.evaluate(f"location.hash = '#/interceptions/{retried['id']}'")
        picture = page.get_by_role("region", name="Timeline").get_by_role("img")
        await picture.locator("text", has_text="Attempt 2").wait_for()
        label = await picture.get_attribute("aria-label")
        assert [word in label for word in ("Interception: 0 s", "Attempt 1", "Attempt 2")] == [True] * 3
        pale = await picture.locator("rect.pale.upstream_error").bounding_box()
        second = await picture.locator("rect.completed").last.bounding_box()
        assert second["x"] >= pale["x"] + pale["width"]
        frame = await picture.bounding_box()
        for box in [await one.bounding_box() for one in await picture.locator("rect").all()]:
            assert frame["x"] <= box["x"] < box["x"] + box["width"] <= frame["x"] + frame["width"]
        injected = next(one for one in wholes if any(tool["server"] for tool in one["tools"]))
        await page.evaluate(f"location.hash = '#/interceptions/{injected['id']}'")
        await page.locator(".head").get_by_text(injected["id"]).wait_for()
        await picture.get_by_text("run by the gateway on kit").first.wait_for()
        assert await picture.locator("rect.series-3").count() == len(injected["tools"])


async def test_usage_and_cost_are_those_of_the_record(looking):
    async with looking("#/providers") as page:
        row = (await asked(page, "interceptions?model=claude-sonnet-5&termination=completed&limit=1"))["items"][0]
        await page.evaluate(f"location.hash = '#/interceptions/{row['id']}'")
        usage = page.get_by_role("region", name="Usage and cost")
        await usage.wait_for()
        text = await usage.text_content()
        assert f"{row['output_tokens']:,}" in text
        assert f"${row['cost_nanodollars'] / 1e9:.4f}" in text


async def test_a_session_is_its_threads_from_the_prompt_on(looking):
    async with looking("#/sessions") as page:
        await page.get_by_role("list", name="Sessions").wait_for()
        found = page.locator("a[href^='#/sessions/session-0?']")
        while not await found.count():  # it is the oldest
            await page.get_by_role("link", name="Older").click()
            await shown(page)
        await found.click()
        first = page.get_by_role("region", name="Thread 1")
        await first.wait_for()
        assert await first.locator(".prompt").text_content() == "Why does tests/test_relay.py fail on the second run?"
        steps = first.locator(".thread > li")
        assert await steps.count() == 4
        tools = [await steps.nth(number).locator(".tools").all_text_contents() for number in (1, 2, 3)]
        assert tools == [["Read"], ["Bash"], []]
        await steps.nth(2).get_by_role("link").click()
        await page.get_by_role("region", name="How it ended").wait_for()
        await page.get_by_role("link", name="session-0").click()
        await first.wait_for()


async def test_outcomes_add_up_and_lead_to_causes_and_records(looking):
    async with looking("#/outcomes?period=1h") as page:
        plot = page.locator(".plot svg")
        await plot.wait_for()
        items = (await asked(page, "outcomes?since=1h&bucket=minute"))["items"]
        total = sum(item["count"] for item in items)
        assert f"{total:,}" in await page.locator(".tile").first.text_content()
        await page.get_by_role("region", name="Over time").get_by_role("link", name="upstream error").click()
        causes = page.get_by_role("region", name="Causes of upstream error")
        await causes.wait_for()
        assert await page.locator(".plot rect.fill:not(.upstream_error)").count() == 0
        wanted = {item["cause"] for item in items if item["termination"] == "upstream_error"}
        shown = await causes.locator("tbody th a").all_text_contents()
        assert {text.replace(" ", "_") for text in shown} == wanted
        await causes.get_by_role("link", name="http status").click()
        await page.wait_for_url(re.compile("#/interceptions.*cause=http_status"))
        ids = await listed(page)
        many = sum(item["count"] for item in items if item["cause"] == "http_status")
        assert len(ids) == many


async def test_a_column_is_chosen_by_pointer_and_by_keys(looking):
    async with looking("#/outcomes?period=24h") as page:
        plot = page.locator(".plot svg")
        await plot.focus()
        await page.keyboard.press("End")
        readout = page.locator(".readout")
        assert "completed" in await readout.text_content()
        await page.keyboard.press("Enter")
        await page.wait_for_url(re.compile(r"since=\d+&until=\d+"))
        await page.go_back()
        await shown(page)
        await page.locator("rect.fill.upstream_error").first.click()
        await page.wait_for_url(re.compile(r"since=\d+&until=\d+&termination=upstream_error"))
        await page.get_by_role("link", name=re.compile("remove$")).click()
        await page.wait_for_url(re.compile(r"#/outcomes\?termination=upstream_error$"))


async def test_latency_is_told_by_model_and_over_time(looking):
    async with looking("#/latency?period=1h") as page:
        panel = page.get_by_role("region", name="Time to the first event")
        await panel.locator("circle.dot").first.wait_for()
        items = (await asked(page, "latency?since=1h&by=model"))["items"]
        await panel.get_by_text("Numbers: by model").click()
        names = await panel.locator("details[open] tbody th").all_text_contents()
        assert names == [item["name"] for item in items if item["time_to_first_event"]]
        await page.get_by_label("Over time: model").select_option("gpt-5.2")
        await page.wait_for_url(re.compile("of=gpt-5.2"))
        await panel.get_by_role("heading", name="gpt-5.2").wait_for()
        await page.get_by_role("link", name="By provider").click()
        await page.get_by_label("Over time: provider").wait_for()


async def test_costs_are_the_apis_sums(looking):
    async with looking("#/costs?by=actor") as page:
        table = page.get_by_role("table", name="Usage by actor")
        await table.wait_for()
        items = (await asked(page, "usage?since=24h&by=actor"))["items"]
        for item in items:
            row = table.get_by_role("row").filter(has=page.get_by_role("link", name=item["actor"], exact=True))
            cells = await row.locator("td").all_text_contents()
            assert cells[2] == f"{item['requests']:,}"
            assert cells[0].startswith("$")
        await page.get_by_role("link", name="Tool", exact=True).click()
        tools = page.get_by_role("table", name="Usage by tool")
        await tools.get_by_role("rowheader", name="Read").wait_for()
        assert await tools.get_by_role("columnheader", name="Calls").count() == 1


async def test_providers_tell_circuits_and_tool_servers(looking):
    async with looking("#/providers") as page:
        circuit = page.get_by_role("region", name="Circuits").get_by_role("row").filter(has_text="gpt-failing")
        assert await circuit.locator(".state").text_content() == "open"
        server = page.get_by_role("region", name="Tool servers").get_by_role("row").filter(has_text="kit")
        assert await server.locator(".state").text_content() == "up"
        assert await page.get_by_role("table", name="Interceptions by provider").get_by_role("row").count() == 4


async def test_text_from_outside_stays_text(looking):
    async with looking(f"#/interceptions?model={HOSTILE.replace(' ', '%20')}") as page:
        assert len(await listed(page)) == 1
        assert HOSTILE in await page.locator("tbody").text_content()
        await page.locator("tbody th a").click()
        prompt = page.get_by_role("group", name="Prompt")
        assert await prompt.text_content() == HOSTILE
        for view in ("costs", "latency", "outcomes", "sessions", "live"):
            await page.evaluate(f"location.hash = '#/{view}'")
            await shown(page)
            assert await page.locator("main img").count() == 0
        assert "owned" not in await page.title()


async def test_what_cannot_be_asked_is_told_and_asked_again(looking):
    async with looking("#/interceptions/no-such-id", allowed=("status of 404",)) as page:
        await page.get_by_role("alert").get_by_text("no such interception").wait_for()
        await page.get_by_role("link", name="Sessions").click()
        await page.get_by_role("heading", name="Sessions", level=1).wait_for()


async def test_every_cause_has_its_words_and_its_termination(looking):
    async with looking("#/providers") as page:
        causes = await page.evaluate("import('/dashboard/outcomes.js').then((module) => module.CAUSES)")
        assert {cause: causes[cause][0] for cause in TERMINATION_OF} == TERMINATION_OF
        assert all(len(told) == 4 and all(told) for told in causes.values())
