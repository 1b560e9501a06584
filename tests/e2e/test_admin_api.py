"""The admin API over real sockets: who is let in, and what is answered of real records."""

import asyncio
import csv
import io
import json
import os
import re
import sys
from pathlib import Path

import pytest
from record_kit import records_in
from waiting_kit import until

from aibridge.adminapi import exporting
from aibridge.adminapi.room import DOCUMENT as DOCUMENT_FILE
from aibridge.adminapi.room import ROUTES
from aibridge.lifecycle import Cause, Termination
from aibridge.stores.browsing import Place
from aibridge.stores.ledger import GROUPS
from aibridge.stores.recorded import ROW
from aibridge.stores.summaries import BUCKETS

KEY = "an-admin-key-of-tests"
CODE = [("user-agent", "claude-cli/2.0.1 (external, cli)")]
BEARER = [("authorization", f"Bearer {KEY}")]


@pytest.fixture
def get(new_client):
    """Return a function that asks the admin port once: a path, and what else of it."""

    async def get_once(house, path, *, method="GET", headers=BEARER, body=b""):
        async with new_client(house.app.admin_port) as client:
            await client.ask(path, body, method=method, headers=headers)
            return await client.answer(method)

    return get_once


@pytest.fixture
async def admin(build_house):
    async with build_house(admin={"host": "127.0.0.1", "port": 0, "keys": [{"name": "ann", "key": KEY}]}) as house:
        yield house


async def test_a_session_begins_with_a_key_and_ends_with_a_logout(admin, get):
    refused = await get(admin, "/api/v1/session", headers=[])
    assert (refused.status, refused.headers["content-type"]) == (401, "application/problem+json")
    wrong = await get(admin, "/api/v1/login", method="POST", headers=[], body={"key": KEY + "x"})
    assert wrong.status == 401
    answer = await get(admin, "/api/v1/login", method="POST", headers=[], body={"key": KEY})
    assert (answer.status, json.loads(answer.body)) == (200, {"name": "ann"})
    cookie, _, terms = answer.headers["set-cookie"].partition("; ")
    assert {"HttpOnly", "SameSite=Strict", "Max-Age=43200"} <= set(terms.split("; "))
    session = [("cookie", f"other=1; {cookie}")]
    assert json.loads((await get(admin, "/api/v1/session", headers=session)).body) == {"name": "ann"}
    beside = [*session, ("authorization", "Bearer another-key-of-tests")]
    assert (await get(admin, "/api/v1/session", headers=beside)).status == 401
    forged = [("cookie", cookie.replace("ann|", "bob|"))]
    assert (await get(admin, "/api/v1/session", headers=forged)).status == 401
    without = await get(admin, "/api/v1/logout", method="POST", headers=session)
    assert (without.status, json.loads(without.body)["type"]) == (403, "urn:aibridge:problem:no_csrf_header")
    out = await get(admin, "/api/v1/logout", method="POST", headers=[*session, ("x-aibridge-csrf", "1")])
    assert (out.status, "Max-Age=0" in out.headers["set-cookie"]) == (204, True)
    assert (await get(admin, "/api/v1/session", headers=session)).status == 401
    assert (await get(admin, "/api/v1/session")).status == 200


async def test_a_login_takes_the_place_of_the_one_before(admin, get):
    async def log_in(*headers):
        answer = await get(admin, "/api/v1/login", method="POST", headers=headers, body={"key": KEY})
        assert answer.status == 200
        return ("cookie", answer.headers["set-cookie"].partition(";")[0])

    first = await log_in()
    second = await log_in(first)
    assert (await get(admin, "/api/v1/session", headers=[first])).status == 401
    assert (await get(admin, "/api/v1/session", headers=[second])).status == 200


@pytest.mark.parametrize("says", [("origin", "https://elsewhere.example"), ("sec-fetch-site", "cross-site")])
async def test_no_page_of_another_site_logs_its_visitor_in(admin, get, says):
    refused = await get(admin, "/api/v1/login", method="POST", headers=[says], body={"key": KEY})
    assert (refused.status, json.loads(refused.body)["type"]) == (403, "urn:aibridge:problem:no_csrf_header")
    assert "set-cookie" not in refused.headers
    ours = [says, ("x-aibridge-csrf", "1")]  # which a browser lets no other site's page send
    assert (await get(admin, "/api/v1/login", method="POST", headers=ours, body={"key": KEY})).status == 200


