"""`aibridge doctor` on real servers that do well, and on such that do not: what it finds, and what it says to do."""

import asyncio
import json
import re
import socket
import ssl
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trustme
from process_kit import ENVIRONMENT, run

from aibridge import config
from aibridge.doctor import advice
from aibridge.doctor.house import look, look_at_ports
from aibridge.doctor.upstreams import Upstream
from aibridge.doctor.values import State
from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings
from aibridge.stores.keys import KeyStore, KeyTerms
from aibridge.stores.sqlite import SQLiteStore, changing

AWS = {"region": "us-east-1", "access_key_id": "AKID", "secret_access_key": "any"}


@pytest.fixture
def configured(tmp_path):
    """Return a function that makes a configuration, of sections of a file."""

    def configured(**sections):
        file = tmp_path / "aibridge.yaml"
        port = {"host": "127.0.0.1", "port": 0}
        raw = {
            "listen": port,
            "admin": port,
            "records": {"path": str(tmp_path / "records.db")},
            "proxy": {"from_environment": False},
            **sections,
        }
        file.write_text(json.dumps(raw))
        return config.load(file, {})

    return configured


@asynccontextmanager
async def answering(status="200 OK", body=b'{"data":[{"id":"model-1"}]}', *, date=None, tls=None):
    """Serve one answer to everybody, and give the port."""

    async def serve(reader, writer):
        while (head := await reader.readuntil(b"\r\n\r\n")) and status:
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            now = format_datetime(date or datetime.now(UTC), usegmt=True)
            lines = (f"HTTP/1.1 {status}", f"date: {now}", f"content-length: {len(body)}")
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            await writer.drain()
        writer.close()

    async def serve_quietly(reader, writer):
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve_quietly, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def looked(configured, name="it", *, model="", send=False):
    return {found.check: found async for found in Upstream(name, configured, model=model, send=send).look()}


def provider(url, kind="openai", **more):
    own = AWS if kind == "bedrock" else {"api_key": "k"}
    return {"it": {"kind": kind, "base_url": url, **own, **more}}


# all is well


@pytest.mark.parametrize("kind", ["anthropic", "bedrock", "openai"])
@pytest.mark.parametrize("send", [False, True])
async def test_an_upstream_that_does_well(configured, kind, send):
    async with Simulator(Settings(any_credentials=True)) as simulator:
        url = simulator.url + ("/v1" if kind == "openai" else "")
        found = await looked(configured(providers=provider(url, kind)), send=send)
        asked = await simulator.ledger.wait_for(1 + send)
    assert {finding.state for finding in found.values()} == {State.OK}
    checks = ["credentials", "dns", "tcp", "clock", "model" if kind == "bedrock" else "access"]
    assert list(found) == [*checks, *(["send"] if send else [])]
    assert len(asked) == 1 + send
    if send:
        assert found["send"].detail.endswith(": clean")
        assert "tokens in" in found["send"].detail


async def test_the_whole_as_a_process(configured, tmp_path):
    async with Simulator(Settings(any_credentials=True)) as simulator:
        configured(providers=provider(simulator.url, "anthropic"))
        file = str(tmp_path / "aibridge.yaml")
        status, out, err = await run("doctor", "--config", file, environment=ENVIRONMENT)
        assert (status, err) == (0, "")
        assert "\x1b" not in out
        assert [line.split()[:2] for line in out.splitlines() if "credentials" in line] == [["ok", "credentials"]]
        status, out, _ = await run("doctor", "--config", file, "--json", environment=ENVIRONMENT)
    found = json.loads(out)
    assert status == 0
    assert [one["check"] for one in found if not one["about"]] == [
        "configuration", "prices", "gateway keys", "store", "journal", "data port", "admin port",
    ]  # fmt: skip
    assert list(found[0]) == ["about", "check", "state", "detail", "advice"]


async def test_a_failure_is_the_exit_status(configured, tmp_path):
    configured(providers=provider("http://127.0.0.1:1"))
    file = str(tmp_path / "aibridge.yaml")
    status, out, _ = await run("doctor", "--config", file, "--provider", "it", environment=ENVIRONMENT)
    assert status == 1
    assert "-> nothing listens there" in out
    assert out.splitlines()[-1] == "2 ok, 1 failed, 1 skipped"
    status, _, err = await run("doctor", "--config", file, "--provider", "other", environment=ENVIRONMENT)
    assert (status, err) == (2, "--provider other: the configuration has it\n")


