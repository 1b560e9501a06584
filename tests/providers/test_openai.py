"""OpenAI's APIs: what goes upstream of a client's request, whose key, and what is asked for besides."""

import time

import pytest
from record_kit import an_interception

from aibridge.content import NOTHING
from aibridge.dialects import DIALECTS, UsageWithheld
from aibridge.errors import RequestRejected
from aibridge.keypool import Exhausted, KeyPool
from aibridge.poolkey import PoolKey
from aibridge.providers.openai import OpenAIProvider
from aibridge.values import ClientRequest, Credential, CredentialKind, ResponseHead
from aibridge.wire import SSEScanner

CHAT = DIALECTS["chat"]
RESPONSES = DIALECTS["responses"]
BODY = b'{ "model" : "gpt-x", "n":2, "big":123456789012345678901, "s":"\\u00e9\\ud83d" }'
STREAMING = b'{ "model" : "gpt-x", "stream":true, "big":123456789012345678901 }'
ASKING = b'{ "model" : "gpt-x", "stream":true, "big":123456789012345678901,"stream_options":{"include_usage":true} }'
KEY = "sk-central-0123456789"


@pytest.fixture
def provider():
    """Return a function that builds a provider."""

    def build(**more):
        settings = {
            "name": "openai",
            "base_url": "https://api.example.com/v1",
            "authority": "api.example.com",
            "api_key": KEY,
            "byok": True,
            "send_actor_headers": False,
            "max_event_bytes": 1000,
        }
        return OpenAIProvider(**{**settings, **more})

    return build


@pytest.fixture
def azure(provider):
    return provider(
        base_url="https://x.openai.azure.example/openai/deployments/gpt",
        key_header=b"api-key",
        query="api-version=2024-10-21",
    )


@pytest.fixture
def copilot(provider):
    return provider(name="copilot", kind="copilot", base_url="https://copilot.example", mount="", api_key=None)


def request(*headers, body=BODY, method="POST", query=""):
    return ClientRequest(method=method, path="/openai/v1/whatever", query=query, headers=headers, body=body)


def interception(dialect="chat", route="/v1/chat/completions"):
    return an_interception(
        provider="openai", provider_kind="openai", dialect=dialect, route=route, model="gpt-x", upstream_model="gpt-x"
    )


def prepared(provider, request, interception=None, dialect=CHAT):
    return provider.prepare(request, provider.read(request, dialect), interception or globals()["interception"]())


def auth_of(sent):
    return [pair for pair in sent.headers if pair[0] in {b"authorization", b"x-api-key", b"api-key"}]


def test_reads_model_stream_and_credential(provider):
    reading = provider().read(request(body=STREAMING), CHAT)
    assert (reading.model, reading.upstream_model, reading.streaming) == ("gpt-x", "gpt-x", True)
    assert reading.credential == Credential(CredentialKind.CENTRALIZED, "sk-c...6789")


def test_the_body_goes_on_untouched(provider):
    sent = prepared(provider(), request(query="x=%2f"))
    assert sent.body is BODY
    assert (sent.method, sent.origin, sent.target) == (
        "POST",
        "https://api.example.com/v1",
        "/v1/chat/completions?x=%2f",
    )
    assert not sent.adds_usage


def test_the_whole_head(provider):
    headers = (
        (b"host", b"gateway"),
        (b"x-api-key", b"of-another-api"),
        (b"accept-encoding", b"gzip, br"),
        (b"content-type", b"application/json"),
        (b"openai-organization", b"theirs"),
        (b"chatgpt-account-id", b"a-1"),
        (b"x-aibridge-key", b"gateway-key"),
        (b"user-agent", b"codex/1"),
    )
    built = provider(headers=((b"openai-organization", b"org-ours"), (b"http-referer", b"https://us")))
    assert prepared(built, request(*headers)).headers == (
        (b"host", b"api.example.com"),
        (b"content-type", b"application/json"),
        (b"chatgpt-account-id", b"a-1"),
        (b"user-agent", b"codex/1"),
        (b"openai-organization", b"org-ours"),
        (b"http-referer", b"https://us"),
        (b"accept-encoding", b"identity"),
        (b"authorization", b"Bearer " + KEY.encode()),
        (b"content-length", b"%d" % len(BODY)),
    )


