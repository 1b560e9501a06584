"""AWS credentials of a running gateway: where they come from, what is said without them, and renewals under load."""

import asyncio
import json
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aws_kit
import pytest
from aws_kit import ROLE, SECRETS
from process_kit import ENVIRONMENT, run, serving

from aibridge import config
from aibridge.app import App
from aibridge.providers.aws import Finder
from aibridge.providers.renewal import CredentialSource
from aibridge.simulator.server import Simulator
from aibridge.simulator.settings import Settings
from aibridge.simulator.sigv4 import Credentials

PATIENCE = 60.0
REGION = "us-east-1"
PACE = 0.02
"""Seconds between two requests of a client: a load, and not all that the machine can do."""
BASE = {"access_key_id": "AKIABASE", "secret_access_key": "secret/of/base"}
SECRET_WORDS = ["secret/of", "token/of", "partner-secret", *SECRETS.values()]


@dataclass
class Cloud:
    """The stand-ins, a simulator that knows the sessions which these hand out, and a home for files."""

    aws: aws_kit.AWS
    simulator: Simulator
    home: Path

    def environment(self, **more):
        return {**ENVIRONMENT, **self.aws.environment(self.home), "XDG_STATE_HOME": str(self.home), **more}

    def write(self, **providers):
        """Write a configuration file with these Bedrock providers, and return its name."""
        raw = {
            "listen": {"host": "127.0.0.1", "port": 0},
            "admin": {"port": 0},
            "records": {"enabled": False},
            "proxy": {"from_environment": False},
            "providers": {
                name: {"kind": "bedrock", "base_url": self.simulator.url, "region": REGION, **settings}
                for name, settings in providers.items()
            },
        }
        file = self.home / "aibridge.yaml"
        file.write_text(json.dumps(raw))
        return str(file)

    def used(self, who):
        """Return the sessions, handed out to `who`, with which the gateway came to Bedrock."""
        sessions = self.aws.sessions
        return [sessions[key] for key in sessions.used if key.endswith(who) and key in sessions]


@pytest.fixture
def build_cloud(tmp_path):
    """Return an async context manager that builds a cloud; what it hands out lives that long."""

    @asynccontextmanager
    async def build(lives=3600.0):
        with aws_kit.serving_aws(lives) as aws:
            credentials = Credentials(secrets={"AKIABASE": "secret/of/base"}, sessions=aws.sessions)
            async with Simulator(Settings(aws=credentials)) as simulator:
                aws_kit.write_profiles(tmp_path, aws)
                aws_kit.write_sso_token(tmp_path)
                yield Cloud(aws, simulator, tmp_path)

    return build


@pytest.fixture
def ask_once(new_client, request_body):
    """Return a function that streams one answer of a provider, and returns its status and last event."""

    async def ask(port, provider):
        async with new_client(port) as client:
            return await one_request(client, provider, request_body)

    return ask


async def one_request(client, provider, request_body):
    await client.ask(f"/{provider}/v1/messages", request_body("bedrock"), headers=[("anthropic-version", "2023-06-01")])
    answer = await client.answer()
    return answer.status, (answer.events or [answer.body])[-1]


def port_of(started):
    return int(started["data"].rpartition(":")[2])


# each source, with a process of its own


SOURCES = {
    "static": (BASE, "configuration"),
    "profile": ({"profile": "base"}, "shared-credentials-file"),
    "env": ({}, "env"),
    "sso": ({"profile": "sso"}, "sso"),
    "sso-session": ({"profile": "sso-session"}, "sso"),
    "irsa": ({}, "assume-role-with-web-identity"),
    "imds": ({}, "iam-role"),
    "container": ({}, "container-role"),
    "profile-role": ({"profile": "role"}, "assume-role"),
    "role": ({**BASE, "role_arn": ROLE, "external_id": "partner-secret"}, f"{ROLE} by configuration"),
}


def variables_of(source, cloud):
    return {
        "env": {"AWS_ACCESS_KEY_ID": "AKIABASE", "AWS_SECRET_ACCESS_KEY": "secret/of/base"},
        "irsa": aws_kit.web_identity_environment(cloud.home),
        "imds": {"AWS_EC2_METADATA_DISABLED": "false"},
        "container": aws_kit.container_environment(cloud.aws),
    }.get(source, {})


