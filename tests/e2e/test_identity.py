"""Who asks, and whose credential goes upstream: every mode over real sockets, as client and upstream see it."""

import asyncio
import hashlib
import json
import socket

import pytest

BOTH = ("anthropic", "bedrock")
VERSION = ("anthropic-version", "2023-06-01")
OWN_KEY = "sk-ant-clients-own-key"
KEYS = {
    "keys": [
        {"name": "ann", "key": "gateway-key-of-ann"},
        {"name": "bob", "key": "sha256:" + hashlib.sha256(b"gateway-key-of-bob").hexdigest()},
    ]
}
PROXY = {"mode": "header", "header": {"id": "X-User", "name": "X-Name", "networks": ["127.0.0.0/8"]}}
NO_PROXY = {"mode": "header", "header": {"id": "X-User", "networks": ["192.0.2.0/24", "fd00::/8"]}}
BEARER_ONLY = {
    "bedrock": {"access_key_id": None, "secret_access_key": None, "bearer_token": "central-token", "byok": True}
}
MALFORMED = [
    [("authorization", "Bearer")],
    [("authorization", "Bearer one two")],
    [("authorization", "Basic dXNlcjpwYXNz")],
    [("authorization", "sk-ant-clients-own-key")],
    [("x-api-key", ""), ("authorization", "Bearer")],
]


async def sent_upstream(house):
    """Return the headers that the upstream got with the one request it was asked; secrets as the ledger masks them."""
    (done,) = await house.simulator.ledger.wait_for(1)
    return dict(done.headers)


def refused(house, answer, reason, status=401):
    """Assert a refusal in the API's shape that nobody tries again, and that the upstream never heard of it."""
    assert answer.status == status
    assert answer.headers["x-should-retry"] == "false"
    told = json.loads(answer.body)
    kind = {401: "authentication_error", 403: "permission_error"}[status]
    assert (told["type"], told["error"]["type"]) == ("error", kind)
    assert house.metric("aibridge_rejections_total", reason=reason) == 1
    assert house.outcomes.opened_ids == []
    assert house.simulator.accepted == 0


# open


@pytest.mark.parametrize(
    ("header", "value"), [("x-api-key", OWN_KEY), ("authorization", f"Bearer {OWN_KEY}")], ids=["key", "bearer"]
)
async def test_open_sends_the_clients_own_credential(house, ask, header, value):
    assert (await ask(house, "anthropic", headers=[(header, value)])).events[-1] == "message_stop"
    sent = await sent_upstream(house)
    assert sent[header].endswith("-key")
    assert len({"x-api-key", "authorization"} & sent.keys()) == 1
    record = (await house.books()).record
    assert (record["actor_id"], record["credential_kind"]) == ("anonymous", "byok")
    assert record["credential_hint"] == "sk-a...-key"


async def test_open_without_a_credential_uses_the_gateways(house, ask):
    assert (await ask(house, "anthropic")).status == 200
    assert (await house.books()).record["credential_kind"] == "centralized"


@pytest.mark.parametrize("auth", [{"mode": "open"}, PROXY], ids=["open", "header"])
@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("headers", MALFORMED, ids=[str(number) for number in range(len(MALFORMED))])
async def test_a_malformed_credential_is_never_answered_at_the_gateways_cost(build_house, ask, auth, provider, headers):
    async with build_house(auth=auth) as house:
        refused(house, await ask(house, provider, headers=[*headers, ("x-user", "ann")]), "bad_credential")


async def test_a_malformed_credential_is_refused_on_routes_that_are_relayed_only(house, new_client):
    async with new_client(house.port) as client:
        headers = [("authorization", "Bearer"), VERSION]
        await client.ask("/anthropic/v1/messages/count_tokens", b"{}", headers=headers)
        refused(house, await client.answer(), "bad_credential")


@pytest.mark.parametrize(("provider", "kind"), [("anthropic", {"byok": False}), ("bedrock", {})])
async def test_where_byok_is_off_the_clients_credential_stays_here(build_house, ask, provider, kind):
    async with build_house(provider={provider: kind}) as house:
        headers = [("x-api-key", OWN_KEY), ("authorization", f"Bearer {OWN_KEY}")]
        assert (await ask(house, provider, headers=headers)).status == 200
        sent = await sent_upstream(house)
        assert not any(OWN_KEY[-4:] in value for value in sent.values())
        assert (await house.books()).record["credential_kind"] == "centralized"


# keys


@pytest.mark.parametrize("name", ["ann", "bob"])
@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("place", ["x-api-key", "authorization", "x-aibridge-key"])
async def test_a_gateway_key_opens_in_each_place_and_stays_here(build_house, ask, name, provider, place):
    key = f"gateway-key-of-{name}"
    value = f"Bearer {key}" if place == "authorization" else key
    async with build_house(auth=KEYS) as house:
        assert (await ask(house, provider, headers=[(place, value)])).events[-1] == "message_stop"
        sent = await sent_upstream(house)
        assert not any(f"-{name}" in value or "x-aibridge" in header for header, value in sent.items())
        record = (await house.books()).record
        assert (record["actor_id"], record["credential_kind"]) == (name, "centralized")


