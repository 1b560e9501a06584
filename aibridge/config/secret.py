"""Secrets: a text, or where it stands; and what may be in one."""

import re
from datetime import date
from typing import Annotated, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo

from aibridge.config.values import mistake
from aibridge.secretsource import SecretReader, SecretUnavailable

Secret = SecretStr
"""A string that shows itself as `**********` in `repr`, `str`, dumps and errors. `get_secret_value()` tells it."""


class _FromFile(BaseModel):
    """The secret is a file's text."""

    model_config = ConfigDict(extra="forbid")
    file: str


class _FromCommand(BaseModel):
    """The secret is what a program prints."""

    model_config = ConfigDict(extra="forbid")
    command: Annotated[list[str], Field(min_length=1)]


def _read_source(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, dict):
        return value
    try:
        return cast(SecretReader, info.context).read(value)
    except SecretUnavailable as why:
        raise mistake(str(why)) from None


# What is said of an input is for the JSON Schema alone (`configschema`); the function beside it decides.
Sourced = BeforeValidator(_read_source, json_schema_input_type=str | _FromFile | _FromCommand)
"""In the place of a text may stand where it is: `{file: …}` or `{command: […]}`."""
AnySecret = Annotated[SecretStr, Sourced]
"""What every secret is made of."""


def _clean_word(secret: SecretStr) -> SecretStr:
    return _cleaned(secret, re.compile("[!-~]+"), "should be printable ASCII without blanks")


def _clean_text(secret: SecretStr) -> SecretStr:
    return _cleaned(secret, re.compile("[ -~]+"), "should be printable ASCII")


def _cleaned(secret: SecretStr, allowed: re.Pattern[str], otherwise: str) -> SecretStr:
    # Goes into a header: a stray newline of `$(cat key)` is cut off, whatever else cannot stand there is refused.
    text = secret.get_secret_value().strip()
    if not text:
        raise mistake("should not be empty")
    if not allowed.fullmatch(text):
        raise mistake(otherwise)
    return SecretStr(text)


def _undated(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value  # YAML reads a bare 2024-10-21 as a date


SecretWord = Annotated[AnySecret, AfterValidator(_clean_word)]
"""A key, a token or the like."""
SecretText = Annotated[AnySecret, BeforeValidator(_undated), AfterValidator(_clean_text)]
"""Goes out beside a key, in a header or in the query, and may be one."""
