"""Messages to Bedrock: where model, version and betas go, and that every other byte stays."""

import gzip
import json
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_kit import an_interception

from aibridge.body import read_body
from aibridge.dialects import DIALECTS
from aibridge.errors import CredentialsError, RequestRejected
from aibridge.providers.bedrock import DEFAULT_VERSION, NEW_VERSION, BedrockProvider, takes_new_version
from aibridge.providers.bedrock_features import FeatureTable
from aibridge.providers.bedrock_models import ModelNames
from aibridge.providers.renewal import CredentialSource, Found
from aibridge.providers.sigv4 import Keys
from aibridge.simulator import sigv4
from aibridge.simulator.values import Received
from aibridge.values import Actor, ClientRequest, Credential, CredentialKind, ResponseHead
from aibridge.wire import ChunkTranscoder

MESSAGES = DIALECTS["messages"]

HOST = "bedrock-runtime.eu-west-1.amazonaws.com"
MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
VERSION = b'"anthropic_version":"bedrock-2023-05-31"'


def build(**more):
    settings = {
        "name": "bedrock",
        "base_url": f"https://{HOST}",
        "authority": HOST,
        "region": "eu-west-1",
        "credentials": CredentialSource("bedrock", lambda: Found(Keys("AKIA6", "sesame", "session"), "test")),
        "credential_hint": "AK...A6",
        "bearer_token": None,
        "byok": True,
        "names": ModelNames(region="eu-west-1"),
        "features": FeatureTable(),
        "on_stripped": lambda _provider, _field: None,
        "send_actor_headers": False,
        "max_frame_bytes": 1 << 20,
    }
    return BedrockProvider(**{**settings, **more})


def request(body=b'{"model":"x"}', *headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ClientRequest(method="POST", path="/bedrock/v1/messages", query="beta=true", headers=headers, body=raw)


def interception(model=MODEL, *, streaming=True, actor="alice"):
    return an_interception(
        actor=Actor(actor), provider="bedrock", provider_kind="bedrock", model=model, upstream_model=model,
        streaming=streaming,
    )  # fmt: skip


async def prepared(provider, request, interception):
    said = {name: getattr(interception, name) for name in ("model", "upstream_model", "streaming")}
    reading = provider.read(request._replace(body=b'{"model":"m"}'), MESSAGES)
    reading = replace(reading, body=read_body(request.body), **said)
    missing = provider.missing(reading)
    if missing is not None:
        await missing
    return provider.prepare(request, reading, interception)


async def body_sent(body, *headers, model=MODEL):
    return (await prepared(build(), request(body, *headers), interception(model))).body


# the body


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b'{"model":"m","stream":true}', b""),
        (b'{"model":"m","max_tokens":10,"stream":true}', b'"max_tokens":10'),
        (b' { "z" : 1.50 , "model":"m","a":[ 1 ,2 ] }\n', b'"z" : 1.50,"a":[ 1 ,2 ]'),
        (b'{"big":123456789012345678901234567890,"exp":1E400,"neg":-0.0}',
         b'"big":123456789012345678901234567890,"exp":1E400,"neg":-0.0'),
        (b'{"s":"\\u00e9\\ud83d\\/ \xc3\xa9","model":"m"}', b'"s":"\\u00e9\\ud83d\\/ \xc3\xa9"'),
        (b'{"k":1,"k":2,"model":"m","model":"n","stream":false,"stream":true}', b'"k":1,"k":2'),
        (b'{"mod\\u0065l":"m","unknown_field":{"model":"stays","stream":true,"tags":1}}',
         b'"unknown_field":{"model":"stays","stream":true,"tags":1}'),
        (b'{"tags":{"team":"x"},"b":1}', b'"b":1'),
    ],
)  # fmt: skip
async def test_all_but_the_moved_members_stays_byte_for_byte(raw, kept):
    assert await body_sent(raw) == b"{" + (kept + b"," if kept else b"") + VERSION + b"}"


TEXT = st.text(st.characters(codec="utf-8"))
FIELDS = st.dictionaries(
    st.sampled_from(["messages", "system", "tools", "stop_sequences", "é", "x"])
    | TEXT.filter(lambda key: key not in MOVED),
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5
    ),
    max_size=5,
)
MOVED = {"model", "stream", "tags", "anthropic_version", "anthropic_beta"}


