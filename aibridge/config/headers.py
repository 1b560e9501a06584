"""Names of headers that an operator may choose."""

import re
from typing import Annotated

from pydantic import AfterValidator

from aibridge.config.values import mistake

_FIELD_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


def free_name(text: str, taken: re.Pattern[str], why: str) -> str:
    """Return the name of a header, in lower case. `why` says why one that is `taken` cannot be had."""
    name = text.lower()
    if not _FIELD_NAME.fullmatch(name):
        raise mistake("should be the name of a header")
    if taken.fullmatch(name):
        raise mistake(f"should be another header: {name} {why}")
    return name


_TAKEN_NAMES = re.compile(
    "host|cookie|expect|te|trailer|upgrade|user-agent|authorization|(x-)?api-key|x-aibridge-(key|id)"
    "|traceparent|tracestate"
    "|connection|keep-alive|transfer-encoding|forwarded|x-forwarded-(for|host|port|proto)|x-real-ip"
    "|(proxy|content|accept|anthropic|x-amz|x-amzn)-.*|accept"
)
"""Headers that mean something else already, to HTTP, to the APIs or to us."""


def clean_header_name(text: str) -> str:
    """Return the name of a header that means nothing yet, in lower case."""
    return free_name(text, _TAKEN_NAMES, "has a meaning of its own")


HeaderName = Annotated[str, AfterValidator(clean_header_name)]
