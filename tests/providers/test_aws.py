"""Where AWS keys are found: each source, with its service on a socket; and what is said where there are none."""

import asyncio
import contextlib
import os
import time

import aws_kit
import pytest
from aws_kit import ROLE, SECRETS
from botocore.exceptions import ClientError, CredentialRetrievalError, EndpointConnectionError
from botocore.session import Session

from aibridge.errors import CredentialsError
from aibridge.providers.aws import Finder, Role
from aibridge.providers.awschain import _reason
from aibridge.providers.renewal import CredentialSource
from aibridge.providers.sigv4 import Keys

REGION = "eu-west-1"
SECRET_WORDS = ["secret/of", "token/of", "partner-secret", "process-secret", *SECRETS.values()]


@pytest.fixture(scope="module")
def aws_of_module():
    with aws_kit.serving_aws() as aws:
        yield aws


@pytest.fixture
def aws(aws_of_module, monkeypatch, tmp_path):
    """Stand-ins, and an environment that knows nothing else."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "BOTO_")) or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in aws_of_module.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    aws_of_module.asked.clear()
    aws_of_module.refusals.clear()
    return aws_of_module


@pytest.fixture
def profiles(aws, monkeypatch, tmp_path):
    """Configuration files, and the token of an SSO login."""
    aws_kit.write_profiles(tmp_path, aws)
    cache = aws_kit.write_sso_token(tmp_path)
    # botocore looks for the home directory when it is imported; a process of its own is tested in tests/e2e.
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    monkeypatch.setattr("botocore.tokens.SSOTokenProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    return aws


def check(aws, found, action):
    """Check that these are the keys that were issued last for an action."""
    key, session = list(aws.sessions.items())[-1]
    assert found.keys == Keys(key, session.secret, session.token)
    assert aws.asks(action)


def is_in_an_hour(moment):
    return 3590 < moment - time.time() < 3610


# each source


def test_static_keys_need_no_search(aws):
    found = Finder(region=REGION, static=Keys("AKIA1", "sesame", "token")).find()
    assert (found.keys, found.source) == (Keys("AKIA1", "sesame", "token"), "configuration")
    assert aws.asked == []


def test_the_environment(aws, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    found = Finder(region=REGION).find()
    assert (found.keys, found.source) == (Keys("AKIA2", "sesame", None), "env")
    assert found.expires_at == float("inf")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "open")
    assert Finder(region=REGION).find().keys == Keys("AKIA2", "sesame", "open")
    assert aws.asked == []


def test_the_environment_may_tell_when_its_keys_expire(aws, monkeypatch):  # noqa: ARG001 - the environment it makes
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret/of/env")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z")
    assert Finder(region=REGION).find().expires_at == 4070908800
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z")
    assert "env: the credentials there have expired" in refusal(Finder(region=REGION))


def test_a_profile_of_the_files(profiles, monkeypatch):
    found = Finder(region=REGION, profile="base").find()
    assert (found.keys, found.source) == (Keys("AKIABASE", "secret/of/base", None), "shared-credentials-file")
    monkeypatch.setenv("AWS_PROFILE", "base")
    assert Finder(region=REGION).find() == found
    assert profiles.asked == []


@pytest.mark.parametrize(("profile", "role"), [("sso", "sso"), ("sso-session", "session")])
def test_sso(profiles, profile, role):
    found = Finder(region=REGION, profile=profile).find()
    check(profiles, found, "sso")
    assert found.source == "sso"
    assert is_in_an_hour(found.expires_at)
    assert profiles.asks("sso")[0]["asked"] == {"role_name": [role], "account_id": [aws_kit.ACCOUNT]}


def test_an_sso_session_renews_its_login(profiles, tmp_path):
    aws_kit.write_sso_token(tmp_path, expires_in=-10)
    finder = Finder(region=REGION, profile="sso-session")
    check(profiles, finder.find(), "sso")
    check(profiles, finder.find(), "sso")
    assert [one["asked"] for one in profiles.asks("sso-token")] == ["refresh_token"]  # and kept


def test_an_sso_session_whose_login_is_over(profiles, tmp_path):
    aws_kit.write_sso_token(tmp_path, expires_in=-10)
    profiles.refusals["sso-token"] = (400, "", "")
    line = last_line(Finder(region=REGION, profile="sso-session"))
    assert line == "sso: Error when retrieving token from sso: Token has expired and refresh failed"
    assert profiles.asks("sso") == []


def test_web_identity(aws, monkeypatch, tmp_path):
    for name, value in aws_kit.web_identity_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    found = Finder(region=REGION).find()
    check(aws, found, "AssumeRoleWithWebIdentity")
    assert is_in_an_hour(found.expires_at)
    asked = aws.asks("AssumeRoleWithWebIdentity")[0]
    assert (asked["asked"]["RoleArn"], asked["asked"]["RoleSessionName"]) == (ROLE, "pod")
    assert asked["by"] is None  # the token is all that is shown: there are no keys to sign with


def test_web_identity_reads_its_token_anew(aws, monkeypatch, tmp_path):
    for name, value in aws_kit.web_identity_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    finder = Finder(region=REGION)
    (tmp_path / "web-token").write_text("stale")
    assert "InvalidClientTokenId" in refusal(finder)
    (tmp_path / "web-token").write_text(SECRETS["web"])
    check(aws, finder.find(), "AssumeRoleWithWebIdentity")


def test_a_container(aws, monkeypatch):
    for name, value in aws_kit.container_environment(aws).items():
        monkeypatch.setenv(name, value)
    found = Finder(region=REGION).find()
    check(aws, found, "container")
    assert found.source == "container-role"
    assert is_in_an_hour(found.expires_at)


def test_the_metadata_service(aws, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    found = Finder(region=REGION).find()
    check(aws, found, "imds")
    assert found.source == "iam-role"
    assert is_in_an_hour(found.expires_at)
    assert [one["action"] for one in aws.asked] == ["imds-token", "imds-role", "imds"]  # version 2 only


# a role on top


FULL = Role(arn=ROLE, session_name="gateway", external_id="partner-secret", session_tags={"team": "a b", "cost": "7"})


def check_role(asked):
    assert asked == {
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "gateway",
        "ExternalId": "partner-secret",
        "Tags.member.1.Key": "team",
        "Tags.member.1.Value": "a b",
        "Tags.member.2.Key": "cost",
        "Tags.member.2.Value": "7",
    }


@pytest.mark.parametrize("by", ["static", "base", "sso", "web", "role", "env", "container", "imds"])
def test_a_role_on_top_of_any_source(profiles, monkeypatch, tmp_path, by):
    environment = {
        "env": {"AWS_ACCESS_KEY_ID": "AKIABASE", "AWS_SECRET_ACCESS_KEY": "secret/of/base"},
        "container": aws_kit.container_environment(profiles),
        "imds": {"AWS_EC2_METADATA_DISABLED": "false"},
        "web": aws_kit.web_identity_environment(tmp_path),
    }
    for name, value in environment.get(by, {}).items():
        monkeypatch.setenv(name, value)
    static = Keys("AKIABASE", "secret/of/base") if by == "static" else None
    profile = by if by in {"base", "sso", "role"} else None
    found = Finder(region=REGION, static=static, profile=profile, role=FULL).find()
    check(profiles, found, "AssumeRole")
    assert found.source.startswith(f"{ROLE} by ")
    assert is_in_an_hour(found.expires_at)
    asked = profiles.asks("AssumeRole")[-1]
    check_role(asked["asked"])
    assert asked["region"] == REGION
    assert asked["by"] == "AKIABASE" or asked["by"] in profiles.sessions


def test_a_role_alone(aws, monkeypatch):
    aws.long_lived["AKIAENV"] = ""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    Finder(region=REGION, role=Role(arn=ROLE, session_name="aibridge")).find()
    assert aws.asks("AssumeRole")[0]["asked"] == {
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "aibridge",
    }


def test_a_role_of_a_profile_has_its_external_id(profiles):
    found = Finder(region=REGION, profile="role").find()
    check(profiles, found, "AssumeRole")
    assert profiles.asks("AssumeRole")[0]["asked"]["ExternalId"] == "partner-secret"


def test_a_role_of_a_profile_on_the_metadata_service(profiles, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    check(profiles, Finder(region=REGION, profile="ec2-role").find(), "AssumeRole")
    assert profiles.asks("imds")


@pytest.mark.parametrize("profile", ["sso", "sso-session", "web", "role"])
def test_each_search_brings_new_keys(profiles, profile):
    finder = Finder(region=REGION, profile=profile)
    assert len({finder.find().keys.access_key for _ in range(3)}) == 3
    assert len(profiles.asked) == 3


def test_a_proxy_of_ours_is_used_for_sts(aws, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.example")
    keys = Keys("AKIABASE", "x")
    aws.long_lived["AKIABASE"] = "x"
    Finder(region=REGION, static=keys, role=FULL, proxies={"http": aws.url}).find()
    assert aws.asks("AssumeRole")[0]["target"] == "http://sts.example/"


def test_the_environments_proxy_counts_only_where_it_may(aws, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.invalid")
    monkeypatch.setenv("http_proxy", aws.url)
    aws.long_lived["AKIABASE"] = "x"
    finder = Finder(region=REGION, static=Keys("AKIABASE", "x"), role=FULL)
    finder.find()
    assert aws.asks("AssumeRole")[0]["target"] == "http://sts.invalid/"
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    finder = Finder(region=REGION, static=Keys("AKIABASE", "x"), role=FULL, proxies={})
    finder.find()
    assert aws.asks("AssumeRole")[-1]["target"] == "/"


# none


def refusal(finder):
    """Return the text with which a search fails; no text holds a secret."""
    with pytest.raises(CredentialsError) as caught:
        finder.find()
    text = str(caught.value)
    assert not [word for word in SECRET_WORDS if word in text]
    assert caught.value.__cause__ is None
    return text


CHAIN = [
    "env: AWS_ACCESS_KEY_ID is not set",
    "assume-role: profile default has no role_arn with a source in {home}/config",
    (
        "assume-role-with-web-identity: profile default has no web_identity_token_file in {home}/config, "
        "and AWS_WEB_IDENTITY_TOKEN_FILE is not set"
    ),
    "sso: profile default has no sso_account_id and no sso_role_name in {home}/config",
    "shared-credentials-file: profile default has no aws_access_key_id in {home}/credentials",
    "login: profile default has no login_session in {home}/config",
    "custom-process: profile default has no credential_process in {home}/config",
    "config-file: profile default has no aws_access_key_id in {home}/config",
    "ec2-credentials-file: AWS_CREDENTIAL_FILE is not set",
    "boto-config: no keys in a file of boto's",
    "container-role: neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor AWS_CONTAINER_CREDENTIALS_FULL_URI is set",
    "iam-role: AWS_EC2_METADATA_DISABLED is set",
]


def test_none_at_all_names_each_source_and_why_it_gave_nothing(aws, tmp_path):  # noqa: ARG001 - its environment
    head, *lines = refusal(Finder(region=REGION)).split("\n  ")
    assert head == "no AWS credentials; tried in this order:"
    assert lines == [line.format(home=tmp_path) for line in CHAIN]


def test_a_metadata_service_that_is_away(aws, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
    assert "iam-role: no role to be had at http://127.0.0.1:1: not reachable" in refusal(Finder(region=REGION))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url)
    aws.refusals["imds-role"] = (404, "", "")
    assert f"iam-role: no role to be had at {aws.url}: " in refusal(Finder(region=REGION))


def test_a_profile_that_is_not_there(profiles):
    assert refusal(Finder(region=REGION, profile="elsewhere")).endswith(
        "configuration files: The config profile (elsewhere) could not be found"
    )
    assert profiles.asked == []


def test_a_profile_without_anything_says_nothing_of_the_environment(profiles, tmp_path):
    (tmp_path / "config").write_text("[profile empty]\nregion = us-east-1\n")
    text = refusal(Finder(region=REGION, profile="empty"))
    assert "profile empty has no web_identity_token_file" in text
    assert "AWS_ACCESS_KEY_ID" not in text
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" not in text
    assert profiles.asked == []


def last_line(finder):
    return refusal(finder).splitlines()[-1].strip()


def test_half_a_pair(profiles, monkeypatch):
    assert last_line(Finder(region=REGION, profile="half")) == (
        "config-file: Partial credentials found in config-file, missing: aws_secret_access_key"
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    assert last_line(Finder(region=REGION)) == ("env: Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY")
    assert profiles.asked == []


def test_an_sso_session_that_has_expired(profiles, tmp_path):
    aws_kit.write_sso_token(tmp_path, expires_in=-10)
    assert last_line(Finder(region=REGION, profile="sso")).startswith("sso: The SSO session")
    profiles.refusals["sso"] = (401, "", "")
    aws_kit.write_sso_token(tmp_path)
    assert "run aws sso login" in last_line(Finder(region=REGION, profile="sso"))


def test_nobody_logged_in_at_sso(profiles, tmp_path):
    for file in aws_kit.write_sso_token(tmp_path).iterdir():
        file.unlink()
    assert last_line(Finder(region=REGION, profile="sso")).startswith("sso: Error loading SSO Token")
    assert profiles.asked == []


def test_a_token_file_that_is_not_there(aws, monkeypatch, tmp_path):
    for name, value in aws_kit.web_identity_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "web-token").unlink()
    line = last_line(Finder(region=REGION))
    assert line == f"assume-role-with-web-identity: {tmp_path}/web-token: No such file or directory"
    monkeypatch.delenv("AWS_ROLE_ARN")
    assert "AWS_ROLE_ARN" in last_line(Finder(region=REGION))
    assert aws.asked == []


def test_a_process_that_fails_is_not_quoted(profiles):
    assert last_line(Finder(region=REGION, profile="process")) == "custom-process: the credential_process failed"
    assert profiles.asked == []


def test_a_container_that_refuses_is_not_quoted(aws, monkeypatch):
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    for name, value in aws_kit.container_environment(aws).items():
        monkeypatch.setenv(name, value)
    aws.refusals["container"] = (403, "", SECRETS["container"])
    assert last_line(Finder(region=REGION)) == "container-role: answered with status 403"
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/container")
    assert "Could not connect" in last_line(Finder(region=REGION))


def test_a_role_that_is_denied(profiles):
    profiles.refusals["AssumeRole"] = (403, "AccessDenied", f"User is not authorized to assume {ROLE}\ntoken/of/you")
    static = Keys("AKIABASE", "secret/of/base")
    text = refusal(Finder(region=REGION, static=static, role=FULL))
    assert text == (
        f"{ROLE} cannot be assumed with the AWS credentials of configuration: "
        f"AssumeRole was answered with AccessDenied: User is not authorized to assume {ROLE}"
    )
    assert last_line(Finder(region=REGION, profile="role")).startswith("assume-role: AssumeRole was answered with Acc")


def test_a_role_that_wants_a_code_does_not_ask_for_it(profiles, monkeypatch):
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("asked"))
    assert last_line(Finder(region=REGION, profile="mfa")).startswith("assume-role: the role asks for a code of multi")
    assert profiles.asked == []


def test_an_sts_that_is_away(aws, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    text = refusal(Finder(region=REGION, static=Keys("AKIABASE", "secret/of/base"), role=FULL))
    assert text.endswith('Could not connect to the endpoint URL: "http://127.0.0.1:1/"')
    assert aws.asked == []


@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        ("http://u:PASSWORD@127.0.0.1:1", "the proxy cannot be reached"),
        ("socks5://u:PASSWORD@127.0.0.1:1", "the proxy cannot be reached"),
        ("http://u:PASSWORD", "HTTP failed: LocationParseError"),
        ("http://u:PASS#WORD@127.0.0.1:1", "HTTP failed: LocationParseError"),
        ("http://u:PASSWORD x@127.0.0.1:99999", "HTTP failed: LocationParseError"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_not_quoted(aws, monkeypatch, proxy, reason):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.invalid")
    monkeypatch.setenv("http_proxy", proxy)
    text = refusal(Finder(region=REGION, static=Keys("AKIABASE", "x"), role=FULL))
    assert text.endswith(reason)
    assert "PASS" not in text
    assert aws.asked == []


def test_keys_that_would_break_a_header(aws, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret/of/env")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token/of/env\r\nx-forged: 1")
    assert last_line(Finder(region=REGION)) == (
        "env: an access key or a session token has a line break or another stray character"
    )
    assert aws.asked == []


def test_files_that_cannot_be_read(profiles, tmp_path):
    (tmp_path / "config").write_text("[profile broken\nsecret/of/me")
    assert refusal(Finder(region=REGION, profile="base")).endswith(
        f"configuration files: Unable to parse config file: {tmp_path}/config"
    )
    assert profiles.asked == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CredentialRetrievalError(provider="sso", error_msg="the token has expired"),
         "Error when retrieving credentials from sso: the token has expired"),
        (ClientError({"Error": {"Code": "X", "Message": "m" * 1000}}, "AssumeRole"),
         "AssumeRole was answered with X: " + "m" * 268),
        (ClientError({}, "AssumeRole"), "AssumeRole was answered with ?: "),
        (EndpointConnectionError(endpoint_url="http://u:secret@h/"),
         'Could not connect to the endpoint URL: "http://***@h/"'),
        (ValueError("secret/of/it"), "ValueError"),
        (KeyError("secret/of/it"), "KeyError"),
        (OSError("secret/of/it"), "OSError"),
        (RuntimeError("secret/of/it"), "RuntimeError"),
    ],
    ids=repr,
)  # fmt: skip
def test_reasons_hold_nothing_foreign(error, text):
    assert _reason(error) == text


# with the loop


async def test_botocores_own_warnings_are_not_in_the_log(profiles, caplog):
    """With a failure it logs what a process or a service answered."""
    source = CredentialSource("aws", Finder(region=REGION, profile="process").find)
    with pytest.raises(CredentialsError), caplog.at_level("WARNING"):
        await source.current()
    profiles.refusals["AssumeRoleWithWebIdentity"] = (403, "AccessDenied", "no")
    source = CredentialSource("aws", Finder(region=REGION, profile="web").find)
    with pytest.raises(CredentialsError):
        await source.current()
    assert {record.name for record in caplog.records} == {"aibridge.providers.renewal"}
    assert "process-secret" not in caplog.text


async def test_keys_that_come_later_are_found(aws, monkeypatch):
    source = CredentialSource("aws", Finder(region=REGION).find)
    with pytest.raises(CredentialsError, match="AWS_ACCESS_KEY_ID is not set"):
        await source.current()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA4")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "late")
    async with asyncio.timeout(20):
        while True:  # a failure is remembered for half a second
            with contextlib.suppress(CredentialsError):
                assert (await source.current()).access_key == "AKIA4"
                break
            await asyncio.sleep(0.05)
    assert aws.asked == []


def test_the_chain_is_the_one_whose_links_have_words(aws):  # noqa: ARG001 - its environment
    """A link that a new botocore adds gets words of its own."""
    methods = {link.METHOD for link in Session().get_component("credential_provider").providers}
    assert methods == {line.partition(":")[0] for line in CHAIN}