async def test_guessing_is_slowed_and_sessions_go_on(admin, get):
    login = await get(admin, "/api/v1/login", method="POST", headers=[], body={"key": KEY})
    session = [("cookie", login.headers["set-cookie"].partition(";")[0])]
    statuses = []
    for number in range(12):
        wrong = [("authorization", f"Bearer guess-{number}-of-an-enemy")]
        statuses.append((await get(admin, "/api/v1/session", headers=wrong)).status)
    assert statuses == [401] * 10 + [429] * 2
    held_up = await get(admin, "/api/v1/login", method="POST", headers=[], body={"key": KEY})
    assert (held_up.status, 1 <= int(held_up.headers["retry-after"]) <= 6) == (429, True)
    assert (await get(admin, "/api/v1/session", headers=session)).status == 200


async def test_where_a_proxy_has_tls_the_cookie_is_for_https_alone(build_house, get):
    behind = {"host": "127.0.0.1", "port": 0, "https": True, "keys": [{"name": "ann", "key": KEY}]}
    async with build_house(admin=behind) as house:
        answer = await get(house, "/api/v1/login", method="POST", headers=[], body={"key": KEY})
        cookie, *terms = answer.headers["set-cookie"].split("; ")
        assert "Secure" in terms
        assert cookie.startswith("__Host-")
        assert (await get(house, "/api/v1/session", headers=[("cookie", cookie)])).status == 200


async def test_what_a_session_follows_ends_with_its_logout(admin, get, new_client):
    answer = await get(admin, "/api/v1/login", method="POST", headers=[], body={"key": KEY})
    session = [("cookie", answer.headers["set-cookie"].partition(";")[0])]
    async with new_client(admin.app.admin_port) as client:
        await client.ask("/api/v1/live", b"", method="GET", headers=session)
        await client.read_until(b"event: stats")
        out = await get(admin, "/api/v1/logout", method="POST", headers=[*session, ("x-aibridge-csrf", "1")])
        assert out.status == 204
        await client.read_until(b"0\r\n\r\n")


async def test_who_listens_is_let_go_with_the_key(admin, new_client):
    async with new_client(admin.app.admin_port) as client:
        await client.ask("/api/v1/live", b"", method="GET", headers=BEARER)
        await client.read_until(b"event: stats")
        admin.app._admin_api.take_keys(())
        await client.read_until(b"0\r\n\r\n")


async def test_without_keys_it_says_how_to_turn_it_on(house, get):
    for path in ("/", "/dashboard/", "/api/v1/session", "/elsewhere"):
        answer = await get(house, path)
        assert answer.status == 404
        assert "admin.keys" in json.loads(answer.body)["detail"]
    assert (await get(house, "/healthz", headers=[])).status == 200
    assert (await get(house, "/metrics", headers=[])).status == 200


async def test_pages_lead_through_all_interceptions(admin, get, ask):
    for fault in ("", "", "cut@200", "", "status:529"):
        await ask(admin, "anthropic", fault)
    await admin.outcomes.wait(ended=5)
    assert await asyncio.to_thread(admin.app.recorder.flush)
    seen, cursor = [], ""
    while cursor is not None:
        answer = await get(admin, f"/api/v1/interceptions?limit=2{cursor and '&cursor=' + cursor}")
        assert answer.status == 200, answer.body
        page = json.loads(answer.body)
        assert len(page["items"]) <= 2
        seen += page["items"]
        cursor = page["next"]
    assert [row["id"] for row in seen] == admin.outcomes.opened_ids[::-1]
    assert [row["termination"] for row in seen].count("upstream_error") == 2
    row = seen[-1]
    assert (row["provider"], row["answered_by"], row["streaming"]) == ("anthropic", "anthropic", True)
    whole = json.loads((await get(admin, f"/api/v1/interceptions/{row['id']}")).body)
    assert row.items() <= whole.items()
    assert whole["terminal_event_seen"] is True
    assert [attempt["number"] for attempt in whole["attempts"]] == [1]
    assert whole["usage"]["input_tokens"] == row["input_tokens"] > 0
    failed = json.loads((await get(admin, "/api/v1/interceptions?termination=upstream_error")).body)["items"]
    assert [one["id"] for one in failed] == [one["id"] for one in seen if one["termination"] == "upstream_error"]
    facets = json.loads((await get(admin, "/api/v1/facets?since=1h")).body)
    assert facets["terminations"] == ["completed", "upstream_error"]
    assert facets["providers"] == ["anthropic"]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=5&limit=6", "limit"),
        ("cursor=AAAA", "cursor"),
        ("since=yesterday", "since"),
        ("until=1e300", "until"),
        ("termination=Completed", "termination"),
        ("running=1", "running"),
        ("provider=", "provider"),
        ("modell=x", "modell"),
        ("actor=" + "a" * 1025, "actor"),
    ],
)
async def test_what_is_wrong_with_a_query_is_said(admin, get, query, name):
    answer = await get(admin, f"/api/v1/interceptions?{query}")
    problem = json.loads(answer.body)
    assert (answer.status, problem["errors"][0]["parameter"]) == (400, name)


