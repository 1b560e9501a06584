"""Dumps as text: HTTP/1.1 that parses, bytes as they passed, and no credential in it."""

import re

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibridge.credentials import hint, is_secret_name
from aibridge.dumptext import LEFT_OUT, RENAMED, Redactor, head_text, request_text, secrets_in
from aibridge.values import Credential, CredentialKind, ResponseHead, UpstreamRequest

SECRET = "sk-ant-canary-0123456789"


def request(*headers, target="/v1/messages", body=b"{}", method="POST"):
    return UpstreamRequest(
        method=method,
        origin="http://upstream",
        target=target,
        headers=((b"host", b"upstream"), *headers, (b"content-length", b"%d" % len(body))),
        body=body,
        credential=Credential(CredentialKind.CENTRALIZED, ""),
    )


class Parsed:
    """What httptools makes of a text."""

    def __init__(self, text, parser):
        self.headers, self.body, self.url, self.complete = [], b"", b"", False
        self.parser = parser(self)
        self.parser.feed_data(text)

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.headers.append((name, value))

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.complete = True


def test_a_request_parses_and_is_whole():
    body = '{"text":"\N{SNOWMAN}\\r\\n"}'.encode()
    sent = request((b"anthropic-beta", b"a"), (b"anthropic-beta", b"b"), body=body, target="/v1/messages?beta=true")
    parsed = Parsed(request_text(sent, (), 1000), httptools.HttpRequestParser)
    assert parsed.complete
    assert parsed.body == body
    assert parsed.url == b"/v1/messages?beta=true"
    assert parsed.headers == [
        (b"host", b"upstream"),
        (b"anthropic-beta", b"a"),
        (b"anthropic-beta", b"b"),
        (b"content-length", b"%d" % len(body)),
    ]


def test_a_request_without_a_body_says_no_length():
    sent = UpstreamRequest(
        method="GET",
        origin="http://upstream",
        target="/v1/models",
        headers=((b"host", b"upstream"),),
        body=b"",
        credential=Credential(CredentialKind.CENTRALIZED, ""),
    )
    assert request_text(sent, (), 1000) == b"GET /v1/models HTTP/1.1\r\nhost: upstream\r\n\r\n"


def test_a_long_body_is_cut_and_still_parses():
    parsed = Parsed(request_text(request(body=b"x" * 100), (), 30), httptools.HttpRequestParser)
    assert parsed.complete
    assert parsed.body == b"x" * 30
    assert (LEFT_OUT, b"70") in parsed.headers


def test_a_large_body_is_whole_and_a_secret_across_its_slices_is_found():
    body = b"a" * (262_144 - 5) + SECRET.encode() + b"b" * 600_000
    sent = request((b"x-api-key", SECRET.encode()), body=body)
    parsed = Parsed(request_text(sent, secrets_in(sent), 1 << 24), httptools.HttpRequestParser)
    assert parsed.body == body.replace(SECRET.encode(), b"sk-a...6789")
    assert parsed.complete


@pytest.mark.parametrize("size", range(1, len(SECRET) + 1))
def test_a_body_cut_inside_a_secret_tells_no_more_than_its_hint(size):
    sent = request((b"x-api-key", SECRET.encode()), body=SECRET.encode() * 2)
    parsed = Parsed(request_text(sent, secrets_in(sent), size), httptools.HttpRequestParser)
    beginning = SECRET[:size]
    assert parsed.body == (hint(beginning) if size > 4 else beginning).encode()


@pytest.mark.parametrize("framing", [(b"transfer-encoding", b"chunked"), (b"content-length", b"12345")])
def test_an_answer_parses_to_the_end_of_the_text(framing):
    text = head_text(ResponseHead(200, ((b"content-type", b"text/event-stream"), framing)), ()) + b"event: ping\n\n"
    parsed = Parsed(text, httptools.HttpResponseParser)
    assert parsed.parser.get_status_code() == 200
    assert parsed.body == b"event: ping\n\n"
    assert parsed.headers == [(b"content-type", b"text/event-stream"), (RENAMED + framing[0], framing[1])]


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "x-api-key", "api-key", "x-auth-token", "cookie", "proxy-authorization",
        "x-amz-security-token", "set-cookie", "www-authenticate", "proxy-authenticate", "cf-access-client-secret",
        "ocp-apim-subscription-key", "x-goog-api-key", "X-Amz-Signature", "X-Amz-Credential", "access_token", "apiKey",
        "key", "sig", "password", "x-pass", "otp", "x-pin", "x-csrf", "x-anthropic-auth", "idempotency-key",
    ],
)  # fmt: skip
def test_names_of_secrets(name):
    assert is_secret_name(name.encode())


