"""The configuration: what it takes, what it refuses and in which words, and that it keeps secrets."""

import hashlib
import json
import logging
import traceback
from pathlib import Path

import pytest

from aibridge import config
from aibridge.errors import ConfigError
from aibridge.headers import CREDENTIALS, HOP_BY_HOP

ROLE = "arn:aws:iam::123456789012:role/bedrock"
SECRET = "sk-ant-do-not-tell"


@pytest.fixture
def load(tmp_path):
    def load(text, **environ):
        path = tmp_path / "aibridge.yaml"
        # That an open gateway on all addresses must be meant is tested with `raw_load`; other tests need not say it.
        if text.startswith(("providers", "listen")) and "auth:" not in text and "host:" not in text:
            text += "\nauth: {mode: open}\n"
        path.write_text(text, encoding="utf-8")
        return config.load(path, environ)

    return load


@pytest.fixture
def raw_load(tmp_path):
    """Load a file as it is."""

    def raw_load(text):
        path = tmp_path / "raw.yaml"
        path.write_text(text, encoding="utf-8")
        return config.load(path, {})

    return raw_load


@pytest.fixture
def mistakes(load):
    """The lines of the error that a file gives."""

    def mistakes(text, **environ):
        with pytest.raises(ConfigError) as caught:
            load(text, **environ)
        return str(caught.value).splitlines()

    return mistakes


MINIMAL = "providers: {anthropic: {}}\n"


# --- a file ---------------------------------------------------------------------------------------------------------


def test_a_minimal_file_has_the_documented_defaults(load):
    loaded = load(MINIMAL)
    assert (loaded.listen.host, loaded.listen.port) == ("0.0.0.0", 8080)
    assert (loaded.admin.host, loaded.admin.port) == ("127.0.0.1", 8081)
    assert loaded.providers["anthropic"].base_url == "https://api.anthropic.com"
    assert loaded.providers["anthropic"].byok
    assert loaded.limits.max_request_bytes == 32 * 1024 * 1024
    assert loaded.limits.max_frame_bytes == 16 * 1024 * 1024
    assert loaded.timeouts.idle == 300
    assert loaded.drain_deadline == 30
    assert loaded.records.path == Path("aibridge.db")
    assert not loaded.simulated


def test_everything_can_be_said(load, tmp_path):
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("")
    loaded = load(f"""
        listen: {{host: "::1", port: 9000}}
        admin: {{host: 0.0.0.0, port: 9001}}
        providers:
          anthropic: {{api_key: {SECRET}, byok: false, send_actor_headers: true}}
          claude-eu:
            kind: bedrock
            region: eu-west-1
            access_key_id: AKIA
            secret_access_key: hush
            session_token: hush-hush
            role_arn: arn:aws-us-gov:iam::123456789012:role/path/bedrock
            external_id: hush-partner
            session_name: gateway@host
            session_tags: {{team: a b}}
            model_map: {{claude: eu.anthropic.claude-v1:0}}
            default_model: eu.anthropic.claude-v2:0
            timeouts: {{response: 900}}
        auth: {{keys: [{{name: alice, key: open-sesame}}]}}
        limits: {{max_request_bytes: 1MiB, max_frame_bytes: 24MiB, client_buffer_bytes: 4096, max_connections: 10}}
        timeouts: {{connect: 1.5, response: 2, idle: 3, client_stall: 4, ping: 5, keep_alive_upstream: 6}}
        drain_deadline: 1
        tls: {{ca_file: {ca_file}, verify: false}}
        proxy: {{from_environment: false, url: "http://user:pass@proxy:3128"}}
        records: {{path: /tmp/x.db, enabled: false, fsync: never, on_failure: fail_closed, journal_max_bytes: 1MiB}}
        log: {{level: DEBUG}}
        metrics: {{max_models: 0}}
        tracing: {{}}
    """)
    assert loaded.limits.max_request_bytes == 1024 * 1024
    assert loaded.providers["claude-eu"].secret_access_key.get_secret_value() == "hush"
    assert loaded.timeouts_for("claude-eu").response == 900
    assert loaded.timeouts_for("claude-eu").idle == 3
    assert loaded.timeouts_for("anthropic") == loaded.timeouts
    assert loaded.log.level == "debug"
    assert loaded.known_models() == {"claude", "eu.anthropic.claude-v1:0", "eu.anthropic.claude-v2:0"}


def test_all_mistakes_are_told_at_once_each_with_its_key(mistakes):
    lines = mistakes("""
        listen: {port: 99999}
        providers:
          bedrock: {regoin: eu-west-1}
          Upper: {kind: anthropic}
          other: {kind: azure}
        limits: {max_frame_bytes: 25MiB}
        timeouts: {idle: 0}
        log: {level: loud}
    """)
    assert lines == [
        "listen.port: should be less than or equal to 65535",
        "providers.bedrock.regoin: unknown key; did you mean 'region'?",
        "providers.Upper: a provider's name holds only lower-case letters, digits and single hyphens",
        "providers.other.kind: should be one of anthropic, bedrock, openai, copilot",
        "limits.max_frame_bytes: should be less than or equal to 25165824",
        "timeouts.idle: should be greater than 0",
        "log.level: should be 'debug', 'info', 'warning' or 'error'",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lisen: {}", "lisen: unknown key; did you mean 'listen'?"),
        ("limits: {max_conections: 1}", "limits.max_conections: unknown key; did you mean 'max_connections'?"),
        ("auth: {keys: [{name: a, key: b, kee: c}]}", "auth.keys.0.kee: unknown key; did you mean 'key'?"),
        ("zzz: 1", "zzz: unknown key"),
        ("simulated: true", "simulated: unknown key"),
        ("listen: {port: x}", "listen.port: should be a valid integer, unable to parse string as an integer"),
        ("auth: {keys: [{name: a}]}", "auth.keys.0.key: is needed"),
        (
            "admin: {keys: [{name: a, key: short-of-sixteen}, {name: b, key: x}]}",
            "admin.keys.1.key: should have 16 characters or more",
        ),
        (
            "admin: {keys: [{name: a, key: sixteen-or-more-1}, {name: a, key: sixteen-or-more-2}]}",
            "admin.keys: two keys have the same name",
        ),
        ("auth: {keys: [{name: a, key: x}, {name: a, key: y}]}", "auth.keys: two keys have the same name"),
        ("auth: {keys: [{name: a, key: x}, {name: b, key: x}]}", "auth.keys: two names have the same key"),
        ("tls: {ca_file: /nowhere}", "tls.ca_file: Path does not point to a file"),
        ("listen: {port: 81}\nadmin: {port: 81}", "listen.port and admin.port should differ"),
        ("dump: {path: d, max_total_bytes: 1MiB}", "dump: max_total_bytes should not be below max_body_bytes"),
        ("dump: {paht: d}", "dump.paht: unknown key; did you mean 'path'?"),
        ("proxy: {url: 'socks://h'}", "proxy.url: should be an http:// or https:// URL with a host"),
    ],
)
def test_a_mistake_is_named(mistakes, text, line):
    assert mistakes(MINIMAL + text) == [line]


