"""Gateway keys from their store: made and ended by commands, while gateways serve."""

import asyncio
import io
import json
import sys
import time
import urllib.request

import pytest
from process_kit import ENVIRONMENT, PATIENCE, run, serving
from waiting_kit import until

from aibridge import cli

VERSION = ("anthropic-version", "2023-06-01")
WITHIN_S = 2.0
"""In which every gateway knows of a change."""


@pytest.fixture
def environment(tmp_path):
    ports = {"AIBRIDGE_PORT": "0", "AIBRIDGE_ADMIN_PORT": "0"}
    store = {"AIBRIDGE_KEY_STORE": str(tmp_path / "keys.db")}
    return {**ENVIRONMENT, **ports, **store, "XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path)}


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    """Return a function that runs `aibridge keys` on the test's store, and returns what it says."""

    def run_it(name, *arguments, said=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(said))
        status = cli.main(["keys", name, "--store", str(tmp_path / "keys.db"), "--json", *arguments])
        told = capsys.readouterr()
        return json.loads(told.out) if status == 0 else (status, told.err)

    return run_it


@pytest.fixture
def ask(new_client, request_body):
    async def send(port, key, path="/anthropic/v1/messages", *, method="POST", **body):
        async with new_client(port) as client:
            headers = [VERSION, ("x-api-key", key)] if key else [VERSION]
            raw = request_body(**body) if method == "POST" else b""
            await client.ask(path, raw, method=method, headers=headers)
            return await client.answer(method)

    return send


async def until_answered(ask, ports, key, status, within=PATIENCE):
    """Ask all ports until each gives a status; returns the seconds until the last did."""
    began = time.monotonic()
    for port in ports:
        while (await ask(port, key)).status != status:
            assert time.monotonic() - began < within, f"not {status} after {within} s"
            await asyncio.sleep(0.02)
    return time.monotonic() - began


def error_of(answer):
    return json.loads(answer.body)["error"]


@pytest.fixture
def in_house(build_house, tmp_path):
    def build(max_age=60.0, **sections):
        store = {"path": str(tmp_path / "keys.db"), "max_age": max_age}
        return build_house(auth={"key_store": store}, **sections)

    return build


# commands and processes


async def test_a_key_is_made_and_ended_while_two_gateways_serve(environment, ask):
    """Real processes on one file, and no records beside it."""
    environment["AIBRIDGE_RECORDS"] = "off"
    async with serving(environment=environment) as (_, one), serving(environment=environment) as (_, two):
        assert one["auth"] == "keys"
        ports = [int(started["data"].rpartition(":")[2]) for started in (one, two)]
        for port in ports:
            assert error_of(await ask(port, ""))["type"] == "authentication_error"
        status, out, _ = await run("keys", "create", "--owner", "ann", "--json", environment=environment)
        assert status == 0
        made = json.loads(out)
        await until_answered(ask, ports, made["key"], 200)
        status, _, err = await run("keys", "revoke", made["id"], environment=environment)
        assert status == 0, err
        took = await until_answered(ask, ports, made["key"], 401)
        assert took < WITHIN_S
        for port in ports:
            assert "revoked" in error_of(await ask(port, made["key"]))["message"]


async def test_nothing_that_is_said_or_kept_holds_a_secret(environment, ask, tmp_path):
    environment |= {"AIBRIDGE_LOG_LEVEL": "debug"}
    said = []
    _, out, err = await run("keys", "create", "--owner", "ann", environment=environment)
    old = out.strip()
    assert old.startswith("aib_")
    assert old not in err
    key_id = err.partition(":")[0]
    async with serving(environment=environment) as (process, started):
        port = int(started["data"].rpartition(":")[2])
        said += [(await ask(port, key)).body.decode() for key in (old, f"{old}x", old[:-1])]
        said += await run("keys", "list", environment=environment)
        said += await run("keys", "list", "--json", environment=environment)
        _, out, err = await run("keys", "rotate", key_id, environment=environment)
        new = out.strip()
        await until_answered(ask, [port], new, 200)
        said += [err, *await run("keys", "revoke", key_id, environment=environment)]
        await until_answered(ask, [port], new, 401)
        with urllib.request.urlopen(started["admin"] + "/metrics", timeout=PATIENCE) as answer:  # noqa: ASYNC210
            said.append(answer.read().decode())
        process.terminate()
        said.append((await process.stderr.read()).decode())
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"aib_" in raw for raw in kept)  # the prefix
    for secret in (old, new):
        middle = secret[12:-6]
        assert not any(middle in str(text) for text in said)
        assert not any(middle.encode() in raw for raw in kept)