@settings(deadline=None, max_examples=60)
@given(fields=FIELDS, moved=st.sets(st.sampled_from(["model", "stream", "tags"])), ascii_only=st.booleans())
async def test_members_keep_their_order_and_text(fields, moved, ascii_only):
    body = {**dict.fromkeys(moved, "m"), **fields}
    raw = json.dumps(body, ensure_ascii=ascii_only).encode()
    sent = await body_sent(raw)
    assert list(json.loads(sent).items()) == [*fields.items(), ("anthropic_version", DEFAULT_VERSION)]
    for key, value in fields.items():
        assert json.dumps(key, ensure_ascii=ascii_only).encode() in sent
        assert json.dumps(value, ensure_ascii=ascii_only).encode() in sent


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("anthropic.claude-opus-4-7-v1:0", True),
        ("anthropic.claude-opus-4-7", True),
        ("us.anthropic.claude-opus-4-10-20270101-v1:0", True),
        ("anthropic.claude-sonnet-5-20270101-v1:0", True),
        ("anthropic.claude-sonnet-5", True),
        ("anthropic.claude-haiku-10-2", True),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-opus-4-8", True),
        ("anthropic.claude-opus-4-6-v1:0", False),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", False),
        ("anthropic.claude-sonnet-4-20250514-v1:0", False),
        ("anthropic.claude-opus-4-v1", False),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", False),
        ("anthropic.claude-v2:1", False),
        ("anthropic.claude-instant-v1", False),
        ("arn:aws:bedrock:eu-west-1:1:application-inference-profile/abc123", False),
        ("", False),
    ],
)
def test_which_models_take_the_new_version(model, takes):
    assert takes_new_version(model) is takes


NEW_MODEL = "anthropic.claude-opus-4-7-v1:0"


@pytest.mark.parametrize(
    ("said", "header", "model", "version"),
    [
        (None, None, MODEL, DEFAULT_VERSION),
        (None, b"2023-06-01", MODEL, DEFAULT_VERSION),
        (None, b"2023-06-01", NEW_MODEL, DEFAULT_VERSION),
        (None, NEW_VERSION.encode(), MODEL, DEFAULT_VERSION),
        (None, NEW_VERSION.encode(), NEW_MODEL, NEW_VERSION),
        (None, b" 2026-10-21 ", NEW_MODEL, NEW_VERSION),
        (None, b"2030-01-01", NEW_MODEL, DEFAULT_VERSION),
        ("bedrock-2099", NEW_VERSION.encode(), NEW_MODEL, "bedrock-2099"),
        (None, None, NEW_MODEL, DEFAULT_VERSION),
    ],
)
async def test_versions(said, header, model, version):
    headers = ((b"anthropic-version", header),) if header is not None else ()
    body = {"a": 1} if said is None else {"a": 1, "anthropic_version": said}
    assert json.loads(await body_sent(body, *headers, model=model)) == {"a": 1, "anthropic_version": version}


@pytest.mark.parametrize(
    ("said", "headers", "betas"),
    [
        (None, [], None),
        (None, [b""], None),
        (None, [b"a"], ["a"]),
        (None, [b" a , b,,a"], ["a", "b"]),
        (None, [b"a", b"b,a"], ["a", "b"]),
        (["z", "a"], [b"a,b"], ["z", "a", "b"]),
        ([], [b"b"], ["b"]),
        ("single", [b"b"], ["single", "b"]),
        ([{"odd": 1}, {"odd": 1}, 5, True, 1], [], [{"odd": 1}, 5, True, 1]),
        (None, [b"request-tags-2026-08-21"], None),
        (["request-tags-2026-08-21"], [b"a,request-tags-2026-08-21"], ["a"]),
        (None, [b"context-1m-2025-08-07,interleaved-thinking-2025-05-14"],
         ["context-1m-2025-08-07", "interleaved-thinking-2025-05-14"]),
    ],
)  # fmt: skip
async def test_betas_of_headers_and_body_become_one_list(said, headers, betas):
    body = {"a": 1} if said is None else {"a": 1, "anthropic_beta": said}
    sent = json.loads(await body_sent(body, *((b"anthropic-beta", value) for value in headers)))
    assert sent.pop("anthropic_version") == DEFAULT_VERSION
    assert json.dumps(sent) == json.dumps({"a": 1} if betas is None else {"a": 1, "anthropic_beta": betas})