OWN = (b"authorization", b"bearer  own-token-0123456789")


def test_a_credential_of_the_client_goes_instead_of_ours(provider):
    sent = prepared(provider(), request(OWN))
    assert auth_of(sent) == [(b"authorization", b"Bearer own-token-0123456789")]
    assert sent.credential == Credential(CredentialKind.BYOK, "own-...6789")


def test_without_byok_no_credential_of_the_client_goes(provider):
    sent = prepared(provider(byok=False), request(OWN, (b"api-key", b"of-azure-0123456789")))
    assert auth_of(sent) == [(b"authorization", b"Bearer " + KEY.encode())]
    assert sent.credential.kind is CredentialKind.CENTRALIZED


@pytest.mark.parametrize("value", [b"", b"  "])
def test_a_blank_credential_is_none(provider, value):
    assert auth_of(prepared(provider(), request((b"authorization", value)))) == [
        (b"authorization", b"Bearer " + KEY.encode())
    ]


@pytest.mark.parametrize("value", [b"Bearer", b"own-token", b"Bearer a b", b"Basic YTpi"])
@pytest.mark.parametrize("kind", ["provider", "copilot"])
def test_a_malformed_credential_is_refused(provider, copilot, kind, value):
    built = copilot if kind == "copilot" else provider()
    with pytest.raises(RequestRejected) as refused:
        built.read(request((b"authorization", value)), CHAT)
    assert (refused.value.reason, refused.value.status) == ("bad_credential", 401)


@pytest.mark.parametrize("headers", [(), ((b"x-api-key", b"sk-other-0123456789"),)])
def test_copilot_has_no_key_but_the_clients(copilot, headers):
    with pytest.raises(RequestRejected) as refused:
        copilot.read(request(*headers), CHAT)
    assert (refused.value.reason, refused.value.status) == ("no_credential", 401)
    sent = prepared(copilot, request(OWN), interception(route="/chat/completions"))
    assert (sent.target, sent.credential.kind) == ("/chat/completions", CredentialKind.BYOK)
    sent = prepared(copilot, request(OWN), interception("messages", "/v1/messages"), DIALECTS["messages"])
    assert sent.target == "/v1/messages"


async def test_a_server_that_asks_for_no_key_gets_none(provider):
    local = provider(api_key=None, byok=False, base_url="http://127.0.0.1:11434/v1")
    sent = prepared(local, request(OWN, (b"x-api-key", b"sk-other-0123456789"), (b"api-key", b"k-0123456789")))
    assert auth_of(sent) == []
    assert sent.credential == Credential(CredentialKind.CENTRALIZED, "")
    assert auth_of(await local.prepare_passthrough(request(OWN, method="GET", body=b""), "/v1/models")) == []


def test_azure_gets_its_key_in_its_own_header(azure):
    sent = prepared(azure, request((b"x-api-key", b"of-another-api")))
    assert auth_of(sent) == [(b"api-key", KEY.encode())]
    assert sent.target == "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"


def test_azures_clients_have_keys_and_tokens(azure):
    sent = prepared(azure, request((b"api-key", b"own-key-0123456789"), OWN))
    assert auth_of(sent) == [(b"api-key", b"own-key-0123456789")]
    assert sent.credential == Credential(CredentialKind.BYOK, "ow...89")
    assert auth_of(prepared(azure, request(OWN))) == [(b"authorization", b"Bearer own-token-0123456789")]


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("", "?api-version=2024-10-21"),
        ("include[]=a&include[]=b", "?api-version=2024-10-21&include[]=a&include[]=b"),
        ("api-version=2023-01-01&a=1", "?api-version=2024-10-21&a=1"),
        ("api%2Dversion=2023-01-01", "?api-version=2024-10-21"),
        ("&&a", "?api-version=2024-10-21&a"),
    ],
)
def test_parameters_of_the_configuration_stand_above_the_clients(azure, query, sent):
    assert prepared(azure, request(query=query)).target.removeprefix("/openai/deployments/gpt/chat/completions") == sent