def test_a_list_tells_what_a_key_opens(command):
    options = ["--team", "red", "--team", "blue", "--provider", "anthropic", "--route", "/v1/messages"]
    made = command("create", "--owner", "ann", "--model", "claude-h*", "--prompts", "off", "--expires", "90d", *options)
    command("create", "--owner", "bob")
    (told,) = command("list", "--owner", "ann")
    assert told["prefix"] == made["prefix"] == made["key"][:10]
    shown = {name: told[name] for name in ("id", "state", "teams", "providers", "routes", "models", "revoked_at")}
    assert shown == {
        "id": made["id"], "state": "active", "teams": ["red", "blue"], "providers": ["anthropic"],
        "routes": ["/v1/messages"], "models": ["claude-h*"], "revoked_at": None,
    }  # fmt: skip
    assert told["content"] == {"prompts": "off", "arguments": None, "thoughts": None}
    assert [key["owner"] for key in command("list")] == ["ann", "bob"]


def test_a_key_is_ended_by_its_secret_on_standard_input(command):
    made = command("create", "--owner", "ann")
    assert command("revoke", "-", said=made["key"] + "\n")["id"] == made["id"]
    assert command("list")[0]["state"] == "revoked"
    assert command("revoke", "-", said="aib_other\n") == (2, "no key has the secret on standard input\n")
    status, words = command("rotate", made["id"])
    assert (status, "revoked" in words) == (2, True)


@pytest.mark.parametrize(
    "options", [["--owner", "a b"], ["--owner", "a", "--expires", "soon"], ["--owner", "a", "--route", "/v1/mesages"]]
)
def test_a_mistake_makes_no_key(command, options, tmp_path):
    with pytest.raises(SystemExit):
        command("create", *options)
    assert not (tmp_path / "keys.db").exists()
    assert command("create", "--owner", "a", "--expires", "2001-01-01")[0] == 2


async def test_without_a_file_of_keys_a_command_says_how_to_name_one(environment):
    del environment["AIBRIDGE_KEY_STORE"]
    status, _, err = await run("keys", "list", environment=environment)
    assert status == 2
    assert "AIBRIDGE_KEY_STORE" in err


# what a key opens


async def test_a_key_opens_what_it_names_and_no_more(in_house, ask, command):
    made = command(
        "create", "--owner", "ann", "--provider", "anthropic", "--route", "/v1/messages", "--model", "claude-h*"
    )["key"]
    async with in_house() as house:
        assert (await ask(house.port, made, model="claude-haiku-4-5")).status == 200
        cases = {
            "model_not_allowed": await ask(house.port, made, model="claude-opus-4"),
            "provider_not_allowed": await ask(house.port, made, "/bedrock/v1/messages", model="claude-haiku-4-5"),
            "route_not_allowed": await ask(house.port, made, "/anthropic/v1/models", method="GET"),
        }
        for reason, answer in cases.items():
            assert (answer.status, error_of(answer)["type"]) == (403, "permission_error"), reason
            assert answer.headers["x-should-retry"] == "false"
            assert house.metric("aibridge_rejections_total", reason=reason) == 1
        assert house.simulator.accepted == 1
        assert (await ask(house.port, "", "/anthropic", method="HEAD")).status == 200
        assert (await ask(house.port, made, "/anthropic", method="HEAD")).status == 200


async def test_a_refusal_has_the_shape_of_openais_api(in_house, ask, command):
    made = command("create", "--owner", "ann", "--model", "gpt-mini")["key"]
    async with in_house() as house:
        answer = await ask(house.port, made, "/openai/v1/chat/completions", model="gpt-large")
        assert answer.status == 403
        assert "gpt-large" in error_of(answer)["message"]
        assert (await ask(house.port, "aib_wrong", "/openai/v1/chat/completions")).status == 401


@pytest.mark.parametrize(
    ("routed", "status"), [("anthropic", 200), ("bedrock", 403)], ids=["its provider", "another provider"]
)
async def test_through_a_router_the_provider_that_is_chosen_counts(in_house, ask, command, routed, status):
    made = command("create", "--owner", "ann", "--provider", "anthropic")["key"]
    async with in_house(routers={"any": {"default": routed}}) as house:
        assert (await ask(house.port, made, "/any/v1/messages")).status == status