async def test_without_credentials_nobody_is_asked():
    status, out, _ = await run("doctor", "--json", environment={**ENVIRONMENT, "AIBRIDGE_RECORDS": "off"})
    last = json.loads(out)[-1]
    assert (last["check"], last["state"]) == ("upstreams", "note")
    assert "ANTHROPIC_API_KEY" in last["advice"]
    assert status in {0, 1}  # the default ports may be in use on this machine


# the way there


async def test_a_name_that_nobody_knows(configured):
    found = await looked(configured(providers=provider("https://no.such.host.invalid")))
    assert (found["dns"].state, found["request"].state) == (State.FAILED, State.SKIPPED)
    assert "name server" in found["dns"].advice
    regional = {"it": {"kind": "bedrock", **AWS, "region": "us-mars-1"}}
    found = await looked(configured(providers=regional))
    assert "is there a region us-mars-1" in found["dns"].advice
    assert "tcp" not in found


def tls_of(ca, name="127.0.0.1", **more):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name, **more).configure_cert(context)
    return context


async def test_tls_by_an_authority_that_is_known_or_not(configured, tmp_path):
    ca = trustme.CA(organization_name="House of Tests")
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(file)
    until = datetime.now(UTC) + timedelta(days=100)
    async with answering(tls=tls_of(ca, not_after=until)) as port:
        named = provider(f"https://127.0.0.1:{port}")
        found = await looked(configured(providers=named))
        assert found["tls"].state is State.FAILED
        assert "name it in tls.ca_file" in found["tls"].advice
        found = await looked(configured(providers=named, tls={"ca_file": str(file)}))
        assert found["tls"].state is State.OK
        assert "certificate of House of Tests, good for 100 days" in found["tls"].detail
        assert str(file) in found["tls"].detail
        assert found["access"].detail.endswith("it opens 1 models")
        found = await looked(configured(providers=named, tls={"verify": False}))
        assert found["tls"].state is State.NOTE
        assert "not checked" in found["tls"].detail


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (b'{"data":[]}', State.OK),
        (b'{"object":"list","data":null}', State.OK),
        (b"<html>Log in to this network</html>", State.FAILED),
        (b"[]", State.FAILED),
        (b"{}", State.FAILED),
        (b'{"data":"all"}', State.FAILED),
        (b"", State.FAILED),
    ],
)
async def test_a_good_status_without_a_list_of_models_shows_no_access(configured, body, state):
    async with answering(body=body) as port:
        found = await looked(configured(providers=provider(f"http://127.0.0.1:{port}")))
    assert found["access"].state is state
    assert ("base_url" in found["access"].advice) == (state is State.FAILED)


@pytest.mark.parametrize(
    ("name", "days", "state", "words"),
    [
        ("127.0.0.1", -1, State.FAILED, "has ended"),
        ("127.0.0.1", 5, State.NOTE, "renew the certificate soon"),
        ("other.example", 100, State.FAILED, "another server answers"),
    ],
)
async def test_certificates(configured, tmp_path, name, days, state, words):
    ca = trustme.CA()
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(file)
    now = datetime.now(UTC)
    tls = tls_of(ca, name, not_after=now + timedelta(days=days), not_before=now - timedelta(days=90))
    async with answering(tls=tls) as port:
        found = await looked(configured(providers=provider(f"https://127.0.0.1:{port}"), tls={"ca_file": str(file)}))
    assert (found["tls"].state, words in found["tls"].advice) == (state, True), found["tls"]