@pytest.mark.parametrize(
    ("base_url", "path", "target"),
    [
        ("https://api.openai.com/v1", "/v1/models", "/v1/models"),
        ("https://chatgpt.com/backend-api/codex", "/v1/responses", "/backend-api/codex/responses"),
        ("https://host/v1beta/openai", "/v1/models/gemini", "/v1beta/openai/models/gemini"),
        ("http://127.0.0.1:8000", "/v1/models", "/models"),
        ("https://openrouter.ai/api/v1", "/v1/responses/r_1/cancel", "/api/v1/responses/r_1/cancel"),
    ],
)
async def test_what_stands_behind_v1_goes_behind_the_base_url(provider, base_url, path, target):
    sent = await provider(base_url=base_url).prepare_passthrough(request(method="GET", body=b""), path)
    assert (sent.target, sent.origin) == (target, base_url)
    assert not [value for name, value in sent.headers if name == b"content-length"]


async def test_an_empty_post_has_a_length(provider):
    sent = await provider().prepare_passthrough(request(body=b""), "/v1/responses/r_1/cancel")
    assert (b"content-length", b"0") in sent.headers


def test_the_actor_is_told_only_where_asked_for_and_cannot_be_forged(provider):
    forged = (b"x-ai-bridge-actor-id", b"root")
    for asked_for, told in ((True, [b"alice"]), (False, [])):
        sent = prepared(provider(send_actor_headers=asked_for), request(forged))
        assert [value for name, value in sent.headers if name == b"x-ai-bridge-actor-id"] == told


# usage that is asked for


def test_a_stream_of_chat_is_asked_for_its_usage(provider):
    sent = prepared(provider(), request(body=STREAMING))
    assert (sent.body, sent.adds_usage) == (ASKING, True)
    assert (b"content-length", b"%d" % len(ASKING)) in sent.headers


def test_nothing_else_is_asked_for_usage(provider):
    for sent in (
        prepared(provider(), request(body=ASKING)),
        prepared(provider(asks_usage=False), request(body=STREAMING)),
        prepared(provider(), request(body=STREAMING), interception("responses", "/v1/responses"), RESPONSES),
        prepared(provider(), request(body=STREAMING), interception("messages", "/v1/messages"), DIALECTS["messages"]),
    ):
        assert sent.body in {ASKING, STREAMING}
        assert not sent.adds_usage


REFUSAL = b'{"error":{"message":"Unrecognized request argument supplied: stream_options"}}'
REFUSED = ResponseHead(400, ())
UPSTREAM_CHUNK = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'


def test_an_upstream_that_refuses_is_asked_without_and_remembered(provider):
    built = provider()
    sent = prepared(built, request(body=STREAMING))
    mended = built.mend(REFUSED, REFUSAL, sent, interception())
    assert (mended.body, mended.adds_usage) == (STREAMING, False)
    assert [value for name, value in mended.headers if name == b"content-length"] == [b"%d" % len(STREAMING)]
    assert prepared(built, request(body=STREAMING)).adds_usage, "a suspicion is no proof"
    built.decoder((), mended)
    assert not prepared(built, request(body=STREAMING)).adds_usage
    other = STREAMING.replace(b"gpt-x", b"gpt-y")
    assert prepared(built, request(body=other)).adds_usage, "other models may be served by others"


def test_what_proves_nothing(provider):
    built = provider()
    sent = prepared(built, request(body=STREAMING))
    built.mend(REFUSED, REFUSAL, sent, interception())
    responses = prepared(built, request(body=STREAMING), interception("responses", "/v1/responses"), RESPONSES)
    ordered = prepared(built, request(body=ASKING))
    for request_ in (sent, responses, ordered):
        built.decoder((), request_)
    assert prepared(built, request(body=STREAMING)).adds_usage


@pytest.mark.parametrize(
    ("status", "words", "body"),
    [
        (400, b'{"error":{"message":"context length exceeded"}}', STREAMING),
        (429, REFUSAL, STREAMING),
        (500, REFUSAL, STREAMING),
        (400, REFUSAL, ASKING),
        (400, REFUSAL, STREAMING.replace(b"gpt-x", b"gpt-x").replace(b" }", b',"stream_options":{"x":1}}')),
        (400, REFUSAL, BODY),
    ],
)
def test_other_refusals_stand(provider, status, words, body):
    built = provider()
    sent = prepared(built, request(body=body))
    assert built.mend(ResponseHead(status, ()), words, sent, interception()) is None