@pytest.mark.parametrize(
    ("provider", "line"),
    [
        ("anthropic: {region: x}", "providers.anthropic.region: unknown key here; it belongs to kind 'bedrock'"),
        ("anthropic: {byok: false}", "providers.anthropic: api_key is needed where byok is off"),
        ("anthropic: {api_key: 'a b'}", "providers.anthropic.api_key: should be printable ASCII without blanks"),
        ("anthropic: {base_url: example.com}", "should be an http:// or https:// URL with a host"),
        ("anthropic: {base_url: 'http://u:p@h'}", "providers.anthropic.base_url: should hold no credentials"),
        ("anthropic: {base_url: 'http://h/?a=b'}", "should have no query and no fragment"),
        ("anthropic: {base_url: 'http://h:port'}", "providers.anthropic.base_url: should be a URL"),
        ("anthropic: {timeouts: {conect: 1}}", "providers.anthropic.timeouts.conect: unknown key; did you mean 'conn"),
        (
            "anthropic: {circuit_breaker: {enabeld: true}}",
            "circuit_breaker.enabeld: unknown key; did you mean 'enabled",
        ),
        ("anthropic: {circuit_breaker: {failures: 0}}", "anthropic.circuit_breaker.failures: should be greater than 0"),
        ("anthropic: {circuit_breaker: {timeout: 0}}", "anthropic.circuit_breaker.timeout: should be greater than 0"),
        ("anthropic: {api_key: a, api_keys: [{key: b}]}", "providers.anthropic: give one of api_key and api_keys"),
        ("anthropic: {key_choice: spread}", "providers.anthropic: key_choice is of no use without api_keys"),
        ("anthropic: {api_keys: [{key: a, weight: 2}]}", "weight is of no use without `key_choice: spread`"),
        ("anthropic: {api_keys: [{key: a, weight: 0}]}", "anthropic.api_keys.0.weight: should be greater than 0"),
        ("anthropic: {api_keys: [{key: a, name: n}, {key: b, name: n}]}", "two of api_keys have the same name"),
        ("anthropic: {api_keys: [{key: a}, {key: a, name: n}]}", "anthropic: two of api_keys are the same"),
        ("anthropic: {api_keys: [{key: a, name: 'a b'}]}", "providers.anthropic.api_keys.0.name: String should match"),
        ("anthropic: {api_keys: [{name: n}]}", "providers.anthropic.api_keys.0.key: is needed"),
        ("anthropic: {api_keys: [{key: ''}]}", "providers.anthropic.api_keys.0.key: should not be empty"),
        ("openai: {api_keys: [{key: a}], key_choice: any}", "openai.key_choice: should be 'primary' or 'spread'"),
        ("a: {}", "providers.a.kind: should be one of anthropic, bedrock, openai, copilot"),
        ("openai: {byok: false}", "providers.openai: api_key is needed where byok is off; a server that asks for none"),
        ("openai: {region: x}", "providers.openai.region: unknown key here; it belongs to kind 'bedrock'"),
        ("openai: {usage: always}", "providers.openai.usage: should be 'ask' or 'leave'"),
        ("openai: {api_key_header: 'a b'}", "providers.openai.api_key_header: should be the name of a header"),
        ("openai: {api_key_header: cookie}", "should be another header: cookie has a meaning of its own"),
        ("openai: {headers: {Authorization: x}}", "should be another header: authorization has a meaning of its own"),
        ("openai: {headers: {x-title: ' '}}", "providers.openai.headers.x-title: should not be empty"),
        ('openai: {headers: {x-title: "a\\nb"}}', "providers.openai.headers.x-title: should be printable ASCII"),
        ("openai: {headers: {x-k: a}, api_key_header: X-K}", "providers.openai: headers: x-k is the place of api_key"),
        ("openai: {query: {api-version: [1]}}", "providers.openai.query.api-version: should be a valid string"),
        ("copilot: {api_key: x}", "providers.copilot.api_key: unknown key here; it belongs to kind 'anthropic'"),
        ("a: text", "providers.a"),
        ("bedrock: {}", "providers.bedrock: region is needed (or AWS_REGION in the environment, or base_url)"),
        ("bedrock: {region: r, access_key_id: a}", "access_key_id and secret_access_key are given together"),
        ("bedrock: {region: r, secret_access_key: a}", "access_key_id and secret_access_key are given together"),
        ("bedrock: {region: r, session_token: a}", "session_token is of no use without access_key_id"),
        ("bedrock: {region: r, profile: p, bearer_token: b}", "give one of access_key_id, profile and bearer_token"),
        ("bedrock: {region: r, external_id: e}", "session_tags are of no use without role_arn"),
        ("bedrock: {region: r, session_name: aibridge}", "session_tags are of no use without role_arn"),
        (f"bedrock: {{region: r, bearer_token: b, role_arn: '{ROLE}'}}", "role_arn is of no use with bearer_token"),
        ("bedrock: {region: r, role_arn: role/x}", "providers.bedrock.role_arn: String should match pattern"),
        (f"bedrock: {{region: r, role_arn: '{ROLE}', session_name: a b}}", "session_name: String should match"),
        (f"bedrock: {{region: r, role_arn: '{ROLE}', session_tags: {{'': b}}}}", "session_tags.: String should have"),
        ("a--b: {kind: anthropic}", "a provider's name holds only"),
        ("-a: {kind: anthropic}", "a provider's name holds only"),
    ],
)
def test_a_provider_is_checked(mistakes, provider, line):
    [found] = mistakes(f"providers:\n  {provider}\n")
    assert line in found


