"""The admin API: which request is answered by whom, and whether it may be asked."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote

from aibridge import jsontext
from aibridge.adminapi import files, parameters, questions
from aibridge.adminapi.answers import NOT_STORED, send, send_json, send_problem
from aibridge.adminapi.asking import Opened, Store
from aibridge.adminapi.exporting import Exports
from aibridge.adminapi.figures import Snapshot, providers
from aibridge.adminapi.live import Live
from aibridge.adminapi.parameters import Arguments, Readers
from aibridge.adminapi.problems import Problem
from aibridge.adminapi.signin import AdminKey, SignIn
from aibridge.clientstream import ClientStream
from aibridge.credentials import bearer_of
from aibridge.errors import PayloadError, RequestRejected
from aibridge.stores.base import Query

API = "/api/"
DOCUMENT = Path(__file__).parent / "openapi.json"
"""Describes the API, as OpenAPI 3.1 has it."""
_MAX_BODY = 4096
_BODY_SECONDS = 10.0
_LOCATION = ((b"location", files.PREFIX.encode()), *NOT_STORED)
_ASKS_FOR_KEY = ((b"www-authenticate", b'Bearer realm="aibridge"'),)


class Request(NamedTuple):
    """One that may be answered."""

    client: ClientStream
    said: Arguments
    who: str


class Route(NamedTuple):
    """Who answers a method on a path. Parts of the path in braces are arguments; `readers` are of the query's.

    `ask` is answered from the store, else `answer` answers.
    """

    method: str
    path: str
    readers: Readers = MappingProxyType({})
    ask: Callable[[Query, Arguments], Any] | None = None
    answer: Callable[["AdminAPI", Request], Coroutine[None, None, None] | None] | None = None
    needs_key: bool = True


class AdminAPI:
    """Answers what is asked under `/api/`, and the dashboard's files. Built on a running event loop.

    Args:
        keys: that open it; without any it is off, and says how to turn it on.
        opened: opens the store for reading only; None where records are off.
        snapshot: asks the metrics.
        https: whether browsers come by HTTPS.
    """

    def __init__(
        self, keys: Sequence[AdminKey], opened: Opened | None, snapshot: Snapshot, *, https: bool = False
    ) -> None:
        self.sign_in = SignIn(keys, https=https)
        self.store = Store(opened)
        self.snapshot = snapshot
        self.live = Live(Store(opened, threads=1), snapshot)
        self.exports = Exports(self.store)
        self._files = files.load()
        self.document = DOCUMENT.read_bytes()

    def handle(self, client: ClientStream) -> Coroutine[None, None, None] | None:
        """Answer a request; what needs waiting is returned."""
        try:
            if not self.sign_in.keys:
                raise _off()
            return self._handle(client)
        except Problem as problem:
            _refuse(client, problem)
            return None

    def take_keys(self, keys: Sequence[AdminKey]) -> None:
        """Let in by other keys from now on: a session ends with the key that it began with."""
        self.sign_in.keys = tuple(keys)

    def close(self) -> None:
        """End what is under way."""
        self.live.close()
        self.store.close()

    def _handle(self, client: ClientStream) -> Coroutine[None, None, None] | None:
        if client.path.startswith(API):
            return self._serve_api(client)
        if client.method not in {"GET", "HEAD"}:
            raise _not_allowed("GET, HEAD")
        if client.path.startswith(files.PREFIX):
            files.serve(client, self._files)
        elif client.path in {"/", files.PREFIX[:-1]}:
            send(client, 302, _LOCATION, b"")
        else:
            raise _unknown()
        return None

    def _serve_api(self, client: ClientStream) -> Coroutine[None, None, None] | None:
        route, values = _find(client.method, client.path)
        who = self._who(client, route)
        said = parameters.read(client.query, route.readers, time.time())
        request = Request(client, {**said, **values}, who)
        if route.ask is not None:
            return _guarded(client, self._ask(request, route.ask))
        answer = None if route.answer is None else route.answer(self, request)
        return None if answer is None else _guarded(client, answer)

    def _who(self, client: ClientStream, route: Route) -> str:
        """Return who asks; nobody where the route lets everybody in. A wrong key is refused beside a session too."""
        if not route.needs_key:
            return ""
        if key := bearer_of(client.header(b"authorization")):
            who = self.sign_in.by_key(key, client.peer)
            if who is None:
                raise _no_key()
            return who
        who = self.sign_in.by_cookie(client.headers, time.time())
        if who is None:
            raise _no_key()
        if client.method != "GET" and not _is_meant(client):
            raise _no_header("with a session")
        return who

    async def _ask(self, request: Request, ask: Callable[[Query, Arguments], Any]) -> None:
        client, said = request.client, request.said
        body = await self.store.ask(lambda query: jsontext.dumps(ask(query, said)), lambda: client.lost)
        send_json(client, body)


async def _guarded(client: ClientStream, answer: Coroutine[None, None, None]) -> None:
    try:
        await answer
    except Problem as problem:
        _refuse(client, problem)


def _refuse(client: ClientStream, problem: Problem) -> None:
    if not client.started:
        send_problem(client, problem)
    elif not client.ended:
        client.abort()


# Each is made anew: one that is raised again and again keeps the frames of each time.


def _off() -> Problem:
    return Problem(
        404,
        "off",
        "admin API and dashboard are off: they need a key in admin.keys (without a file AIBRIDGE_ADMIN_KEYS=name:key)",
    )


def _unknown() -> Problem:
    return Problem(404, "not_found", "there is no such page; GET /api/v1/openapi.json lists those that are")


def _no_key() -> Problem:
    detail = "an admin key is needed, as Authorization: Bearer, or a session of POST /api/v1/login"
    return Problem(401, "no_key", detail, headers=_ASKS_FOR_KEY)


def _no_header(when: str) -> Problem:
    return Problem(403, "no_csrf_header", f"{when} this needs the header x-aibridge-csrf: 1")


def _is_meant(client: ClientStream) -> bool:
    """Whether a request has the header that no page of another site can send."""
    return client.header(b"x-aibridge-csrf") == b"1"


def _is_of_a_page(client: ClientStream) -> bool:
    """Whether a browser says which page sends a request; programs say nothing of that."""
    return client.header(b"origin") is not None or client.header(b"sec-fetch-site") is not None


def _not_allowed(methods: str) -> Problem:
    return Problem(405, "method_not_allowed", f"this takes {methods} alone", headers=((b"allow", methods.encode()),))


def _find(method: str, path: str) -> tuple[Route, Mapping[str, str]]:
    """Return the route of a request, and the values in its path. Raises `Problem` where there is none."""
    parts = path.split("/")
    allowed: list[str] = []
    for route in ROUTES:
        values = _matched(route.path.split("/"), parts)
        if values is not None and route.method == method:
            return route, values
        if values is not None:
            allowed.append(route.method)
    if allowed:
        raise _not_allowed(", ".join(allowed))
    raise _unknown()


def _matched(pattern: Sequence[str], parts: Sequence[str]) -> Mapping[str, str] | None:
    if len(pattern) != len(parts):
        return None
    values = {}
    for expected, part in zip(pattern, parts, strict=True):
        if expected.startswith("{"):
            value = unquote(part, errors="replace")
            if not 0 < len(value) <= parameters.MAX_TEXT:
                return None
            values[expected.strip("{}")] = value
        elif expected != part:
            return None
    return values


# --- the endpoints that ask no store --------------------------------------------------------------------------------


async def _log_in(api: AdminAPI, request: Request) -> None:
    client = request.client
    if _is_of_a_page(client) and not _is_meant(client):  # else any site could log its visitor in, as whom it likes
        raise _no_header("from a page")
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            await client.wait_for_body(_MAX_BODY)
        body = jsontext.loads(client.body(_MAX_BODY))
    except TimeoutError:
        client.reusable = False
        raise Problem(408, "no_body", "the body did not come in time") from None
    except RequestRejected as error:
        raise Problem(error.status, error.reason, error.message) from None
    except PayloadError:
        raise _bad_login() from None
    key = body.get("key") if isinstance(body, dict) else None
    if not isinstance(key, str):
        raise _bad_login()
    name = api.sign_in.by_key(key, client.peer)
    if name is None:
        raise Problem(401, "wrong_key", "this is no admin key", headers=_ASKS_FOR_KEY)
    api.sign_in.end(client.headers, time.time())  # the new session takes the place of the old one
    send_json(client, jsontext.dumps({"name": name}), api.sign_in.start(name, time.time()))


def _bad_login() -> Problem:
    return Problem(400, "bad_body", 'the body should be {"key": "…"}')


def _log_out(api: AdminAPI, request: Request) -> None:
    cookie = api.sign_in.end(request.client.headers, time.time())
    send(request.client, 204, (*NOT_STORED, *cookie), b"")


def _session(_: AdminAPI, request: Request) -> None:
    send_json(request.client, jsontext.dumps({"name": request.who}))


def _providers(api: AdminAPI, request: Request) -> None:
    send_json(request.client, jsontext.dumps(providers(api.snapshot)))


def _export(api: AdminAPI, request: Request) -> Coroutine[None, None, None]:
    return api.exports.answer(request.client, request.said)


def _openapi(api: AdminAPI, request: Request) -> None:
    send_json(request.client, api.document)


def _live(api: AdminAPI, request: Request) -> Coroutine[None, None, None]:
    client = request.client
    if key := bearer_of(client.header(b"authorization")):
        return api.live.answer(client, lambda: api.sign_in.is_key(key))
    return api.live.answer(client, lambda: api.sign_in.by_cookie(client.headers, time.time()) is not None)


ROUTES = (
    Route("POST", "/api/v1/login", answer=_log_in, needs_key=False),
    Route("POST", "/api/v1/logout", answer=_log_out),
    Route("GET", "/api/v1/session", answer=_session),
    Route("GET", "/api/v1/interceptions", parameters.INTERCEPTIONS, ask=questions.interceptions),
    Route("GET", "/api/v1/interceptions/{id}", ask=questions.interception),
    Route("GET", "/api/v1/sessions", parameters.SESSIONS, ask=questions.sessions),
    Route("GET", "/api/v1/sessions/{session}", parameters.SESSION, ask=questions.session),
    Route("GET", "/api/v1/outcomes", parameters.OUTCOMES, ask=questions.outcomes),
    Route("GET", "/api/v1/latency", parameters.LATENCY, ask=questions.latency),
    Route("GET", "/api/v1/usage", parameters.USAGE, ask=questions.usage),
    Route("GET", "/api/v1/facets", parameters.FACETS, ask=questions.facets),
    Route("GET", "/api/v1/providers", answer=_providers),
    Route("GET", "/api/v1/live", answer=_live),
    Route("GET", "/api/v1/export", parameters.EXPORT, answer=_export),
    Route("GET", "/api/v1/openapi.json", answer=_openapi),
)
