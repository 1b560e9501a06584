"""Several workers behind one port: started, watched, replaced and stopped by a process that relays nothing itself.

A worker is this program, started by the same command with its `Share`. The supervisor holds what must outlive it: the
listening sockets, and the memory that its numbers stand in. So a worker that dies loses only what it had in flight:
another serves its sockets until there is a new one, and no counter goes back. The admin port is the supervisor's.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from aibridge import __version__, admin
from aibridge.assembly import admin_keys, build_admin_api
from aibridge.clientstream import ClientStream
from aibridge.compiled import MODULES
from aibridge.config import Config
from aibridge.errors import ConfigError
from aibridge.jsontext import loads
from aibridge.member import Member, Stage
from aibridge.reload import Read, read_aside
from aibridge.server import Server
from aibridge.share import Share, bind
from aibridge.telemetry import tally
from aibridge.telemetry.log import set_level
from aibridge.telemetry.series import CounterFamily, Family, GaugeFamily, Number
from aibridge.telemetry.totals import Totals
from aibridge.wire import IMPLEMENTATION

logger = logging.getLogger(__name__)

START_WITHIN_S = 120.0
"""From a worker's start to its being ready: it may have to find credentials."""
END_WITHIN_S = 20.0
"""For a worker to end behind the drain deadline; then it is killed."""
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 30.0
"""Before a dead worker is replaced; doubled each time, and forgotten when one has lived as long as the longest."""
MAX_FAILED_STARTS = 5
"""In a row, with no worker ready: then nobody is served, and whoever started us shall know."""


