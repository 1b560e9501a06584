"""Several keys of one provider: the dashboard tells how many are left, and says so before it is asked."""

import pytest
import pytest_asyncio
from dashboard_kit import MODELS, house

from aibridge import config

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def at(browser, tmp_path_factory):  # noqa: ARG001 - no gateway where nobody looks
    """A gateway with two keys, of which the upstream takes one no more."""
    keys = ("sk-a-key-that-was-revoked", config.SIMULATOR_OPENAI_KEY)
    async with house(tmp_path_factory.mktemp("pool"), keys) as running:
        running.simulator.play("status:401", 1)
        await running.ask(MODELS[3])
        await running.settled()
        yield running


async def test_keys_are_told_by_their_state(looking):
    async with looking("#/live") as page:
        told = page.get_by_role("list", name="Needs a look").get_by_role("link")
        await told.get_by_text("Keys of openai: 1 refused, 1 left.").click()
        row = page.get_by_role("table", name="Keys of pools").get_by_role("row").filter(has_text="openai")
        assert await row.locator("td").all_text_contents() == ["1", "0", "1"]
