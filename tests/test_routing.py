"""The allow list: what is on it, and that nothing else gets through in disguise."""

import re
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aibridge.dialects import DIALECTS, ChatDialect
from aibridge.errors import RequestRejected
from aibridge.providers.router import Router, Target
from aibridge.routing import Action, OpenRoute, RouteTable
from aibridge.values import ClientRequest

ANTHROPIC = SimpleNamespace(name="anthropic", kind="anthropic")
EUROPE = SimpleNamespace(name="bedrock-eu.1", kind="bedrock")
OPENAI = SimpleNamespace(name="openai", kind="openai")
LOCAL = SimpleNamespace(name="local", kind="openai")
COPILOT = SimpleNamespace(name="copilot", kind="copilot")
MODELS = {"gpt-x": Target(OPENAI), "fast": Target(LOCAL, "qwen3:8b"), "claude-x": Target(ANTHROPIC, "claude-y")}
ALL = Router(name="all", models=MODELS, prefixes={"local/": Target(LOCAL, strip_prefix=True)})
ELSE = Router(name="else", default=Target(OPENAI, "gpt-x"), byok=True)
REPAIRING = ChatDialect(repair_done=True)
TABLE = RouteTable([ANTHROPIC, EUROPE, OPENAI, LOCAL, COPILOT], [ALL, ELSE], {"local": {"chat": REPAIRING}})

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
    trees = ["", "anthropic/", "anthropic/v1/models/", "anthropic/v1/messages"]
    trees += ["openai/", "openai/v1/responses/", "openai/v1/conversations/c/items/", "copilot/", "copilot/agents/"]
    for tree in trees:
        try:
            route = TABLE.resolve(method, f"/{tree}{tail}")
        except RequestRejected:
            continue
        expected = re.escape(route.pattern).replace(r"\{path\}", ".*")
        expected = re.sub(r"\\\{[a-z]+\\\}", "[^/]+", expected)
        assert re.fullmatch(expected + "/?", route.path, re.DOTALL)
        assert not any(part.startswith(".") for part in route.path.removeprefix("/.well-known").split("/"))
        assert not set(route.path) & set("%\\?#; \n\r\0")


# OpenAI's APIs

_I, _P = Action.INTERCEPT, Action.PASSTHROUGH

OF_OPENAI = [
    ("POST", "/v1/chat/completions", _I, "/v1/chat/completions", "chat"),
    ("POST", "/v1/responses", _I, "/v1/responses", "responses"),
    ("POST", "/v1/responses/compact", _I, "/v1/responses/compact", "responses"),
    ("POST", "/v1/responses/input_tokens", _P, "/v1/responses/input_tokens", "responses"),
    ("GET", "/v1/responses/resp_1", _P, "/v1/responses/{id}", "responses"),
    ("DELETE", "/v1/responses/resp_1", _P, "/v1/responses/{id}", "responses"),
    ("POST", "/v1/responses/resp_1/cancel", _P, "/v1/responses/{id}/cancel", "responses"),
    ("GET", "/v1/responses/resp_1/input_items", _P, "/v1/responses/{id}/input_items", "responses"),
    ("POST", "/v1/conversations", _P, "/v1/conversations", "responses"),
    ("GET", "/v1/conversations/conv_1", _P, "/v1/conversations/{id}", "responses"),
    ("POST", "/v1/conversations/conv_1", _P, "/v1/conversations/{id}", "responses"),
    ("DELETE", "/v1/conversations/conv_1", _P, "/v1/conversations/{id}", "responses"),
    ("GET", "/v1/conversations/conv_1/items", _P, "/v1/conversations/{id}/items", "responses"),
    ("POST", "/v1/conversations/conv_1/items", _P, "/v1/conversations/{id}/items", "responses"),
    ("GET", "/v1/conversations/conv_1/items/msg_1", _P, "/v1/conversations/{id}/items/{item}", "responses"),
    ("DELETE", "/v1/conversations/conv_1/items/msg_1", _P, "/v1/conversations/{id}/items/{item}", "responses"),
    ("GET", "/v1/models", _P, "/v1/models", "chat"),
    ("GET", "/v1/models/ft:gpt-4o:org::a1", _P, "/v1/models/{id}", "chat"),
]
OF_COPILOT = [
    ("POST", "/chat/completions", _I, "/chat/completions", "chat"),
    ("POST", "/responses", _I, "/responses", "responses"),
    ("POST", "/v1/messages", _I, "/v1/messages", "messages"),
    ("GET", "/_ping", _P, "/_ping", "chat"),
    ("GET", "/models", _P, "/models", "chat"),
    ("GET", "/models/gpt-x", _P, "/models/{id}", "chat"),
    ("POST", "/models/session", _P, "/models/session", "chat"),
    ("POST", "/models/gpt-x/policy", _P, "/models/{id}/policy", "chat"),
    ("POST", "/auto", _P, "/auto", "chat"),
    ("GET", "/agents", _P, "/agents/{path}", "chat"),
    ("POST", "/agents/swe/v1/jobs/owner/repo.name", _P, "/agents/{path}", "chat"),
    ("POST", "/mcp/", _P, "/mcp/{path}", "chat"),
    ("DELETE", "/mcp/readonly", _P, "/mcp/{path}", "chat"),
    ("GET", "/.well-known/oauth-protected-resource/mcp", _P, "/.well-known/{path}", "chat"),
]
OF_ALL = [(OPENAI, *row) for row in OF_OPENAI] + [(COPILOT, *row) for row in OF_COPILOT]