def test_no_providers_at_all_are_refused(mistakes):
    assert mistakes("providers: {}") == ["providers: at least one is needed"]
    assert mistakes("") == ["providers: none is configured, and the environment holds no credential for one"]


def test_a_file_without_providers_takes_them_from_the_environment(load):
    loaded = load("listen: {port: 1234}", ANTHROPIC_API_KEY=SECRET)
    assert list(loaded.providers) == ["anthropic"]
    assert loaded.listen.port == 1234


def test_the_region_may_come_from_the_environment(load):
    assert load("providers: {bedrock: }", AWS_REGION="eu-west-1").providers["bedrock"].region == "eu-west-1"
    assert load("providers: {bedrock: }", AWS_DEFAULT_REGION="eu-west-2").providers["bedrock"].region == "eu-west-2"
    assert load("providers: {bedrock: {region: x}}", AWS_REGION="eu-west-1").providers["bedrock"].region == "x"
    beside_url = load("providers: {bedrock: {base_url: 'http://h'}}", AWS_REGION="eu-west-1")
    assert beside_url.providers["bedrock"].region == "eu-west-1"
    assert load("providers: {bedrock: {base_url: 'http://h/'}}").providers["bedrock"].region == "us-east-1"


def test_the_kind_is_told_by_the_name_where_it_can_be(load):
    loaded = load("providers: {anthropic: , spare: {kind: anthropic, base_url: 'https://h/v/'}}")
    assert loaded.providers["spare"].base_url == "https://h/v"


# --- variables in a file --------------------------------------------------------------------------------------------


def test_variables_are_filled_in(load):
    loaded = load(
        "providers: {anthropic: {api_key: '${KEY}', base_url: 'https://${HOST:-example.com}/${PATH_:-}'}}\n"
        "listen: {port: '${PORT:-1234}'}\nlog: {level: '${LEVEL:-}'}",
        KEY=SECRET + "\n",
    )
    assert loaded.providers["anthropic"].api_key.get_secret_value() == SECRET
    assert loaded.providers["anthropic"].base_url == "https://example.com"
    assert loaded.listen.port == 1234
    assert loaded.log.level == "info"


def test_a_missing_variable_is_named_with_its_key(mistakes):
    text = "providers: {anthropic: {api_key: '${KEY}', base_url: '${URL}'}}\nauth: {keys: [{name: a, key: '${K}'}]}"
    assert mistakes(text, URL="") == [
        "providers.anthropic.api_key: the environment variable KEY is not set",
        "providers.anthropic.base_url: the environment variable URL is empty",
        "auth.keys.0.key: the environment variable K is not set",
    ]


def test_missing_variables_and_other_mistakes_are_told_together(mistakes):
    lines = mistakes("providers: {anthropic: {api_key: '${KEY}'}}\nlisten: {prot: 1}")
    assert lines == [
        "providers.anthropic.api_key: the environment variable KEY is not set",
        "listen.prot: unknown key; did you mean 'port'?",
    ]


def test_a_dollar_can_be_written(load):
    loaded = load("providers: {anthropic: {api_key: '$${KEY}$x'}}")
    assert loaded.providers["anthropic"].api_key.get_secret_value() == "${KEY}$x"


def test_a_malformed_reference_is_refused(mistakes):
    assert mistakes("providers: {anthropic: {api_key: '${A B}'}}") == [
        "providers.anthropic.api_key: should be ${NAME} or ${NAME:-default}"
    ]


# --- fallbacks ------------------------------------------------------------------------------------------------------

FOUR = """\
auth: {mode: open}
providers:
  anthropic: {api_key: k, fallbacks: %s}
  bedrock: {region: us-east-1, fallbacks: [{provider: anthropic, model: claude-x}]}
  openai: {api_key: k}
  copilot: {}
"""


def test_fallbacks_are_read_and_may_name_each_other(load):
    loaded = load(FOUR % "[{provider: bedrock}, {provider: anthropic, model: claude-y}]")
    first, second = loaded.providers["anthropic"].fallbacks
    assert (first.provider, first.model, second.provider, second.model) == ("bedrock", None, "anthropic", "claude-y")
    assert loaded.known_models() >= {"claude-x", "claude-y"}
    assert "circuit_open" in loaded.providers["anthropic"].failover.causes


@pytest.mark.parametrize(
    ("fallbacks", "part"),
    [
        ("[{provider: nobody}]", "providers.anthropic.fallbacks: no provider is named 'nobody'"),
        ("[{provider: openai}]", "openai is of kind openai, which speaks another API than anthropic"),
        ("[{provider: copilot}]", "what is of kind copilot takes no other credential than its client's"),
        ("[{provider: anthropic}]", "anthropic is the provider itself, and needs the name of another model"),
        ("[{provider: bedrock}, {provider: bedrock}]", "bedrock is there twice"),
        ("[{provider: bedrock, modle: x}]", "did you mean 'model'?"),
        ("[bedrock]", "providers.anthropic.fallbacks.0: should be"),
    ],
)
def test_a_fallback_is_checked(mistakes, fallbacks, part):
    (found,) = mistakes(FOUR % fallbacks)
    assert part in found


@pytest.mark.parametrize(
    ("failover", "part"),
    [
        ("{statuses: [529, 404]}", "404 says what is wrong with the request"),
        ("{statuses: [200]}", "greater than or equal to 400"),
        ("{causes: [truncated]}", "causes"),
    ],
)
def test_what_falls_over_is_checked(mistakes, failover, part):
    (found,) = mistakes(f"auth: {{mode: open}}\nproviders: {{anthropic: {{api_key: k, failover: {failover}}}}}\n")
    assert part in found