async def test_live_tells_numbers_and_ends(admin, new_client, ask):
    async with new_client(admin.app.admin_port) as client:
        await client.ask("/api/v1/live", b"", method="GET", headers=BEARER)
        await client.read_until(b"event: stats")
        await ask(admin, "anthropic", "")
        await ask(admin, "anthropic", "status:529")
        await client.read_until(b"event: ended")
        await client.read_until(b'"cause":"http_status"')
        await client.read_until(b'"ended":2')


async def test_the_dashboards_files_are_strict(admin, get):
    assert (await get(admin, "/", headers=[])).headers["location"] == "/dashboard/"
    page = await get(admin, "/dashboard/", headers=[])
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    again = await get(admin, "/dashboard/", headers=[("if-none-match", page.headers["etag"])])
    assert (again.status, again.body) == (304, b"")
    for path in ("/dashboard/../room.py", "/dashboard/%2e%2e/room.py", "/dashboard/no.js", "/dashboard//etc/passwd"):
        assert (await get(admin, path, headers=[])).status == 404


async def test_sessions_sums_and_quantiles_are_those_of_the_records(admin, get, ask):
    for session in ("one", "one", "two"):
        await ask(admin, "anthropic", headers=[*CODE, ("x-claude-code-session-id", session)])
    await ask(admin, "anthropic", "status:529", headers=[*CODE, ("x-claude-code-session-id", "two")])
    await admin.outcomes.wait(ended=4)
    assert await asyncio.to_thread(admin.app.recorder.flush)

    async def told(path):
        answer = await get(admin, path)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    page = await told("/api/v1/sessions?limit=1")
    behind = await told(f"/api/v1/sessions?limit=1&cursor={page['next']}")
    sessions = page["items"] + behind["items"]
    assert [(one["session"], one["interceptions"]) for one in sessions] == [("two", 2), ("one", 2)]
    assert behind["next"] is None
    assert await told("/api/v1/sessions/one") == sessions[1]
    assert (await get(admin, "/api/v1/sessions/three")).status == 404
    ended = (await told("/api/v1/outcomes?bucket=day"))["items"]
    counts = {}
    for item in ended:
        counts[item["cause"]] = counts.get(item["cause"], 0) + item["count"]
    assert counts == {"clean": 3, "http_status": 1}
    latency = await told("/api/v1/latency?by=provider")
    (item,) = latency["items"]
    assert (item["name"], item["count"], latency["sampled"]) == ("anthropic", 3, False)
    assert 0 < item["time_to_first_event"]["p50"] <= item["duration"]["p99"]
    durations = sorted(outcome.duration for _, outcome in admin.outcomes.ended if outcome.cause == "clean")
    assert item["duration"] == {"p50": durations[1], "p90": durations[2], "p99": durations[2]}
    usage = await told("/api/v1/usage?by=provider")
    assert [(row["provider"], row["requests"], row["completed"]) for row in usage["items"]] == [("anthropic", 4, 3)]
    assert [row["requests"] for row in (await told("/api/v1/interceptions?session=two")) and usage["items"]] == [4]
    providers = await told("/api/v1/providers")
    assert providers["providers"] == [
        {"provider": "anthropic", "started": 4, "inflight": 0, "completed": 3, "failed": 1, "client_gone": 0}
    ]