@pytest.mark.parametrize("own", [("x-api-key", OWN_KEY), ("authorization", f"Bearer {OWN_KEY}")])
async def test_a_client_with_its_own_credential_has_its_own_place_for_the_gateway_key(build_house, ask, own):
    async with build_house(auth=KEYS) as house:
        headers = [("x-aibridge-key", "gateway-key-of-bob"), own]
        assert (await ask(house, "anthropic", headers=headers)).status == 200
        assert (await sent_upstream(house))[own[0]].endswith("-key")
        record = (await house.books()).record
        assert (record["actor_id"], record["credential_kind"]) == ("bob", "byok")


async def test_a_gateway_key_never_pays_with_a_malformed_credential(build_house, ask):
    async with build_house(auth=KEYS) as house:
        headers = [("x-aibridge-key", "gateway-key-of-bob"), ("authorization", "Bearer")]
        refused(house, await ask(house, "anthropic", headers=headers), "bad_credential")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "no_key"),
        ([("authorization", "Bearer")], "no_key"),
        ([("x-api-key", "gateway-key-of-eve")], "wrong_key"),
        ([("authorization", "Bearer gateway-key-of-eve")], "wrong_key"),
        ([("x-api-key", KEYS["keys"][1]["key"])], "wrong_key"),  # who reads the configuration has no key
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_without_a_gateway_key_nobody_is_let_in(build_house, new_client, request_body, headers, reason, path):
    async with build_house(auth=KEYS) as house, new_client(house.port) as client:
        await client.ask(f"/anthropic{path}", request_body(), headers=[*headers, VERSION])
        refused(house, await client.answer(), reason)


# header


@pytest.mark.parametrize("provider", BOTH)
async def test_the_front_proxy_says_who_asks(build_house, ask, provider):
    async with build_house(auth=PROXY) as house:
        headers = [("X-User", "ann@example.com"), ("x-name", "Ann A."), ("x-api-key", OWN_KEY)]
        assert (await ask(house, provider, headers=headers)).events[-1] == "message_stop"
        assert not {"x-user", "x-name"} & (await sent_upstream(house)).keys()
        record = (await house.books()).record
        assert (record["actor_id"], record["actor_name"]) == ("ann@example.com", "Ann A.")
        assert record["credential_kind"] == ("byok" if provider == "anthropic" else "centralized")


async def test_nobody_else_can_say_it(build_house, ask):
    async with build_house(auth=NO_PROXY) as house:
        headers = [("x-user", "root"), ("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")]
        refused(house, await ask(house, "anthropic", headers=headers), "untrusted_peer", status=403)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "no_actor"),
        ([("x-user", "")], "no_actor"),
        ([("x-user", "a" * 257)], "bad_actor"),
        ([("x-user", "ann\tb")], "bad_actor"),
        ([("x-user", "änn")], "bad_actor"),
        ([("x-user", "ann"), ("x-user", "root")], "bad_actor"),
        ([("x-user", "ann"), ("X-User", "ann")], "bad_actor"),
    ],
)
async def test_hostile_names_are_refused(build_house, ask, headers, reason):
    async with build_house(auth=PROXY) as house:
        refused(house, await ask(house, "anthropic", headers=headers), reason)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")
@pytest.mark.parametrize(("network", "status"), [("::1", b"200"), ("127.0.0.0/8", b"403")])
async def test_the_address_is_the_connections_for_ipv6_too(build_house, request_body, network, status):
    auth = {"mode": "header", "header": {"id": "x-user", "networks": [network]}}
    body = json.dumps(request_body(stream=False)).encode()
    async with build_house(auth=auth, listen={"host": "::1", "port": 0}) as house:
        reader, writer = await asyncio.open_connection("::1", house.port)
        lines = ["POST /anthropic/v1/messages HTTP/1.1", "host: x", "x-user: ann", "anthropic-version: 2023-06-01"]
        writer.write("\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body)
        assert (await reader.readline()).split()[1] == status
        writer.close()
        await writer.wait_closed()


# probes


@pytest.mark.parametrize("auth", [{"mode": "open"}, KEYS, PROXY, NO_PROXY], ids=["open", "keys", "header", "stranger"])
@pytest.mark.parametrize("path", ["/", "/anthropic", "/bedrock/"])
async def test_a_probe_without_a_key_is_not_punished(build_house, new_client, auth, path):
    async with build_house(auth=auth, provider={"anthropic": {"api_key": None}}) as house:
        async with new_client(house.port) as client:
            await client.ask(path, b"", method="HEAD", headers=[VERSION])
            answer = await client.answer("HEAD")
        assert answer.status == 200
        assert house.metric("aibridge_rejections_total") == 0
        assert house.simulator.accepted == 0


# told upstream


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
async def test_upstreams_are_told_who_asked_in_headers_of_the_operators_choice(build_house, ask, provider, told):
    names = {"id": "x-employee", "name": "x-employee-name"}
    async with build_house(auth=PROXY, actor_headers=names, provider={provider: {"send_actor_headers": told}}) as house:
        forged = [("X-Employee", "root"), ("x-employee-name", "Root"), ("x-ai-bridge-actor-id", "root")]
        headers = [("x-user", "ann 100%"), ("x-name", "Ann"), *forged]
        assert (await ask(house, provider, headers=headers)).status == 200
        (done,) = await house.simulator.ledger.wait_for(1)
        heard = [pair for pair in done.headers if "employee" in pair[0] or "actor" in pair[0]]
        assert heard == ([("x-employee", "ann 100%25"), ("x-employee-name", "Ann")] if told else [])