async def test_a_long_list_of_betas_costs_no_more_than_its_length():
    betas = [f"b{number}" for number in range(50_000)]
    started = time.process_time()
    sent = await body_sent({"anthropic_beta": betas + betas})
    assert time.process_time() - started < 10, "looking each up in all before would take hours"
    assert json.loads(sent)["anthropic_beta"] == betas


# the path


@pytest.mark.parametrize(
    ("model", "encoded"),
    [
        (MODEL, "anthropic.claude-sonnet-4-5-20250929-v1%3A0"),
        ("eu.anthropic.claude-x", "eu.anthropic.claude-x"),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc",
            "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fabc",
        ),
        ("../../admin?x=1#y", "..%2F..%2Fadmin%3Fx%3D1%23y"),
        ("a%2fb c", "a%252fb%20c"),
        ("modèle", "mod%C3%A8le"),
    ],
)
@pytest.mark.parametrize(("streaming", "action"), [(True, "invoke-with-response-stream"), (False, "invoke")])
async def test_paths(model, encoded, streaming, action):
    sent = await prepared(build(), request(), interception(model, streaming=streaming))
    assert (sent.method, sent.origin, sent.target) == ("POST", f"https://{HOST}", f"/model/{encoded}/{action}")
    accept = b"application/vnd.amazon.eventstream" if streaming else b"application/json"
    assert (b"accept", accept) in sent.headers


MAPPED = build(
    names=ModelNames(
        region="eu-west-1",
        model_map={"claude-sonnet-4-5": MODEL, "anthropic.old": "anthropic.new"},
        default_model="anthropic.default",
    )
)


@pytest.mark.parametrize(
    ("provider", "model", "upstream"),
    [
        (MAPPED, "claude-sonnet-4-5", MODEL),
        (MAPPED, "anthropic.old", "anthropic.new"),
        (MAPPED, "us.anthropic.claude-x", "us.anthropic.claude-x"),
        (MAPPED, "arn:aws:bedrock:x", "arn:aws:bedrock:x"),
        (MAPPED, "claude-other", "anthropic.default"),
        (MAPPED, "", "anthropic.default"),
        (build(), "claude-other", "claude-other"),
        (build(), "anthropic.claude-x", "anthropic.claude-x"),
    ],
)
def test_models(provider, model, upstream):
    reading = provider.read(request({"model": model, "stream": True}), MESSAGES)
    assert (reading.model, reading.upstream_model, reading.streaming) == (model, upstream, True)


@pytest.mark.parametrize("model", ["", ".", "..", "...", None, 5, "\ud800", "a\0b"])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(RequestRejected) as refused:
        build().read(request({"model": model}), MESSAGES)
    assert (refused.value.reason, refused.value.status) == ("invalid_request", 400)


# headers and credentials


def verify(sent, *, secret="sesame", bearer=()):
    """Verify a request as AWS does; raises what AWS would answer."""
    headers = tuple((name.decode(), value.decode("latin-1")) for name, value in sent.headers)
    received = Received(method=sent.method, target=sent.target, headers=headers, body=sent.body)
    sessions = {"AKIA6": sigv4.Session(secret, "session", time.time() + 60)}
    sigv4.verify(received, sigv4.Credentials(bearer_tokens=bearer, sessions=sessions), time.time())


CLIENT_HEADERS = (
    (b"host", b"gateway"),
    (b"content-type", b"application/json; charset=utf-8"),
    (b"accept", b"text/event-stream"),
    (b"anthropic-version", b"2023-06-01"),
    (b"anthropic-beta", b"a"),
    (b"x-amz-date", b"20200101T000000Z"),
    (b"x-amz-security-token", b"forged"),
    (b"x-amz-anything", b"1"),
    (b"x-amzn-trace-id", b"Root=1"),
    (b"x-stainless-lang", b"python"),
    (b"user-agent", b"claude-cli/2"),
    (b"x-aibridge-key", b"gateway-key"),
    (b"content-length", b"99"),
)