# --- what is no configuration ---------------------------------------------------------------------------------------


def test_a_file_that_is_not_there():
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load("/nowhere/aibridge.yaml", {})


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        config.load(path, {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a\n- b", "should be a mapping of keys to values"),
        ("a: [", "line 1"),
        ("listen: {}\nlisten: {}", "line 2, column 1: a key is written twice"),
        ("a: {{ name }}", "line 1, column 5: a key should be text"),
        ("? [a, b]\n: c", "a key should be text"),
        ("a: 2026-13-45", "put it in quotes"),
        ("a: &a\n  b: *a", "is nested too deep"),
        ("a: *sk-ant-do-not-tell", "found undefined alias"),
        ("a: !sk-ant-do-not-tell", "could not determine a constructor for the tag"),
    ],
)
def test_a_file_that_is_not_a_mapping(mistakes, text, problem):
    [line] = mistakes(text)
    assert problem in line
    assert SECRET not in line


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"providers: {{anthropic: {{api_key: [{SECRET}]}}}}",
        f"providers: {{anthropic: {{api_key: 'ä{SECRET}'}}}}",
        f"providers: {{anthropic: {{api_key: {{k: {SECRET}}}}}}}",
        f"providers: {{anthropic: {SECRET}}}",
        f"providers: {{bedrock: {{region: r, secret_access_key: {SECRET}}}}}",
        f"providers: {{anthropic: {{base_url: 'http://u:{SECRET}@h'}}}}",
        f"{MINIMAL}proxy: {{url: 'ftp://u:{SECRET}@h'}}",
        f"{MINIMAL}auth: {{keys: [{{name: a, key: {SECRET}}}, {{name: a, key: {SECRET}}}]}}",
        f"{MINIMAL}auth: {{keys: {SECRET}}}",
        f"{MINIMAL}listen: {{port: {SECRET}}}",
        f"{MINIMAL}auth: {{keys: [{{{SECRET}-1: alice}}]}}",
        f"providers: {{anthropic: {{api_key={SECRET}: 1}}}}",
        f"providers: {{anthropic: {{api_key: !!int {SECRET}}}}}",
        f"providers: {{anthropic: {{api_key: !!timestamp {SECRET}}}}}",
        f"providers: {{anthropic: {{api_key: !!bool {SECRET}}}}}",
    ],
)
def test_no_error_tells_a_secret_not_even_its_traceback(load, text):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_configuration_shows_no_secret(load, caplog):
    loaded = load(f"""
        providers:
          anthropic: {{api_key: {SECRET}}}
          bedrock: {{region: r, bearer_token: {SECRET}-2}}
        auth: {{keys: [{{name: a, key: {SECRET}-3}}]}}
        proxy: {{url: "http://u:{SECRET}@h"}}
    """)
    described = config.describe(loaded)
    with caplog.at_level(logging.INFO):
        logging.getLogger("aibridge").info("starting %s", loaded)
    shown = [repr(loaded), str(loaded), json.dumps(described), loaded.model_dump_json(), str(loaded.model_dump())]
    assert SECRET not in "".join([*shown, caplog.text])
    assert described["providers"]["anthropic"]["api_key"] == "**********"