@pytest.mark.parametrize(("own", "kept"), [("full", 1), ("off", 0), ("hashed", 0)])
async def test_a_key_has_its_own_recording_policy(in_house, ask, command, own, kept):
    """Hashed is nothing, where there is no key to hash with."""
    made = command("create", "--owner", "ann", "--team", "red", "--prompts", own)["key"]
    async with in_house() as house:
        assert (await ask(house.port, made)).status == 200
        assert (await house.books()).record["actor_id"] == "ann"
        assert house.metric("aibridge_prompts_total") == kept
        assert house.outcomes.ended[-1][0].actor.teams == ("red",)


async def test_no_key_turns_recording_on(in_house, ask, command):
    made = command("create", "--owner", "ann", "--prompts", "full")["key"]
    async with in_house(records={"enabled": False}) as house:
        assert (await ask(house.port, made)).status == 200
        assert house.metric("aibridge_prompts_total") == 0


async def test_static_keys_open_beside_those_of_the_store(build_house, ask, command, tmp_path):
    made = command("create", "--owner", "ann")["key"]
    auth = {"keys": [{"name": "bob", "key": "of-bob"}], "key_store": {"path": str(tmp_path / "keys.db")}}
    async with build_house(auth=auth) as house:
        assert [(await ask(house.port, key)).status for key in (made, "of-bob", "of-eve")] == [200, 200, 401]


@pytest.mark.parametrize("said", [("list",), ("revoke", "key_one"), ("rotate", "key_one", "--overlap", "1h")])
def test_a_file_that_is_not_there_is_told_and_not_made(said, tmp_path, capsys):
    assert cli.main(["keys", *said, "--store", str(tmp_path / "none.db")]) == 2
    assert "none.db: there are no keys; `aibridge keys create` makes the file" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()


def test_an_expiry_behind_all_calendars_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["keys", "create", "--owner", "ann", "--expires", "999999999d", "--store", str(tmp_path / "keys.db")])
    assert ended.value.code == 2
    assert "argument --expires: should be as 24h, 90d or 2026-12-31" in capsys.readouterr().err


# time


async def test_an_expired_key_says_so(in_house, ask, command):
    made = command("create", "--owner", "ann", "--expires", "1s")["key"]
    async with in_house() as house:
        await until_answered(ask, [house.port], made, 401)
        assert "expired" in error_of(await ask(house.port, made))["message"]
        assert house.metric("aibridge_gateway_keys", state="expired") == 1


async def test_both_secrets_are_good_while_a_rotation_overlaps(in_house, ask, command):
    old = command("create", "--owner", "ann")
    async with in_house() as house:
        new = command("rotate", old["id"], "--overlap", "1h")
        assert new["id"] == old["id"]
        await until_answered(ask, [house.port], new["key"], 200)
        assert (await ask(house.port, old["key"])).status == 200
        assert command("list")[0]["old_secret_until"]
        newest = command("rotate", old["id"], "--overlap", "0s")
        await until_answered(ask, [house.port], newest["key"], 200)
        for gone in (old, new):
            assert (await ask(house.port, gone["key"])).status == 401
        command("revoke", old["id"])
        await until_answered(ask, [house.port], newest["key"], 401)
        assert house.metric("aibridge_gateway_keys", state="revoked") == 3


async def test_the_last_known_keys_go_on_while_the_store_is_away_and_then_no_more(in_house, ask, command, tmp_path):
    made = command("create", "--owner", "ann")["key"]
    file, away = tmp_path / "keys.db", tmp_path / "away.db"
    async with in_house(max_age=6.0) as house:
        file.rename(away)
        words = "gateway keys cannot be read; the last known ones go on"
        await until(lambda: any(line["message"] == words for line in house.lines()))
        assert (await ask(house.port, made)).status == 200
        await until_answered(ask, [house.port], made, 503)
        answer = await ask(house.port, made)
        assert answer.headers["retry-after"] == "1"
        assert house.metric("aibridge_rejections_total", reason="keys_unknown") >= 1
        assert house.metric("aibridge_key_store_age_seconds") > 6
        away.rename(file)
        await until_answered(ask, [house.port], made, 200)
        assert house.metric("aibridge_key_store_age_seconds") < 6
        assert any(line["message"] == "gateway keys are read again" for line in house.lines())


async def test_a_gateway_does_not_start_on_what_is_no_file_of_keys(environment, tmp_path):
    (tmp_path / "keys.db").write_text("something else" * 100)
    status, _, err = await run("serve", environment=environment)
    assert status == 2
    assert "keys.db" in err