async def test_no_tls_where_it_is_expected(configured):
    async def serve(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await looked(configured(providers=provider(url)))
    assert found["tls"].state is State.FAILED
    assert "http instead of https" in found["tls"].advice


async def test_a_proxy_that_does_not_run(configured):
    proxied = configured(providers=provider("https://api.example"), proxy={"url": "http://name:secret@127.0.0.1:1"})
    found = await looked(proxied)
    assert (found["proxy"].state, found["tcp"].state) == (State.NOTE, State.FAILED)
    assert "secret" not in str(found)


# what it gives


@pytest.mark.parametrize(
    ("kind", "seconds", "state"),
    [("bedrock", 200, State.FAILED), ("openai", -200, State.NOTE), ("bedrock", 20, State.OK)],
)
async def test_clocks(configured, kind, seconds, state):
    async with answering(body=b'{"inputTokens":3}', date=datetime.now(UTC) + timedelta(seconds=seconds)) as port:
        found = await looked(configured(providers=provider(f"http://127.0.0.1:{port}", kind)))
    assert found["clock"].state is state
    assert ("behind" in found["clock"].detail) == (seconds > 0)
    assert ("NTP" in found["clock"].advice) == (state is not State.OK)


@pytest.mark.parametrize(
    ("kind", "status", "words", "state", "do"),
    [
        ("openai", "401 X", "Incorrect API key provided", State.FAILED, "make a new one"),
        ("anthropic", "403 X", "not allowed", State.FAILED, "permissions"),
        ("anthropic", "404 X", "nothing", State.FAILED, "base_url"),
        ("openai", "404 X", "nothing", State.NOTE, "--send"),
        ("openai", "429 X", "slow down", State.NOTE, "wait"),
        ("openai", "503 X", "down", State.FAILED, "status page"),
        ("bedrock", "403 X", "The security token included in the request is invalid.", State.FAILED, "sts"),
        ("bedrock", "403 X", "The security token included in the request is expired", State.FAILED, "sso login"),
        ("bedrock", "403 X", "Signature expired: 1 is now earlier than 2", State.FAILED, "clock"),
        ("bedrock", "403 X", "The request signature we calculated does not match", State.FAILED, "secret key"),
        ("bedrock", "403 X", "You don't have access to the model with the given ID.", State.FAILED, "console"),
        ("bedrock", "403 X", "User: arn:x is not authorized to perform: bedrock:CountTokens", State.FAILED, "IAM"),
        ("bedrock", "400 X", "The provided model identifier is invalid.", State.NOTE, "--send"),
        ("bedrock", "404 X", "Model not found", State.FAILED, "--model"),
    ],
)  # fmt: skip
async def test_refusals(configured, kind, status, words, state, do):
    body = json.dumps({"message": words, "error": {"message": words}}).encode()
    async with answering(status, body) as port:
        found = await looked(configured(providers=provider(f"http://127.0.0.1:{port}", kind)))
    finding = found["model" if kind == "bedrock" else "access"]
    assert (finding.state, do in finding.advice) == (state, True), finding
    assert words in finding.detail or (kind, status) == ("openai", "404 X")


async def test_a_key_that_the_upstream_repeats(configured):
    key = "sk-canary-of-doctor-0123456789"
    async with answering("401 X", json.dumps({"error": {"message": f"{key} is wrong"}}).encode()) as port:
        named = {"it": {"kind": "openai", "base_url": f"http://127.0.0.1:{port}", "api_key": key}}
        found = await looked(configured(providers=named))
    assert " is wrong" in found["access"].detail
    assert key not in str(found)


async def test_each_model_of_bedrock_is_tried(configured):
    mapped = {"sonnet": "us.anthropic.claude-sonnet-5-v1:0", "own": "arn:aws:bedrock:x"}
    async with answering(body=b'{"inputTokens":3}') as port:
        ready = configured(providers=provider(f"http://127.0.0.1:{port}", "bedrock", model_map=mapped))
        found = [one.detail async for one in Upstream("it", ready, model="", send=False).look() if one.check == "model"]
        assert found == ["sonnet may be used", "own may be used"]


async def test_a_model_that_is_routed_to_and_not_there(configured):
    async with answering() as port:
        routers = {"all": {"models": {"ours": {"provider": "it", "model": "model-2"}}, "default": "it"}}
        found = await looked(configured(providers=provider(f"http://127.0.0.1:{port}"), routers=routers))
    assert found["model"].detail == "model-2 is not among the models that the upstream lists"


async def test_an_upstream_that_hangs_up(configured):
    async with answering(status="") as port:
        found = await looked(configured(providers=provider(f"http://127.0.0.1:{port}")))
    assert found["request"].state is State.FAILED
    assert "closed the connection" in found["request"].detail


async def test_clients_with_keys_of_their_own(configured):
    async with answering("404 X") as port:
        url = f"http://127.0.0.1:{port}"
        found = await looked(configured(providers={"it": {"kind": "copilot", "base_url": url}}), send=True)
    assert [found[check].state for check in ("credentials", "clock", "access", "send")] == [
        State.SKIPPED, State.OK, State.SKIPPED, State.SKIPPED,
    ]  # fmt: skip


async def test_no_aws_credentials(configured, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    async with answering() as port:
        url = f"http://127.0.0.1:{port}"
        found = await looked(configured(providers={"it": {"kind": "bedrock", "base_url": url}}))
    assert found["credentials"].state is State.FAILED
    assert "AWS_ACCESS_KEY_ID is not set" in found["credentials"].detail
    assert found["access"].state is State.SKIPPED


async def test_a_model_that_fails_when_it_is_to_answer(configured):
    async with Simulator(Settings(any_credentials=True)) as simulator:
        ready = configured(providers=provider(simulator.url, "anthropic"))
        found = await looked(ready, model="claude-sim+truncate@2", send=True)
    assert found["send"].state is State.FAILED
    assert "truncated" in found["send"].detail


# the house


def of(findings, check):
    return next(finding for finding in findings if finding.check == check)


ANTHROPIC = {"anthropic": {"api_key": "k"}}


def test_gateway_keys(configured, tmp_path):
    path = tmp_path / "keys.db"
    stored = {"auth": {"key_store": {"path": str(path)}}, "providers": ANTHROPIC}
    found = of(look(configured(**stored), "x"), "key store")
    assert (found.state, "keys create" in found.advice) == (State.FAILED, True)
    store = KeyStore(path)
    assert of(look(configured(**stored), "x"), "key store").state is State.FAILED
    store.add("key_1", KeyTerms(owner="ann"), b"1" * 32, "aib_1")
    store.add("key_2", KeyTerms(owner="ann", expires_at=1.0), b"2" * 32, "aib_2")
    found = of(look(configured(**stored), "x"), "key store")
    assert (found.state, found.detail) == (State.OK, f"{path}: 1 of 2 keys are good")
    path.write_bytes(b"no database" * 1000)
    assert of(look(configured(**stored), "x"), "key store").state is State.FAILED
    keys = {"auth": {"keys": [{"name": "ann", "key": "a-secret-of-ann-s"}]}, "providers": ANTHROPIC}
    found = of(look(configured(**keys), "x"), "gateway keys")
    assert "ann" in found.detail
    assert "a-secret-of-ann-s" not in found.detail


def test_the_store(configured, tmp_path):
    path = tmp_path / "records.db"
    ready = configured(providers=ANTHROPIC)
    assert of(look(ready, "x"), "store").detail == f"{path} will be made at the start"
    with closing(SQLiteStore(path)):
        pass
    assert of(look(ready, "x"), "store").detail == f"{path}: no record yet"
    with changing(path) as db:
        db.execute("PRAGMA user_version = 99")
    found = of(look(ready, "x"), "store")
    assert (found.state, "newer program" in found.advice) == (State.FAILED, True)
    path.write_bytes(b"no database" * 1000)
    assert of(look(ready, "x"), "store").state is State.FAILED
    off = of(look(configured(providers=ANTHROPIC, records={"enabled": False}), "x"), "store")
    assert off.state is State.NOTE


def test_folders_that_cannot_be_written_to(configured):
    ready = configured(providers=ANTHROPIC, records={"path": "/proc/none/records.db"}, dump={"path": "/proc/dump"})
    found = list(look(ready, "x"))
    assert {one.check for one in found if one.state is State.FAILED} == {"store", "journal", "dump"}
    assert "let this user write" in of(found, "dump").advice


def test_prices_that_are_wrong(configured, tmp_path):
    (tmp_path / "prices.yaml").write_text("nonsense: [")
    found = of(look(configured(providers=ANTHROPIC, prices={"path": str(tmp_path / "prices.yaml")}), "x"), "prices")
    assert (found.state, "prices check" in found.advice) == (State.FAILED, True)


async def test_ports(configured):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ready = configured(providers=ANTHROPIC, listen={"host": "127.0.0.1", "port": port})
        found = [one async for one in look_at_ports(ready)]
    assert [one.state for one in found] == [State.FAILED, State.OK]
    assert f":{port}'" in found[0].advice


async def test_ports_that_a_gateway_holds(build_house, configured):
    async with build_house() as house:
        ports = {"listen": house.port, "admin": house.app.admin_port}
        sections = {name: {"host": "127.0.0.1", "port": port} for name, port in ports.items()}
        found = [one async for one in look_at_ports(configured(providers=ANTHROPIC, **sections))]
    assert [(one.state, one.detail.partition(" is ")[2]) for one in found] == [
        (State.OK, "held by a gateway that runs")
    ] * 2


def test_every_advice_is_for_something():
    assert "status page" in advice.about_refusal("bedrock", 500, "odd")
    words = "Invocation of model ID x with on-demand throughput isn't supported"
    assert "inference profile" in advice.about_refusal("bedrock", 400, words)
    assert "firewall" in advice.about_connection("no connection within 10 s")
    assert advice.about_clock(3.0) == ""