@pytest.mark.parametrize("source", SOURCES)
async def test_a_gateway_with_credentials_of(source, build_cloud, ask_once):
    settings, told = SOURCES[source]
    async with build_cloud() as cloud:
        file = cloud.write(bedrock=settings)
        environment = cloud.environment(**variables_of(source, cloud))
        async with serving("--config", file, environment=environment) as (_, started):
            assert started["aws_credentials"] == {"bedrock": told}
            assert await ask_once(port_of(started), "bedrock") == (200, "message_stop")
        assert len(cloud.aws.sessions.used) == 1


# none


async def refused_start(cloud, file, **more):
    """Return what `serve` says where it does not start."""
    status, out, err = await run("serve", "--config", file, environment=cloud.environment(**more))
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert not [word for word in SECRET_WORDS if word in err]
    return err


async def test_no_start_without_credentials(build_cloud):
    async with build_cloud() as cloud:
        file = cloud.write(bedrock={}, elsewhere={"profile": "elsewhere"}, token={"bearer_token": "b"}, own=BASE)
        err = await refused_start(
            cloud, file, AWS_EC2_METADATA_DISABLED="false", AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:1"
        )
        assert "providers.bedrock: no AWS credentials; tried in this order:\n  env: AWS_ACCESS_KEY_ID is not set" in err
        assert f"shared-credentials-file: profile default has no aws_access_key_id in {cloud.home}/credentials" in err
        assert "  iam-role: no role to be had at http://127.0.0.1:1: not reachable" in err
        assert "providers.elsewhere: no AWS credentials; tried in this order:\n" in err
        assert "The config profile (elsewhere) could not be found" in err
        assert "providers.token" not in err
        assert "providers.own" not in err


async def test_no_start_where_the_role_is_denied(build_cloud):
    async with build_cloud() as cloud:
        cloud.aws.refusals["AssumeRole"] = (403, "AccessDenied", "User is not authorized to perform: sts:AssumeRole")
        file = cloud.write(bedrock=SOURCES["role"][0])
        err = await refused_start(cloud, file)
        assert (
            f"providers.bedrock: {ROLE} cannot be assumed with the AWS credentials of configuration: "
            "AssumeRole was answered with AccessDenied: User is not authorized to perform: sts:AssumeRole\n"
        ) in err


async def test_clients_with_keys_of_their_own_are_served_without_credentials(build_cloud, ask_once):
    async with build_cloud() as cloud:
        file = cloud.write(bedrock={"byok": True})
        async with serving("--config", file, environment=cloud.environment()) as (_, started):
            assert started["aws_credentials"] == {"bedrock": ""}
            status, body = await ask_once(port_of(started), "bedrock")
            assert status == 500
            assert b"AWS_ACCESS_KEY_ID" not in body  # the log's business


async def test_without_a_sign_of_aws_nobody_is_asked(build_cloud):
    async with build_cloud() as cloud:
        (cloud.home / "config").unlink()
        (cloud.home / "credentials").unlink()
        environment = cloud.environment(
            AWS_EC2_METADATA_DISABLED="false", AWS_REGION=REGION, AIBRIDGE_PORT="0", AIBRIDGE_ADMIN_PORT="0"
        )
        async with serving(environment=environment) as (_, started):
            assert started["aws_credentials"] == {"bedrock": "configuration"}  # the simulator's
        assert cloud.aws.asked == []


# under load


@dataclass
class Load:
    """What clients saw that asked and asked."""

    answers: list

    def check(self):
        assert self.answers
        assert [answer for answer in self.answers if answer != (200, "message_stop")] == []


@pytest.fixture
def load(new_client, request_body):
    """Return a function that asks providers, two clients each, until something is true."""

    async def run_load(port, providers, until):
        load = Load([])

        async def ask(provider):
            async with new_client(port) as client:
                while not until():
                    load.answers.append(await one_request(client, provider, request_body))
                    await asyncio.sleep(PACE)

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for provider in providers:
                group.create_task(ask(provider))
                group.create_task(ask(provider))
        return load

    return run_load


RENEWED = {
    "web": {"profile": "web"},
    "sso": {"profile": "sso"},
    "session": {"profile": "sso-session"},
    "role": {"profile": "role"},
    "ec2": {"profile": "ec2-role"},
    "container": {},
    "static": {**BASE, "role_arn": ROLE, "session_name": "static", "session_tags": {"a": "b"}},
    "twice": {"profile": "sso", "role_arn": ROLE, "session_name": "twice", "external_id": "partner-secret"},
}
"""Providers by the name under which their sessions are handed out."""