@pytest.mark.parametrize(("provider", "method", "path", "action", "pattern", "dialect"), OF_ALL)
def test_openai_and_copilot_are_allowed(provider, method, path, action, pattern, dialect):
    route = TABLE.resolve(method, f"/{provider.name}{path}")
    assert (route.provider, route.action, route.pattern, route.path) == (provider, action, pattern, path)
    assert route.dialect is DIALECTS[dialect]


@pytest.mark.parametrize("provider", [OPENAI, COPILOT], ids=lambda provider: provider.name)
def test_their_paths_with_other_methods_are_refused(provider):
    rows = [row[1:3] for row in OF_ALL if row[0] is provider]
    # two of them are both a name and an id
    known = {*rows, ("GET", "/v1/responses/compact"), ("DELETE", "/v1/responses/compact")}
    known |= {("GET", "/v1/responses/input_tokens"), ("DELETE", "/v1/responses/input_tokens")}
    known |= {("GET", "/models/session"), ("GET", "/auto")}
    known |= {
        (method, path) for _, path in rows for method in ("GET", "POST", "DELETE") if path[:4] in {"/age", "/mcp"}
    }
    for path in {path for _, path in rows}:
        for method in METHODS:
            if (method, path) not in known:
                assert_refused(method, f"/{provider.name}{path}")


@pytest.mark.parametrize(
    "path",
    [
        "/openai/chat/completions",
        "/openai/v1/chat/completions/",
        "/openai/v1/chat/completions/chatcmpl-1",
        "/openai/v1/completions",
        "/openai/v1/embeddings",
        "/openai/v1/files",
        "/openai/v1/organization/admin_api_keys",
        "/openai/v1/responses/",
        "/openai/v1/responses/a/b",
        "/openai/v1/responses/../files/cancel",
        "/openai/v1/responses/%2e%2e/cancel",
        "/openai/v1/responses/r%2f..%2f..%2ffiles/cancel",
        "/openai/v1/responses//cancel",
        "/openai/v1/responses/r/cancel/",
        "/openai/v1/conversations/c/items/../../x",
        "/copilot/v1/chat/completions",
        "/copilot/agents/../models",
        "/copilot/agents/.git",
        "/copilot/agents//x",
        "/copilot/agentsx",
        "/copilot/mcp/a%2f..",
        "/copilot/v1/messages/batches",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_their_disguises_are_refused(method, path):
    assert_refused(method, path)


@pytest.mark.parametrize("path", ["/openai/v1/responses", "/copilot/responses", "/all/v1/responses"])
def test_no_upgrade_is_done_where_clients_ask_for_one(path):
    with pytest.raises(RequestRejected) as refused:
        TABLE.resolve("GET", path, upgrade=True)
    assert (refused.value.reason, refused.value.status) == ("upgrade_refused", 426)
    assert_refused("GET", path)
    assert TABLE.resolve("POST", path, upgrade=True).action is Action.INTERCEPT
    with pytest.raises(RequestRejected) as refused:
        TABLE.resolve("GET", "/anthropic/v1/messages", upgrade=True)
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/openai/v1/embeddings", "chat"),
        ("/copilot/x", "chat"),
        ("/all/x", "chat"),
        ("/anthropic/v1/x", "messages"),
        ("/bedrock-eu.1", "messages"),
        ("/nobody/v1/chat/completions", "chat"),
        ("/chat/completions/", "chat"),
        ("/nobody/v1/responses", "responses"),
        ("/openai/v1/responses/a/b", "responses"),
        ("/openai/v1/conversations/a/b", "responses"),
        ("/copilot/v1/messages/batches", "messages"),
        ("/v1/messagesx", "messages"),
        ("/openai/v1/my-responses", "chat"),
        ("", "messages"),
        ("openai/x", "messages"),
    ],
)
def test_an_unknown_path_is_answered_in_the_api_that_it_looks_like(path, dialect):
    assert TABLE.dialect_of(path) is DIALECTS[dialect]