@pytest.mark.parametrize(
    "name",
    [
        "host", "content-type", "anthropic-version", "anthropic-beta", "user-agent", "x-stainless-retry-count",
        "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-input-tokens-limit", "request-id", "x-amz-date",
        "x-amzn-bedrock-input-token-count", "x-amzn-requestid", "beta", "limit", "after_id", "x-ai-bridge-actor-id",
        "monkey", "signal", "author", "bypass", "path", "compat", "pins",
    ],
)  # fmt: skip
def test_names_of_no_secrets(name):
    assert not is_secret_name(name.encode())


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        (b"x-api-key", SECRET, "sk-a...6789"),
        (b"authorization", f"Bearer {SECRET}", "Bearer sk-a...6789"),
        (b"authorization", f"Basic {SECRET}", "Basic sk-a...6789"),
        (b"authorization", SECRET, "sk-a...6789"),
        (b"authorization", f"AWS4-HMAC-SHA256 Credential={SECRET}/x, Signature=abcdef", "AWS4-HMAC-SHA256 Cred...cdef"),
        (b"cookie", f"a={SECRET}; b=c; session=d", "a=sk...on=d"),
        (b"x-amz-security-token", SECRET * 30, "sk-a...6789"),
        (b"x-api-key", "tiny", "..."),
    ],
)
def test_credentials_are_cut_to_their_hints(name, value, shown):
    sent = request((name, value.encode()), (name, value.encode()))
    text = request_text(sent, secrets_in(sent), 1000).decode()
    assert SECRET not in text
    assert text.count(f"{name.decode()}: {shown}\r\n") == 2, "each of several values"


def test_secrets_in_a_query_are_cut_to_their_hints():
    target = f"/v1/models?beta=true&api_key={SECRET}&X-Amz-Signature={SECRET}&limit=3&flag&token="
    sent = request(target=target, method="GET")
    text = request_text(sent, secrets_in(sent), 1000)
    hidden = b"/v1/models?beta=true&api_key=sk-a...6789&X-Amz-Signature=sk-a...6789&limit=3&flag&token="
    assert text.startswith(b"GET " + hidden + b" HTTP/1.1\r\n")


def test_a_name_that_is_written_oddly_is_known():
    target = f"/v1/models?a=b;token={SECRET}&api%5Fkey={SECRET}#access_token={SECRET}"
    sent = request(target=target, body=SECRET.encode())
    text = request_text(sent, secrets_in(sent), 1000).decode()
    assert SECRET not in text
    assert "?a=b;token=sk-a...6789&api%5Fkey=sk-a...6789#access_token=sk-a...6789 " in text


def test_secrets_in_a_header_that_holds_a_url_are_cut_to_their_hints():
    sent = request((b"referer", f"https://h/p?api_key={SECRET}&limit=3".encode()), body=SECRET.encode())
    text = request_text(sent, secrets_in(sent), 1000).decode()
    assert SECRET not in text
    assert "referer: https://h/p?api_key=sk-a...6789&limit=3\r\n" in text
    came = ResponseHead(302, ((b"location", f"/login?next=/&token={SECRET}#x".encode()),))
    assert b"location: /login?next=/&token=sk-a...6789#x\r\n" in head_text(came, ())


def test_a_body_that_repeats_its_credential_does_not():
    sent = request((b"x-api-key", SECRET.encode()), body=f'{{"key":"{SECRET}"}}'.encode())
    parsed = Parsed(request_text(sent, secrets_in(sent), 1000), httptools.HttpRequestParser)
    assert parsed.body == b'{"key":"sk-a...6789"}'
    assert parsed.complete


def test_no_header_breaks_its_line():
    text = head_text(ResponseHead(200, ((b"x-odd", b"a\r\nset-cookie: b\nc\0d"),)), ())
    assert text == b"HTTP/1.1 200 \r\nx-odd: a  set-cookie: b c d\r\n\r\n"


# secrets across pieces

SECRETS = (b"abcabd-secret", b"aab-secret", b"secret-secret")


def redacted(pieces, secrets=SECRETS):
    redactor = Redactor(secrets)
    return b"".join([*(redactor.feed(piece) for piece in pieces), redactor.end()])


@pytest.mark.parametrize("at", range(len(b"say abcabd-secret now") + 1))
def test_a_secret_across_two_pieces_is_found(at):
    text = b"say abcabd-secret now"
    assert redacted([text[:at], text[at:]]) == b"say ab...et now"


def test_a_piece_of_a_secret_at_the_end_is_hidden_too():
    assert redacted([b"say abcabd-sec"]) == b"say ab...ec"
    assert redacted([b"say abc"]) == b"say abc"


@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"-", b"secret", b"c", b"d", *SECRETS]), max_size=40), st.data())
def test_pieces_do_not_matter(words, data):
    """However the bytes are cut, no secret passes, and what holds none passes as it is."""
    text = b"".join(words) + b"."
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown = redacted(pieces)
    assert not any(secret in shown for secret in SECRETS)
    if not any(secret in text for secret in SECRETS):
        assert shown == text


@given(st.binary(max_size=300), st.integers(1, 50))
def test_without_secrets_bytes_pass(text, size):
    assert redacted(re.findall(b"(?s).{1,%d}" % size, text), ()) == text
