"""Anthropic direct: what goes upstream of a client's request, and whose key."""

import time

import pytest
from record_kit import an_interception

from aibridge.content import NOTHING
from aibridge.dialects import DIALECTS
from aibridge.errors import RequestRejected
from aibridge.keypool import Exhausted, KeyChoice, KeyPool
from aibridge.poolkey import PoolKey
from aibridge.providers.anthropic import AnthropicProvider
from aibridge.values import Actor, ClientRequest, Credential, CredentialKind, ResponseHead
from aibridge.wire import SSEScanner

MESSAGES = DIALECTS["messages"]
BODY = b'{ "model" : "claude-x", "stream":true, "big":123456789012345678901, "s":"\\u00e9\\ud83d" }'


@pytest.fixture
def provider():
    """Return a function that builds a provider."""

    def build(**more):
        settings = {
            "name": "anthropic",
            "base_url": "https://api.example.com",
            "authority": "api.example.com",
            "api_key": "sk-ant-central-0123456789",
            "byok": True,
            "send_actor_headers": False,
            "max_event_bytes": 1000,
        }
        return AnthropicProvider(**{**settings, **more})

    return build


def request(*headers, body=BODY, method="POST", query=""):
    return ClientRequest(method=method, path="/anthropic/v1/messages", query=query, headers=headers, body=body)


def interception(actor="alice"):
    return an_interception(actor=Actor(actor), model="claude-x", upstream_model="claude-x")


def prepared(provider, request, interception):
    return provider.prepare(request, provider.read(request, MESSAGES), interception)


def test_reads_model_stream_and_credential(provider):
    reading = provider().read(request(), MESSAGES)
    assert (reading.model, reading.upstream_model, reading.streaming) == ("claude-x", "claude-x", True)
    assert reading.credential == Credential(CredentialKind.CENTRALIZED, "sk-a...6789")


async def test_the_body_goes_on_untouched(provider):
    sent = prepared(provider(), request(query="beta=true&x=%2f"), interception())
    assert sent.body is BODY
    assert (sent.method, sent.origin, sent.target) == (
        "POST",
        "https://api.example.com",
        "/v1/messages?beta=true&x=%2f",
    )


async def test_the_whole_head(provider):
    headers = (
        (b"host", b"gateway"),
        (b"x-api-key", b""),
        (b"accept-encoding", b"gzip, br"),
        (b"content-length", b"5"),
        (b"content-encoding", b"gzip"),
        (b"content-type", b"application/json"),
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"a,b"),
        (b"x-aibridge-key", b"gateway-key"),
        (b"anthropic-beta", b"c"),
        (b"user-agent", b"claude-cli/2"),
    )
    sent = prepared(provider(), request(*headers), interception())
    assert sent.headers == (
        (b"host", b"api.example.com"),
        (b"content-type", b"application/json"),
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"a,b"),
        (b"anthropic-beta", b"c"),
        (b"user-agent", b"claude-cli/2"),
        (b"accept-encoding", b"identity"),
        (b"x-api-key", b"sk-ant-central-0123456789"),
        (b"content-length", b"%d" % len(BODY)),
    )


OWN = [
    ((b"x-api-key", b"sk-own-key-0123456789"), (b"x-api-key", b"sk-own-key-0123456789")),
    ((b"authorization", b"bearer oauth-token-0123456789"), (b"authorization", b"Bearer oauth-token-0123456789")),
]


@pytest.mark.parametrize(("came", "goes"), OWN)
async def test_a_credential_of_the_client_goes_instead_of_ours(provider, came, goes):
    sent = prepared(provider(), request(came), interception())
    auth = [pair for pair in sent.headers if pair[0] in {b"x-api-key", b"authorization"}]
    assert auth == [goes]
    assert sent.credential.kind is CredentialKind.BYOK
    assert sent.credential.hint.endswith("...6789")


@pytest.mark.parametrize(("came", "goes"), OWN)
async def test_without_byok_no_credential_of_the_client_goes(provider, came, goes):
    sent = prepared(provider(byok=False), request(came), interception())
    assert [pair for pair in sent.headers if pair[0] in {b"x-api-key", b"authorization"}] == [
        (b"x-api-key", b"sk-ant-central-0123456789")
    ]
    assert goes[1] not in [value for _, value in sent.headers]
    assert sent.credential.kind is CredentialKind.CENTRALIZED


def test_no_credential_at_all(provider):
    with pytest.raises(RequestRejected) as refused:
        provider(api_key=None).read(request(), MESSAGES)
    assert (refused.value.reason, refused.value.status) == ("no_credential", 401)


async def test_the_actor_is_told_only_where_asked_for_and_cannot_be_forged(provider):
    forged = (b"x-ai-bridge-actor-id", b"root")
    sent = prepared(provider(send_actor_headers=True), request(forged), interception("ålice 100%\r\nx: y"))
    told = [value for name, value in sent.headers if name == b"x-ai-bridge-actor-id"]
    assert told == [b"%C3%A5lice 100%25%0D%0Ax: y"]
    sent = prepared(provider(), request(forged), interception())
    assert not [value for name, value in sent.headers if name.startswith(b"x-ai-bridge")]