def test_a_provider_may_have_a_dialect_of_its_own():
    assert TABLE.resolve("POST", "/local/v1/chat/completions").dialect is REPAIRING
    assert TABLE.resolve("POST", "/local/v1/responses").dialect is DIALECTS["responses"]


# routers


def decide(path, body, *, method="POST", headers=()):
    route = TABLE.resolve(method, path)
    assert isinstance(route, OpenRoute)
    return TABLE.decide(route, ClientRequest(method=method, path=path, query="", headers=headers, body=body))


@pytest.mark.parametrize(
    ("path", "model", "provider", "sent"),
    [
        ("/v1/chat/completions", "gpt-x", OPENAI, "gpt-x"),
        ("/v1/chat/completions", "fast", LOCAL, "qwen3:8b"),
        ("/v1/responses", "local/a\\u0062", LOCAL, "ab"),
        ("/v1/responses/compact", "fast", LOCAL, "qwen3:8b"),
        ("/v1/responses/input_tokens", "fast", LOCAL, "qwen3:8b"),
        ("/v1/messages", "claude-x", ANTHROPIC, "claude-y"),
        ("/v1/messages/count_tokens", "claude-x", ANTHROPIC, "claude-y"),
    ],
)
def test_the_model_decides(path, model, provider, sent):
    body = b'{ "a":1.0, "model" : "%b", "z":[ ] }'
    route, request, asked_for = decide("/all" + path, body % model.encode())
    assert (route.provider, route.pattern, route.path) == (provider, path, path)
    assert request.body == body % sent.encode()
    assert asked_for == model.replace("\\u0062", "b")


def test_the_dialect_is_the_chosen_providers():
    assert decide("/all/v1/chat/completions", b'{"model":"fast"}')[0].dialect is REPAIRING
    assert decide("/all/v1/chat/completions", b'{"model":"gpt-x"}')[0].dialect is DIALECTS["chat"]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/chat/completions", "gpt-y"),
        ("/v1/chat/completions", ""),
        ("/v1/chat/completions", "claude-x"),
        ("/v1/messages", "gpt-x"),
        ("/v1/responses", "x" * 10_000),
    ],
)
def test_a_model_that_nobody_has_in_that_api(path, model):
    with pytest.raises(RequestRejected) as refused:
        decide("/all" + path, b'{"model":"%b"}' % model.encode())
    assert (refused.value.reason, refused.value.status) == ("unknown_model", 404)
    assert len(refused.value.message) < 400


def test_a_routed_body_has_to_be_json():
    with pytest.raises(RequestRejected) as refused:
        decide("/all/v1/responses", b"[1]")
    assert (refused.value.reason, refused.value.status) == ("invalid_json", 400)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/conversations", b'{ "items" : [] }'),
        ("POST", "/v1/responses/r_1/cancel", b""),
        ("GET", "/v1/responses/r_1", b""),
    ],
)
def test_what_names_no_model_goes_to_the_default_as_it_is(method, path, body):
    route, request, _ = decide("/else" + path, body, method=method)
    assert (route.provider, request.body) == (OPENAI, body)
    with pytest.raises(RequestRejected):
        decide("/all" + path, body, method=method)


def test_a_credential_goes_on_only_where_that_is_said():
    headers = ((b"authorization", b"Bearer own"), (b"x-api-key", b"own"), (b"api-key", b"own"), (b"a", b"b"))
    assert decide("/else/v1/responses", b'{"model":"m"}', headers=headers)[1].headers == headers
    assert decide("/all/v1/responses", b'{"model":"fast"}', headers=headers)[1].headers == ((b"a", b"b"),)
