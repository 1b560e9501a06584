"""What every provider learns from a request beside the model: by whom it is asked, and what it goes on with."""

from collections.abc import Callable
from functools import partial

from aibridge.body import Body
from aibridge.callers import client_name, session_id
from aibridge.dialects import Dialect
from aibridge.values import Headers


def learn(dialect: Dialect, body: Body, headers: Headers) -> tuple[Callable[[], str], str, str, str]:
    """Return the last four fields of a `Reading`."""
    client = client_name(headers)
    return (
        partial(dialect.prompt, body),
        dialect.tool_call_id(body),
        session_id(client, headers, partial(dialect.user_id, body)),
        client,
    )