@pytest.mark.parametrize(
    "model", [MODEL, "arn:aws:bedrock:eu-west-1:1:application-inference-profile/abc", "modèle ~ x", "a%2fb"]
)
async def test_aws_takes_the_signature(model):
    sent = await prepared(build(), request(b'{"model":"x","s":"\xc3\xa9"}', *CLIENT_HEADERS), interception(model))
    verify(sent)
    with pytest.raises(sigv4.Refusal):
        verify(sent, secret="another")


async def test_headers_each_once_and_none_of_amazons_from_the_client():
    sent = await prepared(build(), request(b"{}", *CLIENT_HEADERS), interception())
    names = [name for name, _ in sent.headers]
    assert len(names) == len(set(names))
    got = dict(sent.headers)
    assert set(got) == {
        b"host", b"content-type", b"accept", b"x-amz-date", b"x-amz-security-token", b"authorization",
        b"x-amzn-trace-id", b"x-stainless-lang", b"user-agent", b"content-length",
    }  # fmt: skip
    assert got[b"host"] == HOST.encode()
    assert got[b"x-amz-security-token"] == b"session"
    assert got[b"x-amz-date"] != b"20200101T000000Z"
    assert got[b"content-length"] == b"%d" % len(sent.body)
    assert b"sesame" not in b"".join(got.values())


async def test_behind_a_base_url_with_a_path_and_a_port():
    provider = build(base_url="http://127.0.0.1:9000/aws", authority="127.0.0.1:9000")
    sent = await prepared(provider, request(), interception())
    assert sent.target.startswith("/aws/model/")
    verify(sent)


@pytest.mark.parametrize("header", [(b"x-api-key", b"bedrock-key"), (b"authorization", b"Bearer bedrock-key")])
async def test_a_key_of_the_client_goes_as_a_bearer_token(header):
    asked = request(b'{"model":"m"}', header)
    assert build().read(asked, MESSAGES).credential.kind is CredentialKind.BYOK
    sent = await prepared(build(bearer_token="central"), asked, interception())
    assert [value for name, value in sent.headers if name == b"authorization"] == [b"Bearer bedrock-key"]
    assert not {b"x-api-key", b"x-amz-date", b"x-amz-security-token"} & {name for name, _ in sent.headers}
    verify(sent, bearer=("bedrock-key",))


async def test_without_byok_the_clients_key_stays():
    asked = request(b'{"model":"m"}', (b"x-api-key", b"own-key"))
    provider = build(byok=False)
    assert provider.read(asked, MESSAGES).credential == Credential(CredentialKind.CENTRALIZED, "AK...A6")
    sent = await prepared(provider, asked, interception())
    verify(sent)
    assert b"own-key" not in b"".join(value for _, value in sent.headers)


async def test_a_bearer_token_of_ours_stands_in_for_the_signature():
    sent = await prepared(build(bearer_token="central"), request(), interception())
    verify(sent, bearer=("central",))


REFUSED = ResponseHead(400, ((b"x-amzn-errortype", b"ValidationException"),))
WORDS = b'{"message":"novelty: Extra inputs are not permitted"}'


@pytest.mark.parametrize(
    ("settings", "headers", "bearer"),
    [
        ({}, (), ()),
        ({"bearer_token": "central-token"}, (), ("central-token",)),
        ({}, ((b"x-api-key", b"bedrock-key"),), ("bedrock-key",)),
        ({"base_url": "http://127.0.0.1:9000/aws", "authority": "127.0.0.1:9000"}, (), ()),
    ],
)
async def test_a_mended_request_is_signed_anew(settings, headers, bearer):
    counted = []
    provider = build(**settings, on_stripped=lambda *what: counted.append(what))
    asked = request(b'{"model":"m","novelty":1,"b":2}', *CLIENT_HEADERS, *headers)
    sent = await prepared(provider, asked, interception())
    mended = provider.mend(REFUSED, WORDS, sent, interception())
    verify(mended, bearer=bearer)
    assert mended.body == b'{"b":2,' + VERSION + b',"anthropic_beta":["a"]}'
    assert sorted(name for name, _ in mended.headers) == sorted(name for name, _ in sent.headers)
    assert dict(mended.headers)[b"content-length"] == b"%d" % len(mended.body)
    assert (mended.target, mended.origin, mended.credential) == (sent.target, sent.origin, sent.credential)
    assert counted == [("bedrock", "novelty")]
    assert (await prepared(provider, asked, interception())).body == mended.body, "the next one knows it"
    assert counted == [("bedrock", "novelty")] * 2


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (ResponseHead(403, REFUSED.headers), WORDS),
        (ResponseHead(500, REFUSED.headers), WORDS),
        (REFUSED, b""),
        (REFUSED, b"<html>novelty: Extra inputs are not permitted</html>"),
        (REFUSED, b'{"message":"another: Extra inputs are not permitted"}'),
    ],
)
async def test_other_refusals_are_not_mended(head, body):
    provider = build()
    sent = await prepared(provider, request(b'{"model":"m","novelty":1}'), interception())
    assert provider.mend(head, body, sent, interception()) is None


