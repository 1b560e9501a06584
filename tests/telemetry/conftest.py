"""Interceptions and outcomes to tell listeners about."""

import pytest

from aibridge.lifecycle import TERMINATION_OF, Cause, Health
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

INTERCEPTION = Interception(
    id="0198c0de-0000-7000-8000-000000000001",
    started_at=1_700_000_000.25,
    actor=Actor("alice", "Alice"),
    credential=Credential(CredentialKind.CENTRALIZED, "sk-a...efgh"),
    provider="anthropic",
    provider_kind="anthropic",
    dialect="messages",
    route="/v1/messages",
    request_path="/anthropic/v1/messages",
    method="POST",
    model="claude-sonnet-4-5",
    upstream_model="claude-sonnet-4-5",
    streaming=True,
    client="Claude Code",
    user_agent="claude-cli/2",
    request_bytes=321,
)


@pytest.fixture
def make_interception():
    return INTERCEPTION._replace


@pytest.fixture
def make_attempt():
    def make(cause=Cause.CLEAN, **changes):
        attempt = Attempt(
            number=1,
            origin="https://api.anthropic.com",
            started_at=1_700_000_000.5,
            duration=1.5,
            termination=TERMINATION_OF[cause],
            cause=cause,
            error="" if cause is Cause.CLEAN else "its words",
            evidence=Evidence(http_status=200),
            usage=Usage(10, 20, 30, 40, (("web_search_requests", 1),)),
            usage_source=UsageSource.PROVIDER_FINAL,
            message_id="msg_1",
        )
        return attempt._replace(**changes)

    return make


@pytest.fixture
def make_outcome():
    def make(cause=Cause.CLEAN, **changes):
        outcome = Outcome(
            termination=TERMINATION_OF[cause],
            cause=cause,
            error="" if cause is Cause.CLEAN else "its words",
            ended_at=1_700_000_002.25,
            duration=2.0,
            evidence=Evidence(
                terminal_event_seen=cause is Cause.CLEAN,
                last_event="message_stop",
                events=12,
                bytes_in=3456,
                bytes_out=3400,
                http_status=200,
                upstream_request_id="req_1",
                time_to_first_event=0.3,
            ),
            health=Health.NEITHER,
            usage=Usage(10, 20, 30, 40, (("web_search_requests", 1),)),
            usage_source=UsageSource.PROVIDER_FINAL,
            message_id="msg_1",
            response_model="claude-sonnet-4-5-20250929",
            stop_reason="end_turn",
        )
        return outcome._replace(**changes)

    return make
