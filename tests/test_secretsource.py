"""Secrets in files and from commands: what is read, what bounds it, and that nothing of it is told."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from aibridge import config, secretsource
from aibridge.errors import ConfigError
from aibridge.secretsource import MAX_BYTES, SecretReader, SecretUnavailable

SECRET = "sk-ant-do-not-tell"


def python(code):
    return {"command": [sys.executable, "-c", code]}


def refused(source):
    with pytest.raises(SecretUnavailable) as caught:
        SecretReader(set()).read(source)
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", [SECRET, SECRET + "\n", SECRET + "\r\n"])
def test_a_file_without_the_newline_at_its_end(tmp_path, text):
    path, files = tmp_path / "key", set()
    path.write_bytes(text.encode())
    assert SecretReader(files).read({"file": str(path)}) == SECRET
    assert files == {path}


def test_a_command_is_no_shell():
    words = [sys.executable, "-c", "import sys; print(sys.argv[1])", "$HOME; `id` *"]
    assert SecretReader(set()).read({"command": words}) == "$HOME; `id` *"


def test_a_command_that_is_named_twice_runs_once(tmp_path):
    ran = tmp_path / "ran"
    source = python(f"open({str(ran)!r}, 'a').write('x'); print('s')")
    reader = SecretReader(set())
    assert [reader.read(source), reader.read(source)] == ["s", "s"]
    assert ran.read_text() == "x"


@pytest.mark.parametrize(
    "source",
    [
        {}, {"file": ""}, {"file": 1}, {"fil": "x"}, {"file": "x", "command": ["x"]}, {"command": []},
        {"command": "id"}, {"command": [""]}, {"command": ["id", 1]}, {"command": ["id", "\0"]},
    ],
)  # fmt: skip
def test_what_is_no_source(source):
    assert "should be a text, {file: PATH} or {command: [" in refused(source)


def test_what_cannot_be_read(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "binary").write_bytes(SECRET.encode() + b"\xff")
    assert refused({"file": str(tmp_path / "no")}).endswith("/no cannot be read: No such file or directory")
    assert refused({"file": str(tmp_path)}).endswith("cannot be read: Is a directory")
    assert refused({"file": "a\0b"}).endswith("cannot be read: no path")
    assert "holds more than" in refused({"file": str(tmp_path / "big")})
    assert refused({"file": str(tmp_path / "binary")}).endswith("holds no UTF-8 text")
    assert "cannot be started: No such file" in refused({"command": ["/no/such/program"]})
    assert refused(python(f"print('{SECRET}'); exit(3)")).endswith("failed: exit status 3")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused({"file": str(tmp_path / "pipe")}).endswith("cannot be read: Not a regular file")


def test_a_command_beside_many_connections():
    """Descriptors are given out from the lowest: that of the pipe is beyond all that are open."""
    read = """if True:
        import os, resource
        from aibridge.secretsource import SecretReader
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        while os.open(os.devnull, os.O_RDONLY) < 1024:
            pass
        print(SecretReader(set()).read({"command": ["echo", "s"]}))
    """
    assert subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=False).stdout == "s\n"


def test_a_command_that_prints_without_end_is_ended():
    assert "holds more than" in refused(python("while True: print('x' * 999)"))


@pytest.mark.parametrize("code", ["import time; time.sleep(600)", "import os, time; os.close(1); time.sleep(600)"])
def test_a_command_that_does_not_end_is_ended(monkeypatch, code):
    monkeypatch.setattr(secretsource, "WITHIN_S", 0.3)
    assert "did not end within 0.3 s" in refused(python(code))


def test_what_a_command_has_started_is_ended_with_it(tmp_path):
    told = tmp_path / "pid"
    code = f"""if True:
        import pathlib, subprocess, sys
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=2)
        pathlib.Path({str(told)!r}).write_text(str(left.pid))
        while True:
            print("x" * 999)
    """
    assert "holds more than" in refused(python(code))
    state = Path("/proc", told.read_text(), "stat")
    give_up_at = time.monotonic() + 30
    with suppress(FileNotFoundError, ProcessLookupError):
        while state.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < give_up_at


def test_what_a_command_says_besides_is_not_heard(capfd):
    source = python(f"import sys; print('{SECRET}', file=sys.stderr); print('s')")
    assert SecretReader(set()).read(source) == "s"
    assert capfd.readouterr() == ("", "")


# --- in the configuration -------------------------------------------------------------------------------------------

PLACES = {
    "providers.anthropic.api_key": "providers: {anthropic: {api_key: SOURCE}}",
    "providers.openai.headers.x-own": "providers: {openai: {headers: {x-own: SOURCE}}}",
    "providers.openai.query.v": "providers: {openai: {query: {v: SOURCE}}}",
    "providers.bedrock.access_key_id": "providers: {bedrock: {region: r, access_key_id: SOURCE, secret_access_key: s}}",
    "providers.bedrock.bearer_token": "providers: {bedrock: {region: r, bearer_token: SOURCE}}",
    "auth.keys.0.key": "providers: {anthropic: {}}\nauth: {keys: [{name: a, key: SOURCE}]}",
    "records.content.hash_key": "providers: {anthropic: {}}\nrecords: {content: {hash_key: SOURCE}}",
    "mcp.servers.w.headers.x-own": (
        "providers: {anthropic: {}}\nmcp: {servers: {w: {url: 'http://w/', headers: {x-own: SOURCE}}}}"
    ),
}  # fmt: skip


@pytest.fixture
def load(tmp_path):
    def load(text, source, files=None):
        path = tmp_path / "aibridge.yaml"
        path.write_text("listen: {host: 127.0.0.1}\n" + text.replace("SOURCE", source))
        return config.load(path, {"WHERE": str(tmp_path)}, files)

    return load


@pytest.mark.parametrize("key", PLACES)
def test_every_place_of_a_secret_takes_a_source(load, tmp_path, key):
    (tmp_path / "key").write_text(SECRET + "\n")
    files = set()
    loaded = load(PLACES[key], "{file: '${WHERE}/key'}", files)
    assert SECRET in str(loaded.model_dump()) or _holds(loaded)
    assert files == {tmp_path / "aibridge.yaml", tmp_path / "key"}
    shown = str(config.describe(loaded)) + repr(loaded) + str(loaded)
    if key != "providers.bedrock.access_key_id":  # which is a name, and no secret
        assert SECRET not in shown


def _holds(loaded):
    def values(value):
        if hasattr(value, "get_secret_value"):
            yield value.get_secret_value()
        elif isinstance(value, dict):
            for one in value.values():
                yield from values(one)
        elif isinstance(value, tuple | list):
            for one in value:
                yield from values(one)

    return SECRET in set(values(loaded.model_dump()))


@pytest.mark.parametrize("key", PLACES)
def test_what_is_wrong_is_told_with_its_key(load, key):
    with pytest.raises(ConfigError) as caught:
        load(PLACES[key], "{file: /no/such/file}")
    assert f"{key}: the file /no/such/file cannot be read: No such file or directory" in str(caught.value).splitlines()


def test_a_proxy_with_its_password(load, tmp_path):
    (tmp_path / "proxy").write_text("http://me:hush@proxy:3128\n")
    loaded = load("providers: {anthropic: {}}\nproxy: {url: SOURCE}", f"{{file: {tmp_path}/proxy}}")
    assert loaded.proxy.url.get_secret_value() == "http://me:hush@proxy:3128"
    assert "hush" not in repr(loaded)


def test_a_store_of_limits_with_its_password(load, tmp_path):
    (tmp_path / "url").write_text("valkey://me:hush@limits:6379/0\n")
    loaded = load("providers: {anthropic: {}}\nlimit_store: {kind: valkey, url: SOURCE}", f"{{file: {tmp_path}/url}}")
    assert loaded.limit_store.url.get_secret_value() == "redis://me:hush@limits:6379/0"
    assert "hush" not in repr(loaded)


def test_no_secret_is_without_a_source():
    """Where one takes a text alone, its schema is that of a password."""
    assert "password" not in {node.get("format") for node in _nodes(config.Settings.model_json_schema())}


def _nodes(schema):
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _nodes(inner)


def test_no_other_place_takes_one(load):
    with pytest.raises(ConfigError, match=r"providers.anthropic.base_url: should be a valid string"):
        load("providers: {anthropic: {base_url: SOURCE}}", "{file: /etc/hostname}")


def test_files_that_are_missing_are_known_too(tmp_path, load):
    files = set()
    with pytest.raises(ConfigError):
        load(f"prices: {{path: {tmp_path}/prices}}\n{PLACES['auth.keys.0.key']}", f"{{file: {tmp_path}/key}}", files)
    assert files == {tmp_path / "aibridge.yaml", tmp_path / "key", tmp_path / "prices"}


def test_check_shows_none(tmp_path, load):
    (tmp_path / "key").write_text(SECRET)
    load(PLACES["auth.keys.0.key"], f"{{file: {tmp_path}/key}}")
    ended = subprocess.run(
        [sys.executable, "-m", "aibridge", "check", str(tmp_path / "aibridge.yaml")],
        capture_output=True, check=True, env={**os.environ, "WHERE": ""},
    )  # fmt: skip
    assert SECRET.encode() not in ended.stdout + ended.stderr
    assert b"**********" in ended.stdout