async def test_an_export_is_what_the_filters_name(admin, get, ask):
    for fault in ("", "status:529"):
        await ask(admin, "anthropic", fault, model="=cmd()")
    await admin.outcomes.wait(ended=2)
    assert await asyncio.to_thread(admin.app.recorder.flush)
    told = [json.loads(line) for line in (await get(admin, "/api/v1/export")).body.splitlines()]
    assert [row["id"] for row in told] == admin.outcomes.opened_ids
    assert len(told[0]["attempts"]) == 1
    alone = [json.loads((await get(admin, f"/api/v1/interceptions/{row['id']}")).body) for row in told]
    assert told == alone == records_in(admin.records)
    answer = await get(admin, "/api/v1/export?format=csv&cause=http_status")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.DictReader(io.StringIO(answer.body.decode()))
    assert (row["id"], row["streaming"], row["model"]) == (admin.outcomes.opened_ids[1], "true", "'=cmd()")


@pytest.mark.parametrize(
    "model", ["=1+1", "+1", "-1", "@a", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20a", " =1", "\u00a0=1"]
)
async def test_what_a_spreadsheet_would_run_is_text_in_an_export(admin, get, ask, model):
    await ask(admin, "anthropic", model=model)
    await admin.outcomes.wait(ended=1)
    assert await asyncio.to_thread(admin.app.recorder.flush)
    (row,) = csv.DictReader(io.StringIO((await get(admin, "/api/v1/export?format=csv")).body.decode()))
    assert row["model"] == f"'{model}"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a;=1+1", "a;'=1+1"),
        ("a; @b;c", "a;' @b;c"),
        ("a\n=1", "a\n'=1"),
        ("a\tb; c-d\n\ne=f", "a\tb; c-d\n\ne=f"),
        ("\tx", "'\tx"),
    ],
)
def test_where_lists_have_semicolons_no_piece_of_a_text_is_run(text, cell):
    assert exporting._cell(text) == cell


DOCUMENT = json.loads(DOCUMENT_FILE.read_bytes())


def operations():
    for path, item in DOCUMENT["paths"].items():
        for method in item.keys() - {"parameters"}:
            yield (method.upper(), path), item[method]


def test_the_document_has_the_routes():
    described = {
        route: {one.get("name") or one["$ref"].rpartition("/")[2] for one in operation.get("parameters", ())}
        for route, operation in operations()
    }
    assert described == {(route.method, route.path): set(route.readers) for route in ROUTES}
    needs_no_key = {route for route, operation in operations() if operation.get("security") == []}
    assert needs_no_key == {(route.method, route.path) for route in ROUTES if not route.needs_key}


def test_the_document_has_the_words_and_the_columns():
    parameters = DOCUMENT["components"]["parameters"]
    assert parameters["termination"]["schema"]["enum"] == [one.value for one in Termination]
    assert parameters["cause"]["schema"]["enum"] == [one.value for one in Cause]
    assert parameters["bucket"]["schema"]["enum"] == list(BUCKETS)
    assert list(DOCUMENT["components"]["schemas"]["Row"]["properties"]) == list(ROW)
    by = {one["name"]: one for one in DOCUMENT["paths"]["/api/v1/usage"]["get"]["parameters"] if "name" in one}["by"]
    assert by["schema"]["items"]["enum"] == list(GROUPS)


async def test_answers_are_as_the_document_says(admin, get, ask, tmp_path):
    """Schemathesis makes requests of the document, good ones and broken ones, and compares the answers with it."""
    for api in ("anthropic", "bedrock", "chat", "responses"):
        await ask(admin, api, headers=[*CODE, ("x-claude-code-session-id", "one")])
        await ask(admin, api, "status:529")
    await ask(admin, "anthropic", tools=[{"name": "look", "description": "x", "input_schema": {"type": "object"}}])
    await admin.outcomes.wait(ended=9)
    assert await asyncio.to_thread(admin.app.recorder.flush)
    pages = {name: await get(admin, f"/api/v1/{name}?limit=1") for name in ("interceptions", "sessions")}
    ends = {name: json.loads(page.body)["next"] for name, page in pages.items()}
    hooks = tmp_path / "hooks.py"
    hooks.write_text(
        "import schemathesis\nfrom hypothesis import strategies as st\n"
        f"schemathesis.openapi.format('cursor', st.just({ends['interceptions']!r}))\n"
        f"schemathesis.openapi.format('session-cursor', st.just({ends['sessions']!r}))\n"
    )
    served = json.loads((await get(admin, "/api/v1/openapi.json")).body)
    assert served == DOCUMENT
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", str(DOCUMENT_FILE),
        "--url", f"http://127.0.0.1:{admin.app.admin_port}", "--header", f"Authorization: Bearer {KEY}",
        "--exclude-path", "/api/v1/live", "--phases", "examples,coverage,fuzzing", "--max-examples", "5",
        "--generation-deterministic", "--no-color",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path), "NO_PROXY": "*"},
    )  # fmt: skip
    said, _ = await command.communicate()
    assert command.returncode == 0, said.decode()


