"""What every provider learns from a request beside the model: by whom it is asked, and what it goes on with.

Of those that have several keys, which one that is.
"""

from collections.abc import Callable
from functools import partial

from aibridge.body import Body
from aibridge.callers import client_name, session_id
from aibridge.dialects import Dialect
from aibridge.keypool import Exhausted, KeyPool
from aibridge.poolkey import PoolKey
from aibridge.values import Credential, CredentialKind, Headers


def learn(dialect: Dialect, body: Body, headers: Headers) -> tuple[Callable[[], str], str, str, str]:
    """Return the fields of a `Reading` from `prompt` to `client`; the third is the session's id."""
    client = client_name(headers)
    return (
        partial(dialect.prompt, body),
        dialect.tool_call_id(body),
        session_id(client, headers, partial(dialect.user_id, body)),
        client,
    )


def draw(pool: KeyPool, session_id: str | None, now: float) -> PoolKey | Exhausted:
    """Return the key of a pool that a request is to go out with. `session_id` is None where it is relayed only."""
    return pool.soonest(now) if session_id is None else pool.choose(session_id, now)


def credential_of(chosen: PoolKey | Exhausted) -> Credential:
    """Return what is recorded of a pool's key, or of the want of one."""
    return Credential(CredentialKind.CENTRALIZED, chosen.hint if isinstance(chosen, PoolKey) else "")