async def test_a_base_url_with_a_path(provider):
    built = provider(base_url="https://proxy.example.com:8443/llm", authority="proxy.example.com:8443")
    sent = await built.prepare_passthrough(request(method="GET", body=b""), "/v1/models")
    assert (sent.method, sent.target) == ("GET", "/llm/v1/models")
    assert (b"host", b"proxy.example.com:8443") in sent.headers
    assert not [value for name, value in sent.headers if name == b"content-length"]


async def test_an_empty_post_has_a_length(provider):
    sent = await provider().prepare_passthrough(request(body=b""), "/v1/messages/count_tokens")
    assert (b"content-length", b"0") in sent.headers


def test_answers_come_back_as_they_are(provider):
    head = ResponseHead(529, ((b"request-id", b"req_1"), (b"set-cookie", b"x"), (b"retry-after", b"3")))
    built = provider()
    assert built.upstream_request_id(head) == "req_1"
    assert built.response_headers(head) == ((b"request-id", b"req_1"), (b"retry-after", b"3"))
    body = b"<html>whatever</html>"
    status, said = built.error_answer(head, body)
    assert (status, said is body) == (529, True)
    assert built.passthrough_answer(head, body) == (529, built.response_headers(head), body)
    assert built.metrics_in(head) == {}
    assert built.upstream_request_id(ResponseHead(200, ())) == ""


def test_the_decoder_relays_and_is_bounded(provider):
    built = provider()
    decoder = built.decoder(MESSAGES.quiet(NOTHING), prepared(built, request(), interception()))
    assert isinstance(decoder, SSEScanner)
    delta = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}\n\n'
    assert decoder.feed_data(delta) == (delta, [], 1)


def test_no_key_is_shown(provider):
    assert "sk-ant" not in repr(provider())


# several keys

FIRST, SECOND = [PoolKey(f"sk-ant-{name}-0123456789", f"hint-{name}", name) for name in ("first", "second")]


@pytest.fixture
def pooled(provider):
    return provider(api_key=None, byok=True, key_pool=KeyPool([FIRST, SECOND]))


def limited(pool, *keys):
    head = ResponseHead(429, ((b"retry-after", b"60"),))
    for key in keys:
        pool.heard(key, head, time.monotonic())


def test_a_pools_key_goes_out(pooled):
    reading = pooled.read(request(), MESSAGES)
    assert (reading.key, reading.exhausted) == (FIRST, None)
    assert reading.credential == Credential(CredentialKind.CENTRALIZED, "hint-first")
    assert reading.auth == ((b"x-api-key", FIRST.secret.encode()),)


def test_the_next_one_goes_out_where_the_first_is_limited(pooled):
    limited(pooled.key_pool, FIRST)
    reading = pooled.read(request(), MESSAGES)
    assert (reading.key, reading.credential.hint) == (SECOND, "hint-second")


def test_no_key_is_no_error_of_the_readings(pooled):
    limited(pooled.key_pool, FIRST, SECOND)
    reading = pooled.read(request(), MESSAGES)
    assert (reading.key, reading.exhausted, reading.auth) == (None, Exhausted(60), ())
    assert reading.credential == Credential(CredentialKind.CENTRALIZED, "")


def test_a_session_chooses_its_key(provider):
    pooled = provider(api_key=None, key_pool=KeyPool([FIRST, SECOND], KeyChoice.SPREAD))
    chosen = {}
    for number in range(40):
        session = (b"x-claude-code-session-id", b"session-%d" % (number % 20))
        reading = pooled.read(request((b"user-agent", b"claude-cli/2.1"), session), MESSAGES)
        chosen.setdefault(reading.session_id, set()).add(reading.key)
    assert len(chosen) == 20
    assert {len(keys) for keys in chosen.values()} == {1}
    assert set.union(*chosen.values()) == {FIRST, SECOND}


@pytest.mark.parametrize(("header", "sent"), OWN)
def test_a_clients_own_credential_is_none_of_the_pools(pooled, header, sent):
    limited(pooled.key_pool, FIRST, SECOND)
    reading = pooled.read(request(header), MESSAGES)
    assert (reading.key, reading.exhausted) == (None, None)
    assert reading.auth == (sent,)


async def test_what_is_relayed_only_goes_out_whatever_the_limits(pooled):
    limited(pooled.key_pool, FIRST, SECOND)
    sent = await pooled.prepare_passthrough(request(method="GET", body=b""), "/v1/models")
    assert (b"x-api-key", FIRST.secret.encode()) in sent.headers


def test_all_keys_of_a_pool_are_taken_out_of_an_answer(pooled):
    sent = prepared(pooled, request(), interception())
    assert sent.secrets == (FIRST.secret, SECOND.secret)
    assert "0123456789" not in repr(sent) + repr(pooled) + repr(pooled.read(request(), MESSAGES))
