"""The event loop's lag: seen where something holds the loop, and not after the end."""

import asyncio
import time

from aibridge.telemetry.lag import LoopLag

PATIENCE = 20.0


def hold_the_loop(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def test_what_holds_the_loop_is_seen():
    seen = asyncio.Queue()
    lag = LoopLag(seen.put_nowait, interval=0.01)
    lag.start()
    async with asyncio.timeout(PATIENCE):
        assert await seen.get() >= 0
        hold_the_loop(0.15)
        assert await seen.get() >= 0.1
    lag.stop()


async def test_after_its_end_it_looks_no_more():
    seen = []
    lag = LoopLag(seen.append, interval=0.001)
    lag.start()
    lag.stop()
    lag.stop()
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.02, done.set_result, None)
    await done
    assert seen == []