def test_a_configuration_is_frozen(load):
    loaded = load(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        loaded.listen.port = 1


@pytest.mark.parametrize("off", ["off", "'off'", "false"])
def test_off_is_off_as_yaml_reads_it(load, off):
    providers = f"providers: {{anthropic: {{content: {{prompts: {off}}}}}}}"
    loaded = load(f"{providers}\nrecords: {{content: {{prompts: full, thoughts: {off}}}}}")
    content, own = loaded.records.content, loaded.providers["anthropic"].content
    assert (content.prompts, content.arguments, content.thoughts) == ("full", "off", "off")
    assert (own.prompts, own.arguments) == ("off", None)


@pytest.mark.parametrize(
    "text",
    [
        "providers: {anthropic: {}}\nrecords: {content: {prompts: hashed}}",
        "providers: {anthropic: {content: {arguments: hashed}}}",
        "providers: {anthropic: {}}\nauth: {keys: [{name: a, key: b, content: {thoughts: hashed}}]}",
    ],
)
def test_what_is_hashed_needs_a_key(mistakes, load, text):
    assert mistakes(text) == ["records.content.hash_key is needed where something is hashed"]
    keyed = text.replace("content: {prompts: hashed", "content: {hash_key: k, prompts: hashed")
    if keyed == text:
        keyed += "\nrecords: {content: {hash_key: k}}"
    assert load(keyed).records.content.hash_key.get_secret_value() == "k"


@pytest.mark.parametrize("word", ["on", "yes", "none", "FULL", "hash"])
def test_what_is_no_policy_is_refused(mistakes, word):
    (line,) = mistakes(f"providers: {{anthropic: {{}}}}\nrecords: {{content: {{prompts: {word}}}}}")
    assert line == "records.content.prompts: should be 'full', 'hashed' or 'off'"


@pytest.mark.parametrize(("days", "fine"), [("90", True), ("0.5", True), ("0", False), ("-1", False), (".inf", False)])
def test_retention(load, mistakes, days, fine):
    text = f"providers: {{anthropic: {{}}}}\nrecords: {{retention_days: {days}}}"
    if fine:
        assert load(text).records.retention_days == float(days)
    else:
        assert mistakes(text)[0].startswith("records.retention_days: ")


# --- no file --------------------------------------------------------------------------------------------------------


def test_nothing_at_all_is_simulated():
    built = config.from_environment({"HOME": "/home/me"})
    assert built.simulated
    assert list(built.providers) == ["anthropic", "bedrock", "openai"]
    assert built.listen.host == "127.0.0.1"
    assert built.records.path == Path("/home/me/.local/state/aibridge/simulated.db")
    simulated = built.with_simulator("http://127.0.0.1:4711/")
    assert {name: provider.base_url for name, provider in simulated.providers.items()} == {
        "anthropic": "http://127.0.0.1:4711",
        "bedrock": "http://127.0.0.1:4711",
        "openai": "http://127.0.0.1:4711/v1",
    }
    assert simulated.simulated


def test_an_anthropic_key():
    built = config.from_environment({"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "http://127.0.0.1:8080/x"})
    assert list(built.providers) == ["anthropic"]
    assert built.providers["anthropic"].api_key.get_secret_value() == SECRET
    assert built.providers["anthropic"].base_url == "https://api.anthropic.com"
    assert not built.simulated
    assert built.records.path == Path("aibridge.db")


def test_a_base_url_alone_is_for_clients_with_keys_of_their_own(load):
    for built in (
        config.from_environment({"AIBRIDGE_ANTHROPIC_BASE_URL": "http://a"}),
        load("auth: {mode: open}", AIBRIDGE_ANTHROPIC_BASE_URL="http://a"),
    ):
        provider = built.providers["anthropic"]
        assert (list(built.providers), provider.base_url) == (["anthropic"], "http://a")
        assert provider.api_key is None
        assert provider.byok
        assert not built.simulated
        assert not [note for note in built.notes if "AIBRIDGE_ANTHROPIC_BASE_URL" in note]


def test_a_base_url_of_bedrock_without_a_credential_is_spoken_of():
    built = config.from_environment({"AIBRIDGE_BEDROCK_BASE_URL": "http://b", "AWS_REGION": "eu-central-1"})
    assert built.simulated
    assert built.notes == (
        "AIBRIDGE_BEDROCK_BASE_URL is not used: the environment holds no AWS credential to sign with",
    )


@pytest.mark.parametrize("sign", config.AWS_SIGNS)
def test_each_sign_of_the_aws_chain(sign):
    built = config.from_environment({sign: "x", "AWS_REGION": "eu-central-1"})
    assert list(built.providers) == ["bedrock"]
    assert built.providers["bedrock"].region == "eu-central-1"
    token = built.providers["bedrock"].bearer_token
    assert (token is not None) == (sign == "AWS_BEARER_TOKEN_BEDROCK")


def test_aws_without_a_region_is_spoken_of():
    built = config.from_environment({"AWS_PROFILE": "x"})
    assert built.simulated
    assert built.notes == ("AWS_PROFILE is set but no AWS_REGION: there is no provider bedrock",)


def test_a_region_alone_is_no_credential():
    assert config.from_environment({"AWS_REGION": "eu-central-1"}).simulated


def test_an_openai_key():
    built = config.from_environment({"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "http://127.0.0.1:8080/x/v1"})
    assert list(built.providers) == ["openai"]
    assert built.providers["openai"].api_key.get_secret_value() == SECRET
    assert built.providers["openai"].base_url == "https://api.openai.com/v1"
    assert not built.simulated
    built = config.from_environment({"AIBRIDGE_OPENAI_BASE_URL": "http://a/v1/", "ANTHROPIC_API_KEY": SECRET})
    assert list(built.providers) == ["anthropic", "openai"]
    assert (built.providers["openai"].base_url, built.providers["openai"].api_key) == ("http://a/v1", None)


def test_every_variable(tmp_path):
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("")
    built = config.from_environment(
        {
            "ANTHROPIC_API_KEY": SECRET,
            "AWS_PROFILE": "x",
            "AWS_DEFAULT_REGION": "us-west-2",
            "AIBRIDGE_HOST": "0.0.0.0",
            "AIBRIDGE_PORT": "1",
            "AIBRIDGE_ADMIN_HOST": "::1",
            "AIBRIDGE_ADMIN_PORT": "2",
            "AIBRIDGE_ADMIN_KEYS": "ann:sixteen-or-more-1",
            "AIBRIDGE_RECORDS": "/tmp/r.db",
            "AIBRIDGE_AUTH_MODE": "keys",
            "AIBRIDGE_GATEWAY_KEYS": "alice:k:1, k2",
            "AIBRIDGE_LOG_LEVEL": "Warning",
            "AIBRIDGE_DRAIN_DEADLINE": "7",
            "AIBRIDGE_CA_FILE": str(ca_file),
            "AIBRIDGE_ANTHROPIC_BASE_URL": "http://a",
            "AIBRIDGE_BEDROCK_BASE_URL": "http://b",
        }
    )
    assert (built.listen.host, built.listen.port) == ("0.0.0.0", 1)
    assert (built.admin.host, built.admin.port) == ("::1", 2)
    assert [(key.name, key.clear) for key in built.admin.keys] == [("ann", "sixteen-or-more-1")]
    assert built.records.path == Path("/tmp/r.db")
    keys = {key.name: key.key.get_secret_value() for key in built.auth.keys}
    assert keys == {"alice": "k:1", "key-2": "k2"}
    assert built.log.level == "warning"
    assert built.drain_deadline == 7
    assert built.tls.ca_file == ca_file
    assert [provider.base_url for provider in built.providers.values()] == ["http://a", "http://b"]
    assert built.notes == ()


def test_records_can_be_off():
    assert not config.from_environment({"AIBRIDGE_RECORDS": "off"}).records.enabled


def test_mistakes_name_the_variable():
    with pytest.raises(ConfigError) as caught:
        config.from_environment(
            {
                "AIBRIDGE_PORT": "x",
                "AIBRIDGE_LOG_LEVEL": "loud",
                "AIBRIDGE_GATEWAY_KEYS": f"a b:{SECRET}",
                "ANTHROPIC_API_KEY": f"ä{SECRET}",
                "OPENAI_API_KEY": f"ä{SECRET}",
            }
        )
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "AIBRIDGE_PORT",
        "ANTHROPIC_API_KEY",
        "OPENAI_API_KEY",
        "AIBRIDGE_GATEWAY_KEYS",
        "AIBRIDGE_LOG_LEVEL",
    ]
    assert SECRET not in str(caught.value)


def test_a_kubernetes_service_of_our_name_does_no_harm():
    assert config.from_environment({"AIBRIDGE_PORT": "tcp://10.0.0.1:8080"}).listen.port == 8080


def test_a_misspelt_variable_is_noted():
    assert config.from_environment({"AIBRIDGE_PROT": "1"}).notes == (
        "AIBRIDGE_PROT is not a setting; did you mean AIBRIDGE_PORT?",
    )


# --- who may ask ----------------------------------------------------------------------------------------------------

LOOPBACKS = ["127.0.0.1", "127.8.8.8", "::1", "localhost"]
ELSEWHERE = ["0.0.0.0", "::", "10.0.0.1", "fd00::1", "gateway.internal"]


@pytest.mark.parametrize("host", LOOPBACKS)
def test_open_is_the_default_on_loopback(raw_load, host):
    assert raw_load(f"{MINIMAL}listen: {{host: '{host}'}}").auth.effective_mode == "open"
    assert config.from_environment({"AIBRIDGE_HOST": host}).auth.effective_mode == "open"


@pytest.mark.parametrize("host", ELSEWHERE)
def test_elsewhere_open_must_be_meant_and_the_error_says_what_to_write(raw_load, host):
    for build in (
        lambda: raw_load(f"{MINIMAL}listen: {{host: '{host}'}}"),
        lambda: config.from_environment({"AIBRIDGE_HOST": host}),  # on the simulator too
        lambda: config.from_environment({"AIBRIDGE_HOST": host, "ANTHROPIC_API_KEY": SECRET}),
    ):
        with pytest.raises(ConfigError) as caught:
            build()
        told = str(caught.value)
        assert host in told
        for way in ("auth.keys", "AIBRIDGE_GATEWAY_KEYS=", "auth: {mode: open}", "AIBRIDGE_AUTH_MODE=open"):
            assert way in told


def test_a_file_that_says_nothing_of_it_is_refused(raw_load):
    with pytest.raises(ConfigError, match=r"listen.host is 0\.0\.0\.0"):
        raw_load(MINIMAL)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_elsewhere_it_can_be_said(raw_load, host):
    listen = f"listen: {{host: '{host}'}}\n"
    meant = raw_load(f"{MINIMAL}{listen}auth: {{mode: open}}")
    assert meant.auth.effective_mode == "open"
    assert "the gateway is open" in meant.notes[0]
    assert raw_load(f"{MINIMAL}{listen}auth: {{keys: [{{name: a, key: b}}]}}").notes == ()
    environ = {"AIBRIDGE_HOST": host, "AIBRIDGE_AUTH_MODE": "Open"}
    assert config.from_environment(environ).auth.effective_mode == "open"
    assert config.from_environment(environ).notes == ()  # the simulator's credentials guard nothing
    keyed = config.from_environment({"AIBRIDGE_HOST": host, "AIBRIDGE_GATEWAY_KEYS": "a:b"})
    assert keyed.auth.effective_mode == "keys"


def test_keys_ask_for_keys(load):
    assert load(MINIMAL + "auth: {keys: [{name: a, key: b}]}").auth.effective_mode == "keys"


HASH = "sha256:" + hashlib.sha256(b"open-sesame").hexdigest()


def test_a_key_may_be_written_as_its_hash(load):
    (key, other) = load(f"{MINIMAL}auth: {{keys: [{{name: a, key: '{HASH}'}}, {{name: b, key: x}}]}}").auth.keys
    assert key.digest == hashlib.sha256(b"open-sesame").digest()
    assert key.clear is None
    assert (other.clear, other.digest) == ("x", hashlib.sha256(b"x").digest())
    (key,) = config.from_environment({"AIBRIDGE_GATEWAY_KEYS": HASH}).auth.keys
    assert (key.name, key.clear) == ("key-1", None)
    (key,) = config.from_environment({"AIBRIDGE_GATEWAY_KEYS": f"ann:{HASH}"}).auth.keys
    assert (key.name, key.digest) == ("ann", hashlib.sha256(b"open-sesame").digest())


def test_a_hash_is_not_shown(load):
    loaded = load(f"{MINIMAL}auth: {{keys: [{{name: a, key: '{HASH}'}}]}}")
    shown = repr(loaded) + json.dumps(config.describe(loaded)) + str(loaded.model_dump())
    assert HASH.removeprefix("sha256:") not in shown


PROXY = "id: X-Forwarded-User, networks: [10.0.0.0/8, 'fd00::/8', 192.0.2.7]"


def test_a_front_proxy(load):
    auth = load(f"{MINIMAL}auth: {{mode: header, header: {{{PROXY}, teams: x-groups}}}}").auth
    assert auth.effective_mode == "header"
    assert (auth.header.id, auth.header.name, auth.header.teams) == ("x-forwarded-user", None, "x-groups")
    assert [str(network) for network in auth.header.networks] == ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"]


@pytest.mark.parametrize(
    ("auth", "line"),
    [
        ("mode: no", "auth.mode: should be 'open', 'keys' or 'header'"),
        ("mode: keys", "auth: keys are needed in mode keys"),
        ("mode: open, keys: [{name: a, key: b}]", "auth: keys would not be asked for in mode open"),
        (f"mode: header, header: {{{PROXY}}}, keys: [{{name: a, key: b}}]", "auth: keys would not be asked for"),
        ("mode: header", "auth: header is needed in mode header"),
        (f"header: {{{PROXY}}}", "auth: header is only for `mode: header`"),
        ("keys: [{name: a, key: 'sha256:12'}]", "auth.keys.0.key: should have 64 hexadecimal digits behind sha256:"),
        (
            f"keys: [{{name: a, key: '{HASH}'}}, {{name: b, key: open-sesame}}]",
            "auth.keys: two names have the same key",
        ),
        ("keys: [{name: a, key: b}], key_headers: []", "auth.key_headers: "),
        ("keys: [{name: a, key: b}], key_headers: [cookie]", "auth.key_headers.0: should be 'x-api-key' or 'auth"),
        ("mode: header, header: {networks: [10.0.0.0/8]}", "auth.header.id: is needed"),
        ("mode: header, header: {id: x-user}", "auth.header.networks: is needed"),
        ("mode: header, header: {id: x-user, networks: []}", "auth.header.networks: "),
        ("mode: header, header: {id: x-user, networks: [10.0.0.1/8]}", "auth.header.networks.0: should be a network"),
        ("mode: header, header: {id: x-user, networks: [proxy]}", "auth.header.networks.0: should be a network"),
        ("mode: header, header: {id: x-user, networks: [10]}", "auth.header.networks.0"),
        (f"mode: header, header: {{{PROXY}, name: x-forwarded-user}}", "auth.header: two of the headers are the same"),
        (f"mode: header, header: {{{PROXY}, naem: x}}", "auth.header.naem: unknown key; did you mean 'name'?"),
        ("mode: header, header: {id: 'x user', networks: ['::1']}", "auth.header.id: should be the name of a header"),
    ],
)
def test_mistakes_in_who_may_ask(mistakes, auth, line):
    assert mistakes(f"{MINIMAL}auth: {{{auth}}}")[0].startswith(line)


TAKEN = HOP_BY_HOP | CREDENTIALS | {b"host", b"content-length", b"cookie", b"x-aibridge-key", b"x-amz-date"} | {
    b"anthropic-version", b"content-type", b"accept", b"x-forwarded-for", b"forwarded", b"traceparent", b"user-agent"
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(name.decode() for name in TAKEN))
def test_no_header_with_a_meaning_can_name_an_actor(mistakes, name):
    for text in (
        f"auth: {{mode: header, header: {{id: {name}, networks: ['::1']}}}}",
        f"actor_headers: {{id: {name}}}",
    ):
        assert "has a meaning of its own" in mistakes(f"{MINIMAL}{text}")[0]


def test_how_upstreams_are_told_of_the_actor(load, mistakes):
    assert load(MINIMAL).actor_headers.id == "x-ai-bridge-actor-id"
    told = load(MINIMAL + "actor_headers: {id: X-User, name: x-name, teams: x-teams}").actor_headers
    assert (told.id, told.name, told.teams) == ("x-user", "x-name", "x-teams")
    assert mistakes(MINIMAL + "actor_headers: {id: x-a, name: X-A}") == [
        "actor_headers: two of the headers are the same"
    ]


# --- both, again ----------------------------------------------------------------------------------------------------


def test_variables_beside_a_file_are_noted(load):
    loaded = load(MINIMAL + "listen: {host: localhost}", AIBRIDGE_PORT="1", AIBRIDGE_HOST="x")
    assert loaded.notes == ("a file is in use, which alone counts unless it names them: AIBRIDGE_HOST, AIBRIDGE_PORT",)


def test_state_goes_to_the_state_folder():
    built = config.from_environment({"ANTHROPIC_API_KEY": SECRET, "XDG_STATE_HOME": "/state", "HOME": "/h"})
    assert built.records.path == Path("/state/aibridge/aibridge.db")


FEATURES = """\
providers:
  bedrock:
    region: eu-west-1
    inference_profile: geo
    features:
      "*sonnet-4-5*":
        thinking: adaptive
        betas: {a-1: true, b-2: false}
        fields: {metadata: true, output_config.format: false}
      "arn:*": {}
"""


def test_what_models_take_otherwise(load):
    bedrock = load(FEATURES).providers["bedrock"]
    assert bedrock.inference_profile == "geo"
    first, second = bedrock.features.values()
    assert (first.thinking, first.betas, first.fields) == (
        "adaptive",
        {"a-1": True, "b-2": False},
        {"metadata": True, "output_config.format": False},
    )
    assert (second.thinking, second.betas, second.fields) == (None, {}, {})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (FEATURES.replace("geo", "near"), "providers.bedrock.inference_profile"),
        (FEATURES.replace("adaptive", "much"), "providers.bedrock.features.*sonnet-4-5*.thinking"),
        (FEATURES.replace("betas", "beta"), "providers.bedrock.features.*sonnet-4-5*.beta"),
        (FEATURES.replace("a-1: true", "a-1: maybe"), "providers.bedrock.features.*sonnet-4-5*.betas.a-1"),
    ],
)
def test_mistakes_in_what_models_take_are_named(mistakes, text, line):
    assert any(line in mistake for mistake in mistakes(text))


def test_a_dump_is_noted_since_it_holds_prompts(load):
    loaded = load(MINIMAL + "auth: {keys: [{name: a, key: b}]}\ndump: {path: /var/tmp/dump}")
    assert loaded.notes == ("requests and answers are written down in /var/tmp/dump, prompts too",)


# --- OpenAI's APIs, and routers -------------------------------------------------------------------------------------


def test_azure_and_others(load):
    loaded = load(f"""
        providers:
          azure:
            kind: openai
            base_url: https://x.openai.azure.com/openai/deployments/gpt/
            api_key: {SECRET}
            api_key_header: API-Key
            query: {{api-version: 2024-10-21}}
          openrouter:
            kind: openai
            base_url: https://openrouter.ai/api/v1
            headers: {{HTTP-Referer: https://example.com, X-Title: My App}}
          local: {{kind: openai, base_url: "http://127.0.0.1:11434/v1", byok: false, usage: leave, repair_done: true}}
          copilot: {{}}
        auth: {{mode: open}}
    """)
    azure = loaded.providers["azure"]
    assert azure.base_url == "https://x.openai.azure.com/openai/deployments/gpt"
    assert azure.api_key_header == "api-key"
    assert azure.query["api-version"].get_secret_value() == "2024-10-21", "YAML reads a bare one as a date"
    headers = loaded.providers["openrouter"].headers
    assert {name: value.get_secret_value() for name, value in headers.items()} == {
        "http-referer": "https://example.com",
        "x-title": "My App",
    }
    assert loaded.providers["copilot"].base_url == "https://api.individual.githubcopilot.com"


def test_what_goes_beside_a_key_may_be_one_and_is_not_shown(load):
    loaded = load(
        f"providers: {{openai: {{headers: {{cf-aig-authorization: Bearer {SECRET}}}, query: {{k: {SECRET}}}}}}}"
    )
    assert SECRET not in repr(loaded) + json.dumps(config.describe(loaded))


TWO = "providers: {openai: {}, copilot: {}, local: {kind: openai, base_url: 'http://l', byok: false}}\n"


def test_a_router(load):
    loaded = load(
        TWO
        + """
routers:
  all:
    models:
      gpt-x: openai
      fast: {provider: local, model: 'qwen3:8b'}
    prefixes:
      local/: {provider: local, strip_prefix: true}
      claude-: {provider: local, model: llama}
    default: openai
auth: {mode: open}
"""
    )
    router = loaded.routers["all"]
    assert router.models["gpt-x"].provider == router.default.provider == "openai"
    assert (router.models["fast"].provider, router.models["fast"].model) == ("local", "qwen3:8b")
    assert router.prefixes["local/"].strip_prefix
    assert not router.byok
    assert loaded.known_models() == {"gpt-x", "fast", "qwen3:8b", "llama"}


LIMITED = """
listen: {host: 127.0.0.1}
providers: {openai: {api_key: k}}
"""


def test_limits_and_budgets(load):
    loaded = load(
        LIMITED + "rate_limits: [{for: team, match: 'r*', tokens_per_minute: 5}]\n"
        "budgets: [{per: all, dollars: 0.000000001, period: month, stop_streams: true}]\n"
        "limit_store: {kind: valkey, url: 'valkeys://u:p@h:1/2', when_away: deny}\n",
    )
    assert loaded.rate_limits[0].for_ == "team"
    assert loaded.budgets[0].nanodollars == 1
    assert loaded.limit_store.url.get_secret_value() == "rediss://u:p@h:1/2"
    assert "u:p" not in str(config.describe(loaded))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("rate_limits: [{for: all}]", ["rate_limits.0: one of requests_per_minute, tokens_per_minute and concurrent"]),
        ("rate_limits: [{requests_per_minute: 5}]", ["rate_limits.0.for: is needed"]),
        ("rate_limits: [{for: us, concurrent: 5}]", ["rate_limits.0.for: should be 'key', 'actor', 'team', 'model'"]),
        ("rate_limits: [{for: all, match: a, concurrent: 5}]", ["rate_limits.0: match is of no use with all"]),
        ("rate_limits: [{fro: all, concurrent: 5}]", ["rate_limits.0.fro: unknown key; did you mean 'for'?"]),
        ("budgets: [{per: all, period: day, dollars: 0}]", ["budgets.0.dollars: should be greater than 0"]),
        (
            "budgets: [{per: all, period: day, dollars: 1, mode: soft, stop_streams: true}]",
            ["budgets.0: stop_streams is of no use with mode soft"],
        ),
        ("limit_store: {kind: sqlite}", ["limit_store: path and kind: sqlite belong together"]),
        ("limit_store: {path: x}", ["limit_store: path and kind: sqlite belong together"]),
        ("limit_store: {kind: valkey}", ["limit_store: url and kind: valkey belong together"]),
        ("limit_store: {kind: valkey, url: 'http://h'}", ["limit_store.url: should be a valkey:// or redis:// URL"]),
        (
            "workers: 2\nbudgets: [{per: all, period: day, dollars: 1}]",
            ["limit_store.kind is needed where several workers share limits"],
        ),
    ],
)
def test_limits_that_cannot_be(mistakes, text, lines):
    told = str(mistakes(LIMITED + text))
    for line in lines:
        assert line in told


