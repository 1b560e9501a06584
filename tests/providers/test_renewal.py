"""Keys are kept good: on a clock of the test's own, with a source that answers when it is allowed to."""

import asyncio
import logging
import math
import threading

import pytest

from aibridge.errors import CredentialsError
from aibridge.providers.renewal import EARLY, MARGIN, CredentialSource, Found
from aibridge.providers.sigv4 import Keys

PATIENCE = 20.0
HOUR = 3600.0


class Service:
    """Hands out keys that live `lives` seconds, when it is allowed to; counts how often it is asked."""

    def __init__(self, *, lives=HOUR):
        self.now = 1_000_000.0
        self.asked = 0
        self.lives = lives
        self.error = None
        self.entered = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.source = CredentialSource("aws", self.find, lambda: self.now)

    def find(self):
        self.asked += 1
        self.entered.set()
        assert self.may_answer.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return Found(Keys(f"ASIA{self.asked}", "secret-of-it", "t"), "test", self.now + self.lives)

    async def settle(self):
        """Wait for a renewal that is under way."""
        async with asyncio.timeout(PATIENCE):
            while self.source._renewal is not None:
                await asyncio.wait({self.source._renewal})
                await asyncio.sleep(0)

    async def key(self):
        async with asyncio.timeout(PATIENCE):
            return (await self.source.current()).access_key

    def ready_key(self):
        keys = self.source.ready()
        return None if keys is None else keys.access_key


@pytest.fixture
def service():
    return Service()


async def test_found_once_and_kept(service):
    assert service.source.ready() is None
    assert [await service.key() for _ in range(3)] == ["ASIA1"] * 3
    service.now += HOUR - EARLY - 1
    assert service.ready_key() == "ASIA1"
    assert service.asked == 1


async def test_what_does_not_expire_is_never_looked_for_again():
    service = Service(lives=math.inf)
    await service.key()
    service.now += 10_000 * HOUR
    assert service.ready_key() == "ASIA1"
    assert (service.asked, service.source._renewal) == (1, None)


async def test_a_renewal_in_good_time_keeps_nobody_waiting(service):
    await service.key()
    service.now += HOUR - EARLY + 1
    service.may_answer.clear()
    assert [service.ready_key() for _ in range(3)] == ["ASIA1"] * 3
    assert await service.key() == "ASIA1"
    service.may_answer.set()
    await service.settle()
    assert service.ready_key() == "ASIA2"
    assert service.asked == 2


async def test_at_the_start_all_wait_for_one_search_and_hold_up_no_loop(service):
    service.may_answer.clear()
    waiting = [asyncio.create_task(service.key()) for _ in range(50)]
    assert await asyncio.to_thread(service.entered.wait, PATIENCE)
    for _ in range(100):  # the loop turns while the search stands still
        await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    service.may_answer.set()
    assert set(await asyncio.gather(*waiting)) == {"ASIA1"}
    assert service.asked == 1


async def test_who_leaves_does_not_end_the_search_for_the_others(service):
    service.may_answer.clear()
    leaving, staying = asyncio.create_task(service.key()), asyncio.create_task(service.key())
    assert await asyncio.to_thread(service.entered.wait, PATIENCE)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    service.may_answer.set()
    assert await staying == "ASIA1"
    assert service.asked == 1


async def test_a_failed_renewal_hurts_nobody_while_the_old_keys_are_good(service, caplog):
    await service.key()
    service.error = CredentialsError("STS is away")
    service.now += HOUR - EARLY + 1
    while service.now < service.source._found.expires_at:
        assert await service.key() == "ASIA1"
        await service.settle()
        service.now += 1
    failures = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert {record.fields["error"] for record in failures} == {"STS is away"}
    # at most one a minute, and more often only in the last ten minutes: a tenth of what is left, half a second at least
    assert 25 <= len(failures) <= 80
    with pytest.raises(CredentialsError, match="STS is away"):
        await service.key()
    service.error = None
    service.now += 1
    assert (await service.key()).startswith("ASIA")


async def test_a_source_that_gives_the_same_again_is_asked_once_a_minute(service):
    """As EC2's metadata service does until a few minutes before the end."""
    await service.key()
    expires_at = service.source._found.expires_at
    service.now = expires_at - 20 * 60
    for _ in range(600):
        service.lives = expires_at - service.now
        service.ready_key()
        await service.settle()
        service.now += 1
    assert 8 <= service.asked <= 12


async def test_in_the_last_seconds_a_request_waits_but_not_until_the_end(service):
    service.lives = MARGIN * 20
    await service.key()
    service.now += MARGIN * 20 - 0.2
    service.may_answer.clear()
    assert service.source.ready() is None
    assert await service.key() == "ASIA1"  # the service hangs, and these are good
    service.may_answer.set()
    await service.settle()
    assert await service.key() == "ASIA2"


async def test_in_the_last_seconds_new_ones_are_taken(service):
    await service.key()
    service.now += HOUR - MARGIN / 2
    assert await service.key() == "ASIA2"


async def test_expired_keys_are_never_used(service):
    await service.key()
    service.now += HOUR
    assert service.source.ready() is None
    assert await service.key() == "ASIA2"


async def test_failures_are_not_hammered(service):
    service.error = CredentialsError("no AWS credentials")
    for _ in range(100):
        with pytest.raises(CredentialsError, match="no AWS credentials"):
            await service.key()
    assert service.asked == 1
    service.now += 1
    service.error = None
    assert await service.key() == "ASIA2"


async def test_a_request_waits_for_so_long_and_no_longer(service, monkeypatch):
    monkeypatch.setattr("aibridge.providers.renewal.PATIENCE", 0.01)
    service.may_answer.clear()
    for _ in range(3):
        with pytest.raises(CredentialsError, match="no AWS credentials came in 0 s"):
            await service.key()
    assert service.asked == 1
    service.may_answer.set()
    await service.settle()
    assert await service.key() == "ASIA1"


async def test_new_ones_that_have_expired_already_are_refused(service):
    service.lives = -10
    with pytest.raises(CredentialsError, match="have expired"):
        await service.key()


async def test_short_lived_ones_are_asked_for_at_a_measured_pace():
    service = Service(lives=3.0)
    await service.key()
    for _ in range(100):
        service.now += 0.1
        assert service.ready_key() is not None
        await service.settle()
    assert 15 <= service.asked <= 21


async def test_what_is_not_ours_is_told_by_its_kind_alone(service, caplog):
    service.error = ValueError("a-secret-in-it")
    with pytest.raises(CredentialsError, match=r"^ValueError$"):
        await service.key()
    assert "a-secret-in-it" not in caplog.text


async def test_the_log_tells_source_and_no_secret(service, caplog):
    with caplog.at_level("DEBUG", "aibridge"):
        await service.key()
        service.now += HOUR
        await service.key()
    levels = [(record.levelname, record.fields["source"]) for record in caplog.records]
    assert levels == [("DEBUG", "test")] * 2
    assert service.source.source == "test"
    assert "secret-of-it" not in str([record.__dict__ for record in caplog.records])
