"""Interceptions and outcomes to tell listeners about."""

import pytest
from record_kit import AN_AGENTS, an_attempt, an_outcome

from aibridge.lifecycle import Cause, Health
from aibridge.values import (
    Evidence,
    Usage,
    UsageSource,
)

INTERCEPTION = AN_AGENTS._replace(model="claude-sonnet-4-5", upstream_model="claude-sonnet-4-5")
USAGE = Usage(10, 20, 30, 40, (("web_search_requests", 1),))


@pytest.fixture
def make_interception():
    return INTERCEPTION._replace


@pytest.fixture
def make_attempt():
    def make(cause=Cause.CLEAN, **changes):
        attempt = an_attempt(
            cause,
            origin="https://api.anthropic.com",
            started_at=1_700_000_000.5,
            duration=1.5,
            evidence=Evidence(http_status=200),
            usage=USAGE,
        )
        return attempt._replace(**changes)

    return make


@pytest.fixture
def make_outcome():
    def make(cause=Cause.CLEAN, **changes):
        outcome = an_outcome(
            cause,
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
            usage=USAGE,
            usage_source=UsageSource.PROVIDER_FINAL,
            message_id="msg_1",
            response_model="claude-sonnet-4-5-20250929",
            stop_reason="end_turn",
        )
        return outcome._replace(**changes)

    return make