def test_several_workers_may_count_apart_where_that_is_said(load):
    text = LIMITED + "rate_limits: [{for: all, concurrent: 5}]\n"
    with pytest.raises(ConfigError, match=r"limit_store\.kind is needed"):
        load(text).with_workers(2)
    loaded = load(text + "workers: 2\nlimit_store: {kind: memory}\n")
    assert any("each worker counts for itself" in note for note in loaded.notes)


def test_budgets_in_memory_are_noted(load):
    loaded = load(LIMITED + "budgets: [{per: all, period: day, dollars: 1}]\n")
    assert any("a restart forgets" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("routers", "lines"),
    [
        ("{a: {}}", ["routers.a: one of models, prefixes and default is needed"]),
        ("{A: {default: openai}}", ["routers.A: a provider's name holds only lower-case letters, digits and single"]),
        ("{openai: {default: local}}", ["routers.openai: a provider has that name"]),
        ("{a: {default: nobody}}", ["routers.a.default: no provider is named 'nobody'"]),
        (
            "{a: {models: {x: b, y: {provider: c}}, prefixes: {p: copilot}, default: a}}",
            [
                "routers.a.models.x: no provider is named 'b'",
                "routers.a.models.y: no provider is named 'c'",
                "routers.a.prefixes.p: copilot is of kind copilot, which has paths of its own",
                "routers.a.default: no provider is named 'a'",
            ],
        ),
        (
            "{a: {models: {x: {modle: b}}}}",
            ["routers.a.models.x.provider: is needed", "unknown key; did you mean 'model'"],
        ),
        ("{a: {prefixes: {x: {provider: openai, strip_prefx: true}}}}", ["did you mean 'strip_prefix'?"]),
        (
            "{a: {models: {x: {provider: openai, strip_prefix: true}}}}",
            ["routers.a.models.x.strip_prefix: unknown key"],
        ),
        (
            "{a: {prefixes: {x: {provider: openai, model: m, strip_prefix: true}}}}",
            ["routers.a.prefixes.x: strip_prefix is of no use with model"],
        ),
        ("{a: {defualt: openai}}", ["routers.a.defualt: unknown key; did you mean 'default'?"]),
        ("{a: {models: [openai]}}", ["routers.a.models: should be a valid dictionary"]),
        ("{a: {models: {'': openai}}}", ["routers.a.models.: "]),
    ],
)
def test_a_router_is_checked(mistakes, routers, lines):
    found = mistakes(f"{TWO}routers: {routers}\n")
    assert len(found) == len(lines)
    for line, part in zip(found, lines, strict=True):
        assert part in line