async def test_where_records_are_off_it_says_so_and_tells_what_it_knows(build_house, get, new_client, ask):
    off = {"enabled": False}
    async with build_house(admin={"keys": [{"name": "ann", "key": KEY}]}, records=off) as house:
        for route in ROUTES:
            if route.ask is not None or route.path == "/api/v1/export":
                answer = await get(house, route.path)
                assert (answer.status, json.loads(answer.body)["type"]) == (503, "urn:aibridge:problem:records_off")
        await ask(house, "anthropic")
        (provider,) = json.loads((await get(house, "/api/v1/providers")).body)["providers"]
        assert (provider["provider"], provider["completed"]) == ("anthropic", 1)
        async with new_client(house.app.admin_port) as client:
            await client.ask("/api/v1/live", b"", method="GET", headers=BEARER)
            await client.read_until(b'"ended":1')
            await client.read_until(b'event: problem\ndata: {"code":"records_off"')


async def test_what_a_path_does_not_take_is_said(admin, get):
    answer = await get(admin, "/api/v1/interceptions", method="DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, "GET")
    assert (await get(admin, "/dashboard/", method="POST")).headers["allow"] == "GET, HEAD"
    assert (await get(admin, "/api/v1/nothing")).status == 404
    assert (await get(admin, "/api/v2/session")).status == 404
    for body in (b"", b"{", b"[]", b'{"key":1}'):
        assert (await get(admin, "/api/v1/login", method="POST", headers=[], body=body)).status == 400
    assert (await get(admin, "/api/v1/login", method="POST", headers=[], body=b"x" * 5000)).status == 413


async def test_an_export_goes_no_faster_than_its_client_and_ends_with_it(admin, new_client, ask, monkeypatch):
    monkeypatch.setitem(exporting._ROWS, "jsonl", 1)
    for _ in range(2):
        await ask(admin, "anthropic")
    await admin.outcomes.wait(ended=2)
    assert await asyncio.to_thread(admin.app.recorder.flush)
    exports, asked = admin.app._admin_api.exports, 0

    def endless(query, asked_for, after, limit, *, in_full):  # noqa: ARG001 - as it is called
        nonlocal asked
        asked += 1
        return [{"text": "x" * 100_000}], Place(1.0, "1")

    monkeypatch.setattr(exporting.browsing, "exported", endless)
    async with new_client(admin.app.admin_port, receive_buffer=4096) as client:
        await client.ask("/api/v1/export", b"", method="GET", headers=BEARER)
        await client.read_until(b"xxxx")
        before = -1
        while before != asked:  # until the buffers between are full, and it waits
            before = asked
            await asyncio.sleep(0.3)
        assert asked < 200
        assert exports._under_way == 1
    await until(lambda: not exports._under_way)


async def test_the_lines_of_the_page_work(admin, ask, tmp_path):
    await ask(admin, "anthropic")
    await admin.outcomes.wait(ended=1)
    assert await asyncio.to_thread(admin.app.recorder.flush)
    page = (Path(__file__).parents[2] / "docs" / "admin.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) > 5
    environment = {**os.environ, "ADMIN": f"http://127.0.0.1:{admin.app.admin_port}", "KEY": KEY, "NO_PROXY": "*"}
    for line in lines:
        command = await asyncio.create_subprocess_shell(
            line, cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        said, complaints = await command.communicate()
        assert command.returncode == 0, (line, complaints)
        if "/interceptions?" in line:
            assert json.loads(said) == {"items": [], "next": None}  # none has failed
        if "/outcomes?" in line:
            assert json.loads(said)["items"][0]["count"] == 1
    (row,) = csv.DictReader((tmp_path / "interceptions.csv").read_text().splitlines())
    assert row["termination"] == "completed"