async def test_a_compressed_refusal_is_mended_too():
    provider = build()
    sent = await prepared(provider, request(b'{"model":"m","novelty":1}'), interception())
    head = ResponseHead(400, (*REFUSED.headers, (b"content-encoding", b"gzip")))
    assert provider.mend(head, gzip.compress(WORDS), sent, interception()) is not None


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", b"not gzip"),
        (b"br", b"whatever"),
        (b"gzip", gzip.compress(b" " * (1 << 22))),
    ],
)
def test_bodies_that_cannot_be_unpacked_are_without_words(coding, body):
    head = ResponseHead(503, ((b"content-encoding", coding),))
    status, told = build().error_answer(head, body)
    assert status == 503
    assert json.loads(told)["error"]["message"] == "the upstream answered with status 503"


async def test_no_credentials_are_told_clearly():
    def find():
        raise CredentialsError("no AWS credentials")

    provider = build(credentials=CredentialSource("bedrock", find))
    reading = provider.read(request(b'{"model":"m"}'), MESSAGES)
    with pytest.raises(CredentialsError, match="no AWS credentials"):
        await provider.missing(reading)


async def test_the_actor_is_told_only_where_asked_for():
    forged = (b"x-ai-bridge-actor-id", b"root")
    for told in (True, False):
        sent = await prepared(build(send_actor_headers=told), request(b"{}", forged), interception())
        verify(sent)
        actors = [value for name, value in sent.headers if name == b"x-ai-bridge-actor-id"]
        assert actors == ([b"alice"] if told else [])


def test_no_secret_is_shown():
    shown = repr(build(bearer_token="very-secret"))
    assert "very-secret" not in shown
    assert "sesame" not in shown


# answers


def test_headers_of_answers():
    head = ResponseHead(
        200,
        (
            (b"content-type", b"application/vnd.amazon.eventstream"),
            (b"x-amzn-requestid", b"aws-1"),
            (b"request-id", b"forged"),
            (b"x-amzn-bedrock-input-token-count", b"5"),
            (b"connection", b"keep-alive"),
        ),
    )
    provider = build()
    assert provider.upstream_request_id(head) == "aws-1"
    assert provider.response_headers(head) == (
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"request-id", b"aws-1"),
        (b"x-amzn-requestid", b"aws-1"),
        (b"x-amzn-bedrock-input-token-count", b"5"),
    )


def test_an_answer_that_says_nothing_of_itself():
    assert build().response_headers(ResponseHead(200, ())) == ((b"content-type", b"application/json"),)


def test_the_decoder():
    assert isinstance(build().decoder((), None), ChunkTranscoder)


@pytest.mark.parametrize(
    ("value", "told"), [(b"5", {"inputTokenCount": 5}), (b"", {}), (b"-1", {}), (b"9" * 5000, {}), ("٣".encode(), {})]
)
def test_counts_in_headers(value, told):
    head = ResponseHead(200, ((b"x-amzn-bedrock-input-token-count", value),))
    assert build().metrics_in(head) == told


@pytest.mark.parametrize("count", [b"-5", b"1.5", b"true", b'"7"', b"null"])
def test_what_is_no_count_is_not_told_as_one(count):
    with pytest.raises(RequestRejected) as refused:
        build().passthrough_answer(ResponseHead(200, ()), b'{"inputTokens":%b}' % count)
    assert refused.value.status == 502
