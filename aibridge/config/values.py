"""What sections are made of: their base, the error of a check, and the numbers and texts that several of them have."""

import re
from collections.abc import Collection, Hashable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field
from pydantic_core import PydanticCustomError

KIB = 1024
MIB = 1024 * KIB


def mistake(text: str) -> PydanticCustomError:
    """Return the error that a check raises. Unlike that of ValueError, its text stays as it is written."""
    return PydanticCustomError("aibridge", text)


def check_distinct(values: Collection[Hashable], text: str) -> None:
    """Raise a mistake with this text where two values are the same."""
    if len(set(values)) < len(values):
        raise mistake(text)


class Section(BaseModel):
    """A mapping of the file: without unknown keys, and frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Positive
Size = Annotated[ByteSize, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


def lower(value: object) -> object:
    """Return a text in lower case; anything else as it is."""
    return value.lower() if isinstance(value, str) else value


_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def _check_slug(name: str) -> str:
    if not _SLUG.fullmatch(name):
        raise mistake("a provider's name holds only lower-case letters, digits and single hyphens")
    return name


Slug = Annotated[str, AfterValidator(_check_slug)]
"""A name that stands in a path or in a header."""
