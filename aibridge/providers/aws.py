"""AWS credentials and SigV4. The only door to botocore.

Credentials are found once and kept; those that expire are renewed on a thread, early: the event loop never waits for
the instance metadata service, a token exchange or a file, except where a credential is about to expire right now.
"""

import asyncio
from typing import Any

import botocore.exceptions
import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials

from aibridge.errors import AibridgeError
from aibridge.values import Headers

URGENT = 60
"""Seconds before expiry from which a request waits for the renewal; botocore itself starts one 15 minutes before."""


class CredentialSource:
    """Where a provider's AWS credentials come from.

    Args:
        static: access key id, secret and session token, or None for the default chain.
        profile: a profile of the AWS configuration files, or None.
    """

    def __init__(self, static: tuple[str, str, str | None] | None, profile: str | None) -> None:
        self._profile = profile
        self._credentials: Credentials | None = Credentials(*static) if static else None
        self._frozen: ReadOnlyCredentials | None = None
        self._renewal: asyncio.Future[None] | None = None

    async def current(self) -> ReadOnlyCredentials:
        """Return credentials that are good now.

        Raises:
            AibridgeError: there are none, or they cannot be renewed.
        """
        if self._frozen is None or self._expires_within(URGENT):
            await asyncio.shield(self._renew())
        elif self._expires_within(None):
            self._renew()
        if self._frozen is None:
            raise AibridgeError("no AWS credentials found")
        return self._frozen

    def ready(self) -> ReadOnlyCredentials | None:
        """Return credentials that are good now, where they are at hand."""
        return None if self._frozen is None or self._expires_within(URGENT) else self._frozen

    def _expires_within(self, seconds: int | None) -> bool:
        credentials = self._credentials
        return isinstance(credentials, RefreshableCredentials) and credentials.refresh_needed(seconds)

    def _renew(self) -> asyncio.Future[None]:
        """Start a renewal on a thread, unless one runs already."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().run_in_executor(None, self._fetch)
            # Who waits hears of a failure; where nobody does, the next request tries again.
            self._renewal.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._renewal

    def _fetch(self) -> None:
        try:
            if self._credentials is None:
                session: Any = botocore.session.Session(profile=self._profile)
                self._credentials = session.get_credentials()
            if self._credentials is not None:
                self._frozen = self._credentials.get_frozen_credentials()
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise AibridgeError(f"AWS credentials cannot be had: {error}") from error
        except Exception as error:
            # Whatever a process, a file or a service gave botocore: a text that is not botocore's may hold anything.
            raise AibridgeError(f"AWS credentials cannot be had: {type(error).__name__}") from error


def sign(url: str, headers: Headers, body: bytes, *, credentials: ReadOnlyCredentials, region: str) -> Headers:
    """Return the headers of a POST with those of Signature Version 4 added.

    Args:
        url: the whole URL, its path encoded as it goes on the wire.
        headers: all headers that are to be signed, `host` among them.
        body: the request's body.
        credentials: good ones.
        region: the AWS region to sign for.
    """
    plain = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    request = AWSRequest(method="POST", url=url, headers=plain, data=body)
    SigV4Auth(credentials, "bedrock", region).add_auth(request)
    pairs = request.headers.items()
    return tuple((name.lower().encode("latin-1"), str(value).encode("latin-1")) for name, value in pairs)
