"""The JSON Schema of a configuration takes what the gateway takes, and marks what an editor can know to be wrong."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from aibridge import config
from aibridge.cli import main
from aibridge.configschema import configuration_schema
from aibridge.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = configuration_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


class Reader(yaml.SafeLoader):
    """YAML as editors read it: a date is a text, as in YAML 1.2."""


Reader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def complaint(text):
    found = best_match(VALIDATOR.iter_errors(yaml.load(text, Reader)))
    return "" if found is None else f"{found.json_path}: {found.message}"


def taken_by_the_gateway(text, tmp_path):
    path = tmp_path / "aibridge.yaml"
    path.write_text(text)
    return config.load(path, {"PORT": "8080"})


OTHER_FILES = {"docs/prices.md": "a price list", "docs/deployment.md": "values of the Helm chart"}


def examples():
    for path in sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")]):
        page = str(path.relative_to(ROOT))
        found = [] if page in OTHER_FILES else re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)
        for number, text in enumerate(found, 1):
            yield pytest.param(text, id=f"{page}-{number}")


def test_it_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", list(examples()))
def test_examples_of_the_pages_are_taken(text):
    assert complaint(text) == ""


def test_there_are_examples():
    pages = {parameter.id.rpartition("-")[0] for parameter in examples()}
    assert {"README.md", "docs/configuration.md", "docs/bedrock.md", "docs/tools.md", "docs/admin.md"} <= pages


OPEN = "listen: {host: 127.0.0.1}\nproviders: {anthropic: {}}\n"

GOOD = {
    "empty values": "listen: {host: 127.0.0.1, port: }\nproviders: {anthropic: , copilot: }\nlimits:\nauth: {keys: }\n",
    "variables": "listen: {host: 127.0.0.1, port: '${PORT}'}\n"
    "providers: {openai: {byok: '${BYOK:-true}', api_key: '${KEY:-a-key}'}}\n"
    "log: {level: '${LEVEL:-info}'}\ntimeouts: {idle: '${IDLE:-2.5}'}\nworkers: '${W:-2}'\n",
    "sizes": OPEN + "limits: {max_request_bytes: 32MiB, max_event_bytes: 1.5 mb, client_buffer_bytes: 4096}\n",
    "a size below its bound": OPEN + "limits: {max_frame_bytes: 24MiB}\n",
    "off": OPEN + "records: {content: {prompts: off, arguments: 'off'}}\n",
    "a kind of its own": "listen: {host: 127.0.0.1}\nproviders: {anthropic: {kind: bedrock, region: eu-central-1}}\n",
    "any name": "listen: {host: 127.0.0.1}\nproviders: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}\n",
    "targets of a router": OPEN + "routers: {all: {models: {a: anthropic, b: {provider: anthropic}}}}\n",
    "a secret in a file": OPEN.replace("{}", "{api_key: {file: %s}}"),
    "what a command prints": OPEN.replace("{}", "{api_key: {command: [echo, a-secret]}}"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_the_gateway_takes_is_taken(name, tmp_path):
    (tmp_path / "secret").write_text("a-secret\n")
    text = GOOD[name].replace("%s", str(tmp_path / "secret"))
    assert taken_by_the_gateway(text, tmp_path)
    assert complaint(text) == ""


WRONG = {
    "an unknown key": (OPEN + "listne: {}\n", "listne"),
    "an unknown key of a section": (OPEN + "limits: {max_requests: 1}\n", "max_requests"),
    "an unknown key of a provider": (OPEN.replace("{}", "{api_kye: x}"), "api_kye"),
    "another kind's key": (OPEN.replace("{}", "{region: eu-central-1}"), "region"),
    "no kind": (OPEN.replace("anthropic:", "other:"), "other"),
    "no such kind": (OPEN.replace("{}", "{kind: gemini}"), "gemini"),
    "no port": (OPEN.replace("127.0.0.1}", "127.0.0.1, port: 70000}"), "70000"),
    "no time": (OPEN + "timeouts: {idle: 0}\n", "0"),
    "a time with a unit": (OPEN + "timeouts: {idle: 5s}\n", "5s"),
    "no size": (OPEN + "limits: {max_request_bytes: 32 apples}\n", "32 apples"),
    "a size of nothing": (OPEN + "limits: {max_request_bytes: 0}\n", "0"),
    "a size over its bound": (OPEN + "limits: {max_frame_bytes: 99999999}\n", "99999999"),
    "no word of the set": (OPEN + "records: {fsync: sometimes}\n", "sometimes"),
    "a secret from two places": (OPEN.replace("{}", "{api_key: {file: a, command: [b]}}"), "command"),
    "a secret from nowhere": (OPEN.replace("{}", "{api_key: {env: A}}"), "env"),
    "an empty command": (OPEN.replace("{}", "{api_key: {command: []}}"), "[]"),
    "a key without its name": (OPEN + "auth: {keys: [{key: abc}]}\n", "name"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_the_gateway_refuses_is_marked(name, tmp_path):
    text, about = WRONG[name]
    with pytest.raises(ConfigError):
        taken_by_the_gateway(text, tmp_path)
    assert about in complaint(text)


def test_secrets_may_stand_elsewhere():
    keys = SCHEMA["$defs"]["AnthropicProvider"]["properties"]["api_key"]["anyOf"]
    assert {"type": "string"} in keys
    assert {"#/$defs/_FromFile", "#/$defs/_FromCommand"} <= {form.get("$ref") for form in keys}


def test_the_command_prints_it(capsys):
    assert main(["check", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(SCHEMA))


def test_the_command_wants_a_file_or_the_schema(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check"])
    assert ended.value.code == 2
    assert "FILE" in capsys.readouterr().err
