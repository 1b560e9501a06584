"""Interceptions, their attempts and their ends; their entries in a journal; and what a store tells of them.

Of each the plainest there is, with what a test cares for in the place of its own.
"""

from aibridge.lifecycle import TERMINATION_OF, Cause, health_of
from aibridge.stores import browsing, recorded
from aibridge.stores.entries import (
    attempted_parts,
    closed_parts,
    content_entry,
    entry,
    learned_parts,
    opened_parts,
    rows_of,
)
from aibridge.stores.sqlite import querying
from aibridge.values import (
    Actor,
    Attempt,
    Credential,
    CredentialKind,
    Evidence,
    Interception,
    Outcome,
    Usage,
    UsageSource,
)


def an_interception(**changes):
    plain = Interception(
        id="1",
        started_at=1.0,
        actor=Actor("alice"),
        credential=Credential(CredentialKind.CENTRALIZED, "..."),
        provider="anthropic",
        provider_kind="anthropic",
        dialect="messages",
        route="/v1/messages",
        request_path="/anthropic/v1/messages",
        method="POST",
        model="claude",
        upstream_model="claude",
        streaming=True,
        client="Unknown",
        user_agent="",
        request_bytes=1,
    )
    return plain._replace(**changes)


def an_attempt(cause=Cause.CLEAN, **changes):
    plain = Attempt(
        number=1,
        origin="",
        started_at=1.0,
        duration=1.0,
        termination=TERMINATION_OF[cause],
        cause=cause,
        error="" if cause is Cause.CLEAN else "its words",
        evidence=Evidence(),
        usage=Usage(input_tokens=5, output_tokens=7),
        usage_source=UsageSource.PROVIDER_FINAL,
        message_id="msg_1",
    )
    return plain._replace(**changes)


def an_outcome(cause=Cause.CLEAN, **changes):
    plain = Outcome(
        termination=TERMINATION_OF[cause],
        cause=cause,
        error="" if cause is Cause.CLEAN else "its words",
        ended_at=2.0,
        duration=1.0,
        evidence=Evidence(),
        health=health_of(cause, None, None),
        usage=Usage(),
        usage_source=UsageSource.NONE,
        message_id="",
        response_model="",
        stop_reason="",
    )
    return plain._replace(**changes)


INTERCEPTION, ATTEMPT, OUTCOME = an_interception(), an_attempt(), an_outcome()
AN_AGENTS = an_interception(
    id="0198c0de-0000-7000-8000-000000000001",
    started_at=1_700_000_000.25,
    actor=Actor("alice", "Alice"),
    credential=Credential(CredentialKind.CENTRALIZED, "sk-a...efgh"),
    client="Claude Code",
    user_agent="claude-cli/2",
    request_bytes=321,
)
"""One with all that an agent tells of itself."""


def numbered(number):
    return an_interception(id=str(number))


# entries of a journal


def opened(interception):
    return entry(interception.started_at, opened_parts(interception))


def learned(interception, fact, message_id, number, at):
    return content_entry(at, learned_parts(interception, fact, message_id, number, at))


def attempted(interception, attempt):
    return entry(attempt.started_at, attempted_parts(interception, attempt))


def closed(interception, outcome):
    return entry(outcome.ended_at, closed_parts(interception, outcome))


def whole(interception, outcome):
    """Return one entry for a beginning and its end."""
    return entry(outcome.ended_at, opened_parts(interception) + closed_parts(interception, outcome))


def write(store, *entries, position=1, **options):
    store.write(rows_of(entries, "journal-1")[0], "journal-1", position, **options)


# what a store tells


def record_of(path, interception_id):
    """Return what a store tells of an interception; None where it has none."""
    with querying(path) as query:
        return recorded.interception(query, interception_id)


def records_in(path):
    """Return what `aibridge export` writes of a store."""
    with querying(path) as query:
        return list(browsing.export(query, browsing.Filters()))