async def test_keys_that_expire_every_two_seconds_fail_no_request(build_cloud, load):
    async with build_cloud(lives=2.0) as cloud:
        variables = {"AWS_EC2_METADATA_DISABLED": "false", **aws_kit.container_environment(cloud.aws)}
        file = cloud.write(**RENEWED)

        def is_over(who):
            """Each has used several sessions, and its first one is no good any more."""
            used = cloud.used(who)
            return len(used) > 3 and used[0].expires_at < time.time()

        def all_over():
            return all(is_over(who) for who in RENEWED)

        async with serving("--config", file, environment=cloud.environment(**variables)) as (process, started):
            reading = asyncio.create_task(process.stderr.read())  # or a full pipe would hold the gateway up
            seen = await load(port_of(started), RENEWED, all_over)
            process.terminate()
            said = (await reading).decode()
        seen.check()
        assert "no new AWS credentials" not in said
        # Two a second for each provider, and not one for each request.
        assert cloud.aws.issued.total() < len(seen.answers)


@asynccontextmanager
async def gateway(cloud, monkeypatch, **providers):
    """Run a gateway in this process."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    app = App(config.load(cloud.write(**providers), {}))
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def test_keys_of_the_metadata_service_are_replaced_in_good_time(build_cloud, load, monkeypatch):
    """Botocore takes these to be good for a quarter of an hour at least: so time runs fast here."""

    def fast(started):
        return started + (time.time() - started) * 100

    async with build_cloud(lives=3.0) as cloud, gateway(cloud, monkeypatch, own=BASE, imds=BASE) as app:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        [_, provider] = app.generation.signing
        started = time.time()
        source = CredentialSource("imds", Finder(region=REGION).find, lambda: fast(started))
        object.__setattr__(provider, "credentials", source)

        def over():
            used = cloud.used("imds")
            return len(used) > 3 and used[0].expires_at < time.time()

        seen = await load(app.port, ["imds"], over)
    seen.check()


async def test_a_service_that_is_away_fails_no_request_while_the_keys_are_good(build_cloud, load, monkeypatch, caplog):
    async with build_cloud(lives=60.0) as cloud, gateway(cloud, monkeypatch, static=RENEWED["static"]) as app:
        [source] = [provider.credentials for provider in app.generation.signing]
        cloud.aws.refusals["AssumeRole"] = (503, "ServiceUnavailable", "later")
        cloud.aws.sessions.used.clear()
        source._next_at = 0.0  # now, not in six seconds
        (await load(app.port, ["static"], lambda: "no new AWS credentials" in caplog.text)).check()
        assert "ServiceUnavailable" in str([record.__dict__ for record in caplog.records])
        assert len(cloud.used("static")) == 1
        cloud.aws.refusals.clear()
        source._next_at = 0.0
        (await load(app.port, ["static"], lambda: len(cloud.used("static")) == 2)).check()


async def test_a_service_that_hangs_holds_up_no_request_while_the_keys_are_good(build_cloud, ask_once, monkeypatch):
    async with build_cloud(lives=60.0) as cloud, gateway(cloud, monkeypatch, static=RENEWED["static"]) as app:
        [source] = [provider.credentials for provider in app.generation.signing]
        cloud.aws.may_answer.clear()
        source._next_at = 0.0
        for _ in range(20):
            assert await ask_once(app.port, "static") == (200, "message_stop")
        assert source._renewal is not None
        assert len(cloud.aws.asks("AssumeRole")) == 2
        cloud.aws.may_answer.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait({source._renewal})


async def test_a_service_that_hangs_does_not_hold_up_the_end(build_cloud, load):
    async with build_cloud(lives=20.0) as cloud:
        file = cloud.write(static=RENEWED["static"])
        async with serving("--config", file, environment=cloud.environment()) as (process, started):
            cloud.aws.may_answer.clear()
            (await load(port_of(started), ["static"], lambda: len(cloud.aws.asks("AssumeRole")) == 2)).check()
            process.terminate()
            async with asyncio.timeout(15):  # the call itself would give up after twenty
                assert await process.wait() == 0


async def test_expired_keys_fail_requests_only_until_the_service_is_back(build_cloud, ask_once, monkeypatch):
    async with build_cloud(lives=60.0) as cloud, gateway(cloud, monkeypatch, static=RENEWED["static"]) as app:
        [source] = [provider.credentials for provider in app.generation.signing]
        cloud.aws.refusals["AssumeRole"] = (403, "AccessDenied", "no more")
        source._clock = lambda: time.time() + 120
        status, body = await ask_once(app.port, "static")
        assert status == 500
        assert b"AccessDenied" not in body
        cloud.aws.refusals.clear()
        cloud.aws.lives = 3600.0
        source._clock = lambda: time.time() + 180
        assert await ask_once(app.port, "static") == (200, "message_stop")
