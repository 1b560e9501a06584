"""The allow list: what is on it, and that nothing else gets through in disguise."""

from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aibridge.errors import RequestRejected
from aibridge.routing import Action, RouteTable

ANTHROPIC = SimpleNamespace(name="anthropic", kind="anthropic")
EUROPE = SimpleNamespace(name="bedrock-eu.1", kind="bedrock")
TABLE = RouteTable([ANTHROPIC, EUROPE])

ALLOWED = [
    ("POST", "/v1/messages", Action.INTERCEPT, "/v1/messages"),
    ("POST", "/v1/messages/count_tokens", Action.PASSTHROUGH, "/v1/messages/count_tokens"),
    ("GET", "/v1/models", Action.PASSTHROUGH, "/v1/models"),
    ("GET", "/v1/models/claude-sonnet-4-5", Action.PASSTHROUGH, "/v1/models/{id}"),
    ("GET", "/v1/models/anthropic.claude-v2:1", Action.PASSTHROUGH, "/v1/models/{id}"),
    ("GET", "/v1/models/claude@20250929", Action.PASSTHROUGH, "/v1/models/{id}"),
    ("HEAD", "/", Action.PASSTHROUGH, "/"),
]


@pytest.mark.parametrize("provider", [ANTHROPIC, EUROPE])
@pytest.mark.parametrize(("method", "path", "action", "pattern"), ALLOWED)
def test_allowed(provider, method, path, action, pattern):
    route = TABLE.resolve(method, f"/{provider.name}{path}")
    assert (route.provider, route.action, route.pattern, route.path) == (provider, action, pattern, path)


def test_the_probe_of_a_bare_provider():
    assert TABLE.resolve("HEAD", "/anthropic").path == "/"


def assert_refused(method, path):
    with pytest.raises(RequestRejected) as refused:
        TABLE.resolve(method, path)
    assert (refused.value.reason, refused.value.status) == ("unknown_route", 404)
    return refused.value


METHODS = ["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "POST ", ""]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (method, path)
        for method in METHODS
        for path in {path for _, path, _, _ in ALLOWED}
        if method not in {allowed for allowed, at, _, _ in ALLOWED if at == path}
    ],
)
def test_a_path_with_another_method_is_refused(method, path):
    assert_refused(method, f"/anthropic{path}")


SMUGGLED = [
    "",
    "/",
    "//",
    "*",
    "anthropic/v1/messages",
    "*anthropic/v1/messages",
    "http://gateway/anthropic/v1/messages",
    "//anthropic/v1/messages",
    "/anthropic//v1/messages",
    "/anthropic/v1//messages",
    "/anthropic/v1/messages/",
    "/anthropic/v1/messages//",
    "/anthropic/v1/messages\n",
    "/anthropic/v1/messages\0",
    "/anthropic/v1/messages ",
    "/anthropic/v1/messages#x",
    "/anthropic/v1/messages;x=1",
    "/anthropic/v1/messages%00",
    "/anthropic/v1/%6dessages",
    "/anthropic/v1/Messages",
    "/ANTHROPIC/v1/messages",
    "/anthropic/./v1/messages",
    "/anthropic/v1/../v1/messages",
    "/anthropic/v1/messages/../../v1/organizations/api_keys",
    "/anthropic/v1/messages/batches",
    "/anthropic/v1/complete",
    "/anthropic/v1/files",
    "/anthropic/v1/organizations/api_keys",
    "/anthropic/v1/models/",
    "/anthropic/v1/models/.",
    "/anthropic/v1/models/..",
    "/anthropic/v1/models/...",
    "/anthropic/v1/models/.hidden",
    "/anthropic/v1/models/%2e%2e",
    "/anthropic/v1/models/%2E%2E%2Forganizations",
    "/anthropic/v1/models/a/b",
    "/anthropic/v1/models/a%2fb",
    "/anthropic/v1/models/a\\..\\b",
    "/anthropic/v1/models/a\n",
    "/anthropic/v1/models/\uff41",
    "/anthropic\\v1\\messages",
    "/anthropic.v1/messages",
    "/anthropic/../anthropic/v1/messages",
    "/anthropic%2fv1/messages",
    "/nobody/v1/messages",
    "/v1/messages",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", SMUGGLED)
def test_disguises_are_refused(method, path):
    assert_refused(method, path)


def test_the_refusal_repeats_a_bounded_part_of_the_request():
    refusal = assert_refused("X" * 1000, "/" + "y" * 10_000)
    assert len(refusal.message) < 300


@given(st.sampled_from(["GET", "POST", "HEAD"]), st.text(st.characters(max_codepoint=0x17F), max_size=40))
@example("GET", "anthropic/v1/models/" + "a" * 5000)
def test_a_route_never_leads_outside_its_tree(method, tail):
    """Whatever comes: refused, or a path without a way up, an escape, or a second meaning."""
    for path in (f"/{tail}", f"/anthropic/{tail}", f"/anthropic/v1/models/{tail}", f"/anthropic/v1/messages{tail}"):
        try:
            route = TABLE.resolve(method, path)
        except RequestRejected:
            continue
        assert route.path in {"/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/"} or (
            route.path.startswith("/v1/models/") and route.path.count("/") == 3
        )
        assert ".." not in route.path.split("/")
        assert not set(route.path) & set("%\\?#; \n\r\0")