class Supervisor:
    """Keeps workers. Built on a running event loop.

    Args:
        config: valid; with how many workers.
        command: starts this program as it was started; a worker's share is added.
        read: reads the configuration again; None: there is no file.
        more: families that are told with its own.
    """

    def __init__(
        self, config: Config, command: Sequence[str], read: Read | None = None, more: Sequence[Family[Number]] = ()
    ) -> None:
        self._config = config
        self._command = command
        self._read = read
        self._more = more
        self._reloads = 0
        self._family = os.urandom(4).hex()
        self._totals = Totals()
        self._server = Server(self._serve_admin)
        self._admin_api = build_admin_api(config, self._totals.snapshot)
        self._slots: list[list[socket.socket]] = []
        self._members: set[Member] = set()
        self._of_slot: dict[int, Member] = {}
        """Who has a slot, or is to have it; a slot is missing while it waits for a new one."""
        self._covers: dict[int, Member] = {}
        """Who serves the sockets of a slot that is not its own."""
        self._failed = dict.fromkeys(range(config.workers), 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing = False
        self._stopping = asyncio.Event()
        self._status = 0
        self._workers = GaugeFamily("aibridge_workers", "Workers, by what they do.", ("stage",))
        self._deaths = CounterFamily("aibridge_worker_deaths", "Workers that ended without being told to.", ())
        self._deaths.child()

    async def run(self) -> int:
        """Serve until `stop`; returns the exit status. Raises `OSError` where an address cannot be had."""
        listen = self._config.listen
        self._slots = bind(listen.host, listen.port, self._config.workers)
        admin_port = await self._server.listen(self._config.admin.host, self._config.admin.port)
        try:
            if (fields := await self._start()) is not None:
                data_port = self._slots[0][0].getsockname()[1]
                logger.info(
                    "aibridge started", extra={"fields": _start_fields(fields, self._config, data_port, admin_port)}
                )
                await self._stopping.wait()
            await self._end()
        finally:
            self._admin_api.close()
            await self._server.close()
            for slot in self._slots:
                for one in slot:
                    one.close()
        return self._status

    def stop(self) -> None:
        """Let all workers drain and end; called again, at once."""
        if self._stopping.is_set():
            self._tell_all("hurry")
        self._stopping.set()

    def renew(self) -> None:
        """Put new workers, of the program and the configuration that are there now, in the place of the old ones."""
        if not self._renewing and not self._stopping.is_set():
            self._renewing = True
            self._keep(self._renew())

    @property
    def config(self) -> Config:
        """What its workers work by, but for those that did not take it."""
        return self._config

    async def reload(self, config: Config) -> None:
        """Let all workers take the configuration that is there now, and later ones too.

        Raises:
            ConfigError: some did not, and go on with what they have.
        """
        self._reloads += 1
        self._config = config
        self._admin_api.take_keys(admin_keys(config))
        set_level(config.log.level)
        members = sorted(self._ready(), key=lambda member: member.slot)
        said = await asyncio.gather(*(member.reload(self._reloads) for member in members))
        wrong = [f"worker {member.slot}: {why}" for member, why in zip(members, said, strict=True) if why]
        if wrong:
            raise ConfigError("\n".join(wrong))

    # --- one worker -------------------------------------------------------------------------------------------------

    async def _launch(self, slot: int) -> Member:
        reloads = self._reloads
        ours, theirs = socket.socketpair()
        memory = tally.create()
        slots = [[one.fileno() for one in sockets] for sockets in self._slots]
        share = Share(slot, self._family, theirs.fileno(), memory, slots)
        inherited = [fd for fds in slots for fd in fds]
        try:
            numbers = tally.Tally(memory)
            process = await asyncio.create_subprocess_exec(
                *self._command, "--share", share.argument(), stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), memory, *inherited],
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(memory)
        reader, line = await asyncio.open_unix_connection(sock=ours)
        member = Member(slot, process, line, reloads)
        self._members.add(member)
        self._totals.add(process.pid, numbers)
        member.watch = self._keep(self._watch(member, reader))
        if self._stopping.is_set():
            member.say("stop")
        return member

    async def _watch(self, member: Member, reader: asyncio.StreamReader) -> None:
        """Hear what a worker says, to its end."""
        impatient = asyncio.get_running_loop().call_later(START_WITHIN_S, self._kill_unready, member)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                said = loads(line)
                member.hear(said)
                if "ready" in said:
                    self._cover()
                    if member.reloads != self._reloads:  # it may have read the file before it was changed
                        self._keep(self._catch_up(member))
        impatient.cancel()
        status = await member.process.wait()
        self._totals.gone(member.process.pid)
        self._members.discard(member)
        member.close()
        self._meet_end(member, status)

    async def _catch_up(self, member: Member) -> None:
        await member.reload(self._reloads)

    def _kill_unready(self, member: Member) -> None:
        if member.stage is Stage.STARTING:
            member.process.kill()

    def _meet_end(self, member: Member, status: int) -> None:
        mourned = self._of_slot.get(member.slot) is member
        fields = member.fields | {"status": _told(status)}
        if self._stopping.is_set() or member.stage is Stage.RETIRING or not mourned:
            logger.info("worker ended", extra={"fields": fields})
            return
        del self._of_slot[member.slot]
        self._deaths.child().value += 1
        lived = asyncio.get_running_loop().time() - member.born
        if member.stage is Stage.READY and lived > MAX_BACKOFF_S:
            self._failed[member.slot] = 0
        pause = min(FIRST_BACKOFF_S * 2 ** self._failed[member.slot], MAX_BACKOFF_S)
        self._failed[member.slot] += 1
        logger.error("a worker died", extra={"fields": fields | {"new_one_in_s": pause}})
        if not self._ready() and min(self._failed.values()) >= MAX_FAILED_STARTS:
            logger.error("no worker can be started")
            self._status = max(status, 1)
            self._stopping.set()
            return
        self._cover()
        self._keep(self._replace(member.slot, pause))

    async def _replace(self, slot: int, pause: float) -> None:
        await asyncio.sleep(pause)
        if slot not in self._of_slot and not self._stopping.is_set():
            self._of_slot[slot] = await self._launch(slot)

    # --- all of them ------------------------------------------------------------------------------------------------

    async def _start(self) -> Mapping[str, Any] | None:
        """Start all; returns fields of the start line, None where there is nothing to be said.

        The first is alone: what is wrong with the configuration is said once, by it, and with its exit status.
        """
        first = await self._launch(0)
        stopped = asyncio.ensure_future(self._stopping.wait())
        either: list[asyncio.Future[Any]] = [first.ready, stopped]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if self._stopping.is_set():
            return None
        fields = first.ready.result()
        if fields is None:
            self._status = max(first.process.returncode or 1, 1)
            self._stopping.set()
            return None
        self._of_slot[0] = first
        for slot in range(1, self._config.workers):
            self._of_slot[slot] = await self._launch(slot)
        await asyncio.gather(*(member.ready for member in list(self._of_slot.values())))
        return fields

    async def _renew(self) -> None:
        logger.info("new workers take over", extra={"fields": {"workers": self._config.workers}})
        try:
            for slot in range(self._config.workers):
                member = await self._launch(slot)
                if await member.ready is None:
                    logger.error("a new worker cannot be started: the old ones go on")
                    return
                old = self._of_slot.get(slot)
                self._of_slot[slot] = member
                self._failed[slot] = 0
                if old is not None:
                    old.stage = Stage.RETIRING
                    old.say("retire")
                self._cover()
            if self._read is not None:  # what the new workers have read
                with contextlib.suppress(ConfigError):
                    fresh = await read_aside(self._read, set())
                    self._config = fresh.where(self._config)
                    self._admin_api.take_keys(admin_keys(self._config))
        finally:
            self._renewing = False
        logger.info("new workers have taken over", extra={"fields": {"retiring": self._count(Stage.RETIRING)}})

    def _cover(self) -> None:
        """Have the sockets of each slot served, by its own worker or, as long as there is none, by another."""
        ready = self._ready()
        for slot in range(self._config.workers):
            if any(member.slot == slot for member in ready):
                if slot in self._covers:
                    self._covers.pop(slot).say("release", slot=slot)
            elif ready and self._covers.get(slot) not in ready and not self._is_starting_first(slot):
                least = min(ready, key=list(self._covers.values()).count)
                self._covers[slot] = least
                least.say("adopt", slot=slot)

    def _is_starting_first(self, slot: int) -> bool:
        """Nobody has listened on a slot's sockets yet: nothing can wait there."""
        return not self._slots[slot][0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)

    async def _end(self) -> None:
        self._stopping.set()
        fields = {"live": self._totals.live, "deadline_s": self._config.drain_deadline}
        if self._members:
            logger.info("draining", extra={"fields": fields})
        self._tell_all("stop")
        give_up_at = asyncio.get_running_loop().time() + self._config.drain_deadline + END_WITHIN_S
        while self._members:
            left = give_up_at - asyncio.get_running_loop().time()
            watched = [member.watch for member in self._members if member.watch is not None]
            await asyncio.wait(watched, timeout=max(left, 0), return_when=asyncio.FIRST_COMPLETED)
            if left <= 0:
                self._kill_all()
        for task in self._tasks:
            task.cancel()
        logger.info("aibridge stopped")

    def _kill_all(self) -> None:
        give_up = "a worker does not end: it is killed"
        for member in self._members:
            if member.process.returncode is None:
                logger.error(give_up, extra={"fields": member.fields})
                with contextlib.suppress(ProcessLookupError):
                    member.process.kill()

    def _tell_all(self, do: str) -> None:
        for member in self._members:
            member.say(do)

    def _ready(self) -> list[Member]:
        return [member for member in self._members if member.stage is Stage.READY]

    def _count(self, stage: Stage) -> int:
        return sum(member.stage is stage for member in self._members)

    def _keep(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- the admin port ---------------------------------------------------------------------------------------------

    def _serve_admin(self, client: ClientStream) -> Coroutine[None, None, None] | None:
        if client.path not in admin.PATHS:
            return self._admin_api.handle(client)
        admin.answer(client, self._health, self._render)
        return None

    def _health(self) -> dict[str, Any]:
        ready = self._count(Stage.READY)
        return {
            "status": "draining" if self._stopping.is_set() else "ok" if ready else "starting",
            "version": __version__,
            "wire": IMPLEMENTATION,
            "modules": MODULES,
            "live": self._totals.live,
            "workers": {"wanted": self._config.workers, "ready": ready, "retiring": self._count(Stage.RETIRING)},
        }

    def _render(self) -> tuple[bytes, str]:
        for stage in Stage:
            self._workers.child(stage.name.lower()).value = self._count(stage)
        return self._totals.render((self._workers, self._deaths, *self._more))


def command() -> list[str]:
    """Return what this process was started with, to start it again from what is on the disk by then."""
    return [sys.executable, *sys.orig_argv[1:]]


def _told(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _start_fields(fields: Mapping[str, Any], config: Config, data_port: int, admin_port: int) -> dict[str, Any]:
    """Return a worker's fields, with what all have in common."""
    host = fields["data"].rpartition(":")[0]
    admin_url = f"http://{config.admin.host}:{admin_port}"
    return {**fields, "data": f"{host}:{data_port}", "admin": admin_url, "workers": config.workers}