def test_what_is_remembered_is_bounded(provider):
    built = provider()
    for number in range(1000):
        model = b"m-%d" % number
        sent = prepared(built, request(body=STREAMING.replace(b"gpt-x", model)))
        mended = built.mend(REFUSED, REFUSAL, sent, interception()._replace(upstream_model=model.decode()))
        built.decoder((), mended)
    assert len(built.lessons._refusing) == 256
    assert not prepared(built, request(body=STREAMING.replace(b"gpt-x", b"m-999"))).adds_usage


def test_the_decoder_relays_and_withholds_only_what_we_asked_for(provider):
    built = provider()
    asked = built.decoder(CHAT.quiet(NOTHING), prepared(built, request(body=STREAMING)))
    assert isinstance(asked, UsageWithheld)
    assert asked.feed_data(UPSTREAM_CHUNK).relay == b""
    ordered = built.decoder(CHAT.quiet(NOTHING), prepared(built, request(body=ASKING)))
    assert isinstance(ordered, SSEScanner)
    assert ordered.feed_data(UPSTREAM_CHUNK).relay == UPSTREAM_CHUNK


# answers


def test_answers_come_back_as_they_are(provider):
    head = ResponseHead(
        429,
        (
            (b"x-request-id", b"req_1"),
            (b"set-cookie", b"x"),
            (b"retry-after", b"3"),
            (b"x-ratelimit-remaining-tokens", b"7"),
            (b"openai-processing-ms", b"12"),
        ),
    )
    built = provider()
    assert built.upstream_request_id(head) == "req_1"
    kept = tuple(pair for pair in head.headers if pair[0] != b"set-cookie")
    assert built.response_headers(head) == kept
    body = b"<html>whatever</html>"
    status, said = built.error_answer(head, body)
    assert (status, said is body) == (429, True)
    assert built.passthrough_answer(head, body) == (429, kept, body)
    assert built.metrics_in(head) == {"invocationLatency": 12}
    assert built.upstream_request_id(ResponseHead(200, ())) == ""


@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"9" * 5000, "²".encode("latin-1")])
def test_a_time_that_is_none_is_not_told(provider, value):
    assert provider().metrics_in(ResponseHead(200, ((b"openai-processing-ms", value),))) == {}


def test_no_key_is_shown(provider):
    shown = repr(provider(headers=((b"helicone-auth", b"Bearer sk-helicone"),), query="key=sk-google"))
    assert "sk-" not in shown


# several keys

FIRST, SECOND = [PoolKey(f"sk-{name}-0123456789", f"hint-{name}", name) for name in ("first", "second")]


@pytest.mark.parametrize(
    ("key_header", "sent"),
    [(b"authorization", f"Bearer {FIRST.secret}"), (b"api-key", FIRST.secret)],
)
async def test_a_pools_key_goes_out_where_the_server_looks_for_one(provider, key_header, sent):
    pooled = provider(api_key=None, byok=False, key_header=key_header, key_pool=KeyPool([FIRST, SECOND]))
    reading = pooled.read(request(), CHAT)
    assert reading.key is FIRST
    assert reading.credential == Credential(CredentialKind.CENTRALIZED, "hint-first")
    assert reading.auth == ((key_header, sent.encode()),)
    assert pooled.prepare(request(), reading, interception()).secrets == (FIRST.secret, SECOND.secret)
    relayed = await pooled.prepare_passthrough(request(method="GET", body=b""), "/v1/models")
    assert (key_header, sent.encode()) in relayed.headers


def test_no_key_of_a_pool_is_no_error_of_the_readings(provider):
    pooled = provider(api_key=None, byok=True, key_pool=KeyPool([FIRST, SECOND]))
    for key in (FIRST, SECOND):
        pooled.key_pool.heard(key, ResponseHead(401, ()), time.monotonic())
    reading = pooled.read(request(), CHAT)
    assert (reading.key, reading.exhausted, reading.auth) == (None, Exhausted(None), ())
    own = pooled.read(request((b"authorization", b"Bearer own-0123456789")), CHAT)
    assert (own.key, own.exhausted, own.credential.kind) == (None, None, CredentialKind.BYOK)
