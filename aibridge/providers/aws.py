"""Finds AWS keys: those of the configuration, or what botocore's chain finds; and a role on top of either.

botocore's chain does the work: environment, profiles, SSO, web identity, processes, containers, the metadata service of
EC2. `awschain.py` walks it link by link, so that an operator hears what each had to say; it is loaded where asked.
Everything here waits for files and services: it runs on a thread (`renewal.py`).
"""

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aibridge.providers.renewal import Found
from aibridge.providers.sigv4 import Keys


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role to assume."""

    arn: str
    session_name: str
    external_id: str | None = field(repr=False, default=None)
    session_tags: Mapping[str, str] = field(default_factory=dict)


class Finder:
    """Knows where to look for keys.

    Args:
        region: of STS, where a role is to be assumed.
        static: keys that need no looking for, or None for the chain.
        profile: a profile of the AWS configuration files, or None.
        role: assumed with what is found, or None.
        proxies: URLs by scheme; None for those of the environment.
        ca_file: the authorities of STS and SSO; None for the system's.
    """

    def __init__(
        self,
        *,
        region: str,
        static: Keys | None = None,
        profile: str | None = None,
        role: Role | None = None,
        proxies: Mapping[str, str] | None = None,
        ca_file: str | None = None,
    ) -> None:
        self._static = static
        self._role = role
        self._place = (region, profile, proxies, ca_file)

    def find(self) -> Found:
        """Return keys, new ones where they are temporary.

        Raises:
            CredentialsError: there are none; its text names each source that was tried, and why it gave nothing.
        """
        found: Found = self._chain.walk() if self._static is None else Found(self._static, "configuration")
        if self._role is not None:
            found = self._chain.assume(_assumption(self._role), found)
        return found

    @functools.cached_property
    def _chain(self) -> Any:
        return importlib.import_module("aibridge.providers.awschain").Chain(*self._place)


def _assumption(role: Role) -> dict[str, Any]:
    asked: dict[str, Any] = {"RoleArn": role.arn, "RoleSessionName": role.session_name}
    if role.external_id is not None:
        asked["ExternalId"] = role.external_id
    if role.session_tags:
        asked["Tags"] = [{"Key": key, "Value": value} for key, value in role.session_tags.items()]
    return asked
