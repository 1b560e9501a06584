"""Keys with names that people have: of the gateway, and of the admin port."""

import hashlib
import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, SecretStr

from aibridge.config.content import ContentOverrides
from aibridge.config.secret import SecretWord
from aibridge.config.values import Section, check_distinct, mistake

HASHED = "sha256:"
"""What a gateway key begins with that is written down as its hash: 64 hexadecimal digits follow."""


def _check_hash(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text.startswith(HASHED) and not re.fullmatch("[0-9A-Fa-f]{64}", text.removeprefix(HASHED)):
        raise mistake(f"should have 64 hexadecimal digits behind {HASHED}")
    return secret


class _Key(Section):
    """A key with a name. `key` is the key itself, or `sha256:` and its hash."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")]
    key: Annotated[SecretWord, AfterValidator(_check_hash)]

    @property
    def clear(self) -> str | None:
        """The key itself; None where only its hash is known."""
        text = self.key.get_secret_value()
        return None if text.startswith(HASHED) else text

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key."""
        text = self.key.get_secret_value()
        if text.startswith(HASHED):
            return bytes.fromhex(text.removeprefix(HASHED))
        return hashlib.sha256(text.encode()).digest()


_AnyKey = TypeVar("_AnyKey", bound=_Key)


def check_keys(keys: tuple[_AnyKey, ...]) -> tuple[_AnyKey, ...]:
    """Return keys of which no two are the same."""
    check_distinct([key.name for key in keys], "two keys have the same name")
    check_distinct([key.digest for key in keys], "two names have the same key")
    return keys


class GatewayKey(_Key):
    """A key that opens the gateway; `name` is who it stands for."""

    content: ContentOverrides = ContentOverrides()


MIN_ADMIN_KEY = 16
"""Characters of an admin key: whoever reaches the port may guess as often as he likes."""


def _check_length(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < MIN_ADMIN_KEY:
        raise mistake(f"should have {MIN_ADMIN_KEY} characters or more")
    return secret


class AdminKey(_Key):
    """A key that opens the admin API and the dashboard; `name` is whose it is."""

    key: Annotated[SecretWord, AfterValidator(_check_hash), AfterValidator(_check_length)]
