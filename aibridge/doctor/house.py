"""The gateway's own house: configuration, prices, gateway keys, records, folders and ports."""

import asyncio
import errno
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from aibridge import pricefile
from aibridge.config import AuthMode, Config
from aibridge.credentials import hint
from aibridge.doctor.asking import ask
from aibridge.doctor.values import Finding, State
from aibridge.errors import AibridgeError, UpstreamFailure
from aibridge.journal import is_live, journal_folder, names_in
from aibridge.stores.base import StoreRefused
from aibridge.stores.keys import KeyStore
from aibridge.stores.sqlite import querying
from aibridge.upstream import Origin, Pool, PoolSettings
from aibridge.values import Credential, CredentialKind, UpstreamRequest

_LITTLE_ROOM = 1024**3
"""Bytes free on a disk, below which it is told."""


def look(config: Config, source: str) -> Iterator[Finding]:
    """Look through the house, but for its ports.

    Args:
        config: the configuration.
        source: where it comes from.
    """
    providers = ", ".join(sorted(config.providers))
    yield Finding("", "configuration", State.OK, f"{source}: providers {providers}")
    for note in config.notes:
        yield Finding("", "configuration", State.NOTE, note)
    yield _prices(config)
    yield from _gateway_keys(config)
    if config.records.enabled:
        yield _store(config.records.path)
        yield _folder("journal", journal_folder(config.records.path), _journals(journal_folder(config.records.path)))
    else:
        yield Finding("", "store", State.NOTE, "records are off: nobody will know how streams ended", "records.enabled")
    if config.dump.path is not None:
        yield _folder("dump", config.dump.path, "the API dump")


def _prices(config: Config) -> Finding:
    try:
        catalogue = pricefile.load(config.prices.path)
    except AibridgeError as error:
        return Finding(
            "", "prices", State.FAILED, str(error), "correct it; `aibridge prices check FILE` tells all mistakes"
        )
    return Finding("", "prices", State.OK, catalogue.version)


def _gateway_keys(config: Config) -> Iterator[Finding]:
    auth = config.auth
    mode = auth.effective_mode
    if mode is not AuthMode.KEYS:
        yield Finding("", "gateway keys", State.OK, f"mode {mode}: no gateway keys are asked for")
        return
    if auth.keys:
        shown = ", ".join(f"{key.name} ({hint(key.clear) if key.clear else 'a hash'})" for key in auth.keys)
        yield Finding("", "gateway keys", State.OK, f"in the configuration: {shown}")
    if auth.jwt is not None:
        detail = f"tokens of {auth.jwt.issuer}: whether its keys can be fetched is in the log of the start"
        yield Finding("", "gateway keys", State.SKIPPED, detail)
    if auth.key_store is not None:
        yield _key_store(auth.key_store.path, alone=not auth.keys and auth.jwt is None)


def _key_store(path: Path, *, alone: bool) -> Finding:
    make = f"aibridge keys create --owner NAME --store {path}"
    if not path.exists():
        state = State.FAILED if alone else State.NOTE
        return Finding("", "key store", state, f"{path} is not there yet: it opens to nobody", make)
    try:
        secrets = KeyStore(path).secrets()
    except AibridgeError as error:
        return Finding(
            "", "key store", State.FAILED, str(error), "name another file in auth.key_store, or mend this one"
        )
    now = time.time()
    good = {
        one.key_id for one in secrets if one.revoked_at is None and (one.expires_at is None or one.expires_at > now)
    }
    known = {one.key_id for one in secrets}
    detail = f"{path}: {len(good)} of {len(known)} keys are good"
    if not good and alone:
        return Finding("", "key store", State.FAILED, f"{detail}: nobody can get in", make)
    return Finding("", "key store", State.OK, detail)


def _store(path: Path) -> Finding:
    if not path.exists():
        return _folder("store", path.parent, f"{path} will be made at the start")
    try:
        with querying(path) as query:
            newest = query("SELECT max(started_at) AS at FROM interceptions", ())[0]["at"]
    except StoreRefused as error:
        text = "the start of a gateway brings an older store to this version; a newer one needs the newer program"
        return Finding("", "store", State.FAILED, str(error), text)
    except AibridgeError as error:
        return Finding(
            "", "store", State.FAILED, str(error), "may this user read the file? does another program lock it?"
        )
    last = "no record yet" if newest is None else f"last record {(time.time() - newest) / 60:.0f} minutes ago"
    return _folder("store", path.parent, f"{path}: {last}")


def _journals(folder: Path) -> str:
    names = names_in(folder)
    live = sum(is_live(folder, name) for name in names)
    left = len(names) - live
    said = f"{folder}: of {live} running processes"
    return f"{said}; {left} of processes that are gone, which the next start brings into the store" if left else said


def _folder(check: str, folder: Path, detail: str) -> Finding:
    """Try to write where a folder is, or will be made, and see how much room there is."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"aibridge")
    except OSError as error:
        text = f"let this user write to {there}, or name another place"
        return Finding("", check, State.FAILED, f"{there} cannot be written to: {error.strerror}", text)
    free = shutil.disk_usage(there).free
    if free < _LITTLE_ROOM:
        return Finding("", check, State.NOTE, f"{detail}; {free // 1024**2} MB are left on the disk", "make room")
    return Finding("", check, State.OK, detail)


async def look_at_ports(config: Config) -> AsyncIterator[Finding]:
    """See whether the two ports are free, or held by a gateway that runs."""
    admin = f"http://{_reachable(config.admin.host)}:{config.admin.port}"
    running = config.admin.port != 0 and await _is_gateway(admin)
    for name, host, port in (
        ("data port", config.listen.host, config.listen.port),
        ("admin port", config.admin.host, config.admin.port),
    ):
        yield await _port(name, host, port, running=running)


async def _port(name: str, host: str, port: int, *, running: bool) -> Finding:
    where = f"{host}:{port}"
    try:
        listening = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and running:
            return Finding("", name, State.OK, f"{where} is held by a gateway that runs")
        if error.errno == errno.EADDRINUSE:
            text = f"stop the program that has it (`ss -ltnp 'sport = :{port}'` names it), or choose another port"
            return Finding("", name, State.FAILED, f"{where} is in use by another program", text)
        text = "ports below 1024 need a privilege; and the address must be one of this machine"
        return Finding("", name, State.FAILED, f"{where}: {error.strerror or error}", text)
    listening.close()
    await listening.wait_closed()
    return Finding("", name, State.OK, f"{where} is free")


async def _is_gateway(url: str) -> bool:
    pool = Pool(PoolSettings(proxy_from_environment=False))
    headers = ((b"host", Origin.of(url).authority.encode()), (b"connection", b"close"))
    request = UpstreamRequest("GET", url, "/metrics", headers, b"", Credential(CredentialKind.CENTRALIZED, ""))
    try:
        heard = await ask(pool, request, 2.0)
    except UpstreamFailure:
        return False
    finally:
        pool.close()
    return b"aibridge_build_info" in heard.body


def _reachable(host: str) -> str:
    """Return an address at which a listener of all addresses can be reached."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host
