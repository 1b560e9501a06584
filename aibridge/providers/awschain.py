"""botocore's chain of credentials, walked link by link, and STS. The only door to botocore; see `aws.py`.

Loaded where keys are looked for: it takes a tenth of a second and some megabytes.
"""

import logging
import math
import os
import re
from collections.abc import Mapping
from typing import Any

from botocore.config import Config
from botocore.credentials import RefreshableCredentials, create_credential_resolver
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    ProxyConnectionError,
)
from botocore.session import Session

from aibridge.errors import CredentialsError
from aibridge.providers.renewal import Found
from aibridge.providers.sigv4 import Keys
from aibridge.text import bounded

_MAX_REASON_BYTES = 300

# With a failure it logs a traceback, and with that what a process or a service answered. We tell it in our own words.
logging.getLogger("botocore").setLevel(logging.CRITICAL)


class Chain:
    """The chain of a profile, and STS; the arguments are those of `Finder`."""

    def __init__(
        self, region: str, profile: str | None, proxies: Mapping[str, str] | None, ca_file: str | None
    ) -> None:
        self._region = region
        self._profile = profile
        self._session: Any = Session(profile=profile)
        self._session.set_default_client_config(_client_config(proxies))
        if ca_file is not None:
            self._session.set_config_variable("ca_bundle", ca_file)

    def walk(self) -> Found:
        """Return the keys of the first link that has some.

        Raises:
            CredentialsError: as `Finder.find`.
        """
        tried: list[str] = []
        method = "configuration files"
        try:
            # A new chain each time: its links keep what they gave.
            for link in create_credential_resolver(self._session, region_name=self._region).providers:
                method = link.METHOD
                if method == "assume-role":
                    link._prompter = _refuse_mfa  # noqa: SLF001 - or it would ask at the terminal
                credentials = link.load()
                if credentials is not None:
                    return _found(credentials, method)
                tried.append(f"{method}: {self._why_nothing(method)}")
        except Exception as error:  # noqa: BLE001 - files, processes, services: whatever stands in the way is told
            tried.append(f"{method}: {_reason(error)}")
        raise CredentialsError("\n  ".join(["no AWS credentials; tried in this order:", *tried]))

    def assume(self, asked: Mapping[str, Any], source: Found) -> Found:
        """Return the keys of a role; `asked` is the body of AssumeRole.

        Raises:
            CredentialsError: as `Finder.find`.
        """
        keys, arn = source.keys, asked["RoleArn"]
        try:
            client = self._session.create_client(
                "sts",
                region_name=self._region,
                aws_access_key_id=keys.access_key,
                aws_secret_access_key=keys.secret_key,
                aws_session_token=keys.token,
            )
            given = client.assume_role(**asked)["Credentials"]
            new = _keys(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
            return Found(new, f"{arn} by {source.source}", given["Expiration"].timestamp())
        except Exception as error:  # noqa: BLE001 - as above
            text = f"{arn} cannot be assumed with the AWS credentials of {source.source}: {_reason(error)}"
            raise CredentialsError(text) from None

    def _why_nothing(self, method: str) -> str:
        if method == "iam-role" and os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return "AWS_EC2_METADATA_DISABLED is set"
        variable = self._session.get_config_variable
        return _WHY_NOTHING.get(method, "nothing there").format(
            profile=variable("profile") or "default",
            config=variable("config_file"),
            credentials=variable("credentials_file"),
            metadata=variable("ec2_metadata_service_endpoint") or "http://169.254.169.254",
            # A profile that is asked for stands above the environment.
            or_token="" if self._profile else ", and AWS_WEB_IDENTITY_TOKEN_FILE is not set",
        )


_WHY_NOTHING = {
    "env": "AWS_ACCESS_KEY_ID is not set",
    "assume-role": "profile {profile} has no role_arn with a source in {config}",
    "assume-role-with-web-identity": "profile {profile} has no web_identity_token_file in {config}{or_token}",
    "sso": "profile {profile} has no sso_account_id and no sso_role_name in {config}",
    "shared-credentials-file": "profile {profile} has no aws_access_key_id in {credentials}",
    "login": "profile {profile} has no login_session in {config}",
    "custom-process": "profile {profile} has no credential_process in {config}",
    "config-file": "profile {profile} has no aws_access_key_id in {config}",
    "ec2-credentials-file": "AWS_CREDENTIAL_FILE is not set",
    "boto-config": "no keys in a file of boto's",
    "container-role": "neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor AWS_CONTAINER_CREDENTIALS_FULL_URI is set",
    "iam-role": "no role to be had at {metadata}: not reachable, or none is attached",
}
"""Why a link of the chain gave nothing, by botocore's name of it."""


def _refuse_mfa(_: str) -> str:
    raise CredentialsError("the role asks for a code of multi-factor authentication, which nobody is here to type")


def _client_config(proxies: Mapping[str, str] | None) -> Any:
    """Return how STS and SSO are called: in seconds, since a request may be waiting, or a gateway that stops."""
    retries = {"mode": "standard", "total_max_attempts": 2}
    return Config(connect_timeout=5, read_timeout=10, retries=retries, proxies=proxies)


def _found(credentials: Any, method: str) -> Found:
    frozen = credentials.get_frozen_credentials()  # where a link defers the fetching, it is done here
    keys = _keys(frozen.access_key, frozen.secret_key, frozen.token)
    expiry = credentials._expiry_time if isinstance(credentials, RefreshableCredentials) else None  # noqa: SLF001 - told nowhere else
    return Found(keys, method, math.inf if expiry is None else expiry.timestamp())


def _keys(access_key: str, secret_key: str, token: str | None) -> Keys:
    for value in (access_key, token or ""):
        if not (value.isascii() and value.isprintable()):  # it would break the header that it stands in
            raise CredentialsError("an access key or a session token has a line break or another stray character")
    return Keys(access_key, secret_key, token)


_USERINFO = re.compile(r"//[^\s/]*@")
_STATUS = re.compile(r"non 200 response (\d+)")


def _reason(error: Exception) -> str:
    """Return why a source failed, in one line, and nothing that a process or a service may have said beside it."""
    if isinstance(error, CredentialsError):
        return str(error)
    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        text = f"{error.operation_name} was answered with {told.get('Code', '?')}: {told.get('Message', '')}"
    elif isinstance(error, CredentialRetrievalError):
        text = _retrieval_reason(error)
    elif isinstance(error, ProxyConnectionError):  # its text, and the next one's, may be the proxy's URL: a password
        text = "the proxy cannot be reached"
    elif isinstance(error, HTTPClientError) and "error" in error.kwargs:
        text = f"HTTP failed: {type(error.kwargs['error']).__name__}"
    elif isinstance(error, BotoCoreError):
        text = _USERINFO.sub("//***@", str(error))
    elif isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, RuntimeError) and "expired" in str(error):
        text = "the credentials there have expired"
    else:
        text = type(error).__name__
    # One line: behind the first, STS writes out what it signed, and that holds the session's token.
    return bounded("".join(text.splitlines()[:1]), _MAX_REASON_BYTES)


def _retrieval_reason(error: CredentialRetrievalError) -> str:
    if error.kwargs.get("provider") == "custom-process":
        return "the credential_process failed"
    status = _STATUS.search(str(error))
    return f"answered with status {status[1]}" if status else str(error)
