"""Another configuration while the gateway runs: when it is read, what of it may change, and what is told of it.

It is read at a signal, and when one of its files has changed. It is taken as a whole, or not at all: then the last good
one goes on.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from aibridge.config import Config, changed_keys
from aibridge.errors import AibridgeError, ConfigError
from aibridge.telemetry.series import CounterFamily, Family, GaugeFamily, Number

LOOK_EVERY_S = 1.0
"""Between two looks at the files. One that has changed is read once it looks the same twice, written to its end."""

LIVE = (
    "actor_headers",
    "admin.keys",
    "auth",
    "budgets",
    "drain_deadline",
    "limit_store",
    "limits",
    "log",
    "mcp",
    "prices",
    "providers",
    "proxy",
    "rate_limits",
    "records.content",
    "routers",
    "timeouts",
    "tls",
)
"""What may change while the gateway runs, with all below it; all else needs a restart."""

_MANY = 40
"""Keys that one line of the log names."""

logger = logging.getLogger(__name__)

Read = Callable[[set[Path]], Config]
"""Reads the configuration, and adds to the set what it depends on. Raises `ConfigError`. Called on a thread."""

Looks = Mapping[Path, tuple[int, ...]]
"""What each file looks like from outside; where links lead, and not the links themselves."""


class Target(Protocol):
    """What works by a configuration: a gateway, or the supervisor of several."""

    @property
    def config(self) -> Config:
        """That which is in use."""

    async def reload(self, config: Config) -> None:
        """Work by another from now on. Raises `AibridgeError` where it stays with that which it has."""


class ReloadCounts:
    """What is counted of reloads. Of the process that watches the file: 2 + 1 + 1 series."""

    def __init__(self) -> None:
        self.reloads = CounterFamily("aibridge_config_reloads", "Reloads of the configuration, by result.", ("result",))
        self.loaded_at = GaugeFamily(
            "aibridge_config_loaded_timestamp_seconds", "When the configuration in use was read, in Unix time.", ()
        )
        self.successful = GaugeFamily(
            "aibridge_config_last_reload_successful", "Whether the last reload was taken: 1, else 0.", ()
        )
        for result in ("success", "failure"):
            self.reloads.child(result)
        self._taken()

    def count(self, *, taken: bool) -> None:
        """Count a reload."""
        self.reloads.child("success" if taken else "failure").value += 1
        self.successful.child().value = float(taken)
        if taken:
            self._taken()

    @property
    def families(self) -> tuple[Family[Number], ...]:
        """What is told at a scrape."""
        return self.reloads, self.loaded_at, self.successful

    def _taken(self) -> None:
        self.successful.child().value = 1.0
        self.loaded_at.child().value = time.time()


async def reload_once(read: Read, target: Target, files: set[Path]) -> list[str]:
    """Read the configuration, and have it taken. Returns the keys that have changed.

    Args:
        read: reads it.
        target: takes it.
        files: gets what it depends on, also where it is not taken.

    Raises:
        AibridgeError: it was not taken.
    """
    before = target.config
    config = await read_aside(read, files)
    changed = changed_keys(before, config)
    fixed = [key for key in changed if not _is_live(key)]
    if fixed:
        raise ConfigError(f"needs a restart: {_named(fixed)}")
    await target.reload(config)
    return changed


async def read_aside(read: Read, files: set[Path]) -> Config:
    """Read on a thread that nobody has to wait for: with commands that hang it takes ten seconds for each."""
    coming: Future[Config] = Future()
    coming.set_running_or_notify_cancel()  # whoever leaves does not stop it

    def run() -> None:
        try:
            coming.set_result(read(files))
        except BaseException as error:  # noqa: BLE001 - for whoever waits
            coming.set_exception(error)

    threading.Thread(target=run, name="reload", daemon=True).start()
    return await asyncio.wrap_future(coming)


def _is_live(key: str) -> bool:
    return any(f"{key}.".startswith(f"{live}.") for live in LIVE)


def _named(keys: list[str]) -> str:
    more = f" and {len(keys) - _MANY} more" if len(keys) > _MANY else ""
    return ", ".join(keys[:_MANY]) + more


class Reloader:
    """Watches the files of a configuration, and reloads it. Built on a running event loop.

    Args:
        read: reads it.
        target: takes it.
        known: what its files looked like when the configuration in use was read.
        counts: of reloads.
    """

    def __init__(self, read: Read, target: Target, known: Looks, counts: ReloadCounts) -> None:
        self._read = read
        self._target = target
        self._counts = counts
        self._known = known
        self._asked = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def ask(self) -> None:
        """Reload now, whether a file has changed or not."""
        self._asked.set()

    async def stop(self) -> None:
        """Watch no more."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        seen = self._known
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._asked.wait()
            before, seen = seen, await asyncio.to_thread(look_at, self._known)
            if self._asked.is_set() or (seen != self._known and seen == before):
                self._asked.clear()
                await self._reload(seen)
                seen = self._known

    async def _reload(self, seen: Looks) -> None:
        in_use, files = self._target.config, set[Path]()
        try:
            changed = await reload_once(self._read, self._target, files)
        except AibridgeError as error:
            self._tell_failure(str(error))
        except Exception as error:  # whatever it is, the last good one goes on
            logger.exception("a reload failed in itself")
            self._tell_failure(type(error).__name__)
        else:
            self._counts.count(taken=True)
            logger.info("configuration reloaded", extra={"fields": {"changed": _named(changed) or "nothing"}})
            for note in self._target.config.notes:
                if note not in in_use.notes:
                    logger.warning(note)
        # A file that was seen before it was read is known as it was seen: what came between is a change.
        self._known = {**look_at(files - seen.keys())} | {path: seen[path] for path in files & seen.keys()}

    def _tell_failure(self, error: str) -> None:
        self._counts.count(taken=False)
        logger.error("configuration not reloaded; the last good one goes on", extra={"fields": {"error": error}})


def look_at(files: Iterable[Path]) -> Looks:
    """Return what the files look like; of one that is not there, nothing."""
    looks: dict[Path, tuple[int, ...]] = {}
    for path in files:
        looks[path] = ()
        with contextlib.suppress(OSError, ValueError):
            found = path.stat()
            looks[path] = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return looks
