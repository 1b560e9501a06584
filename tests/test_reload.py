"""Which keys have changed, which may, and when a file is read again. Real processes: tests/e2e/test_reload.py."""

import os

import pytest
from waiting_kit import until

from aibridge import config
from aibridge import reload as reloading
from aibridge.config import Settings, changed_keys
from aibridge.errors import ConfigError
from aibridge.parts import Parts
from aibridge.reload import LIVE, ReloadCounts, Reloader, look_at, reload_once

BASE = "listen: {host: 127.0.0.1}\nproviders: {anthropic: {api_key: a}, second: {kind: anthropic, api_key: b}}\n"


@pytest.fixture
def load(tmp_path):
    def load(text=""):
        path = tmp_path / "aibridge.yaml"
        path.write_text(BASE + text)
        return config.load(path, {})

    return load


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ("", "", []),
        ("timeouts: {idle: 1}", "timeouts: {idle: 2}", ["timeouts.idle"]),
        ("", "routers: {r: {default: anthropic}}", ["routers.r"]),
        ("routers: {r: {default: anthropic}}", "routers: {r: {default: second}}", ["routers.r.default.provider"]),
        ("auth: {keys: [{name: a, key: one}]}", "auth: {keys: [{name: a, key: two}]}", ["auth.keys"]),
        ("", "auth: {keys: [{name: a, key: one}]}", ["auth.keys"]),
        ("", "auth: {key_store: {path: x}}", ["auth.key_store"]),
        ("auth: {key_store: {path: x}}", "auth: {key_store: {path: y}}", ["auth.key_store.path"]),
        ("records: {content: {prompts: full}}", "records: {path: z}", ["records.path", "records.content.prompts"]),
        ("", "proxy: {url: 'http://a:b@c'}", ["proxy.url"]),
        ("", "mcp: {servers: {w: {url: 'http://w/'}}}", ["mcp.servers.w"]),
    ],
)
def test_changed_keys_are_told_by_name(load, before, after, keys):
    assert changed_keys(load(before), load(after)) == keys


def test_a_secret_that_changed_is_a_key_that_did(tmp_path):
    secret = tmp_path / "secret"
    text = BASE.replace("api_key: a", f"api_key: {{file: {secret}}}")
    loaded = []
    for value in ("one", "two"):
        secret.write_text(value)
        (tmp_path / "c.yaml").write_text(text)
        loaded.append(config.load(tmp_path / "c.yaml", {}))
    assert changed_keys(*loaded) == ["providers.anthropic.api_key"]


@pytest.mark.parametrize("key", ["prices.path", "tls.ca_file"])
def test_another_content_of_a_file_is_a_change_of_its_key(load, tmp_path, key):
    section, _, name = key.partition(".")
    file, loaded = tmp_path / "file", []
    for text in ("one", "two"):
        file.write_text(text)
        loaded.append(load(f"{section}: {{{name}: {file}}}"))
    assert changed_keys(*loaded) == [key]


@pytest.mark.parametrize("key", ["prices.path", "tls.ca_file"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(load, tmp_path, key):
    section, _, name = key.partition(".")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=rf"{key}: "):
        load(f"{section}: {{{name}: {tmp_path / 'pipe'}}}")


def test_what_is_live_is_there():
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    for key in LIVE:
        section, _, name = key.partition(".")
        assert not name or name in sections[section].model_fields


class Target:
    """Takes each configuration, or says why not."""

    def __init__(self, loaded):
        self.config, self.why, self.taken = loaded, "", 0

    async def reload(self, loaded):
        if self.why:
            raise ConfigError(self.why)
        self.config = loaded
        self.taken += 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers: 2\ntimeouts: {idle: 2}", "needs a restart: workers"),
        ("drain_deadline: 1\nworkers: 3", "needs a restart: workers"),
        ("admin: {port: 1}\nrecords: {path: x, content: {prompts: full}}", "needs a restart: admin.port, records.path"),
        ("dump: {path: x}", "needs a restart: dump.path"),
        ("metrics: {max_models: 1}\ntracing: {semconv: both}", "needs a restart: metrics.max_models, tracing.semconv"),
    ],
)
async def test_what_needs_a_restart_is_refused_whole_and_named(load, text, words):
    target = Target(load())
    with pytest.raises(ConfigError) as caught:
        await reload_once(lambda _: load(text), target, set())
    assert str(caught.value) == words
    assert target.taken == 0


@pytest.fixture
async def watched(tmp_path, load, monkeypatch):
    monkeypatch.setattr(reloading, "LOOK_EVERY_S", 0.01)
    target, counts = Target(load()), ReloadCounts()
    path = tmp_path / "aibridge.yaml"
    reloader = Reloader(lambda files: config.load(path, {}, files), target, look_at([path]), counts)
    yield reloader, target, counts, path
    await reloader.stop()


async def test_a_file_that_is_replaced_written_or_asked_for_is_read_again(watched):
    reloader, target, counts, path = watched
    path.write_text(BASE + "timeouts: {idle: 7}")
    await until(lambda: target.config.timeouts.idle == 7)
    new = path.with_name("new")
    new.write_text(BASE + "timeouts: {idle: 8}")
    new.replace(path)
    await until(lambda: target.config.timeouts.idle == 8)
    taken = target.taken
    reloader.ask()
    await until(lambda: target.taken == taken + 1)
    assert counts.reloads.child("success").value == target.taken
    assert counts.reloads.child("failure").value == 0


async def test_what_fails_is_counted_and_mended(watched, caplog):
    _, target, counts, path = watched
    first = target.config
    path.unlink()
    await until(lambda: counts.reloads.child("failure").value == 1)
    assert counts.successful.child().value == 0
    assert target.config is first
    path.write_text(BASE + "log: {level: debug}")
    await until(lambda: counts.successful.child().value == 1)
    assert target.config.log.level == "debug"
    assert "not reloaded" in caplog.text


async def test_a_fault_of_ours_is_a_failure_too(watched):
    reloader, target, counts, _ = watched
    target.reload = None
    reloader.ask()
    await until(lambda: counts.reloads.child("failure").value == 1)
    del target.reload
    reloader.ask()
    await until(lambda: counts.reloads.child("success").value == 1)


# --- parts ----------------------------------------------------------------------------------------------------------


async def test_parts_are_handed_on_while_they_are_made_of_the_same():
    ended, started = [], []

    def take(parts, made_of):
        async def start(_):
            started.append(made_of)

        async def end(what):
            ended.append(what)

        return parts.take(("kind", "name"), made_of, list, start=start, end=end)

    first = Parts()
    one = take(first, 1)
    await first.start()
    second = Parts(first)
    assert take(second, 1) is one
    await second.start()
    third = Parts(second)
    other = take(third, 2)
    assert other is not one
    await third.start()
    assert started == [1, 2]
    await first.end([second, third])
    assert ended == []
    await second.end([third])
    await third.end()
    assert ended == [one, other]
    assert list(map(id, ended)) == [id(one), id(other)]
