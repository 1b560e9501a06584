"""One interception, its attempt and its end, as the plainest records are made of them."""

from aibridge.lifecycle import Cause, Health, Termination
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
OUTCOME = Outcome(
    termination=Termination.COMPLETED,
    cause=Cause.CLEAN,
    error="",
    ended_at=2.0,
    duration=1.0,
    evidence=Evidence(),
    health=Health.SUCCESS,
    usage=Usage(),
    usage_source=UsageSource.NONE,
    message_id="",
    response_model="",
    stop_reason="",
)
ATTEMPT = Attempt(
    number=1,
    origin="",
    started_at=1.0,
    duration=1.0,
    termination=Termination.COMPLETED,
    cause=Cause.CLEAN,
    error="",
    evidence=Evidence(),
    usage=Usage(input_tokens=5, output_tokens=7),
    usage_source=UsageSource.PROVIDER_FINAL,
    message_id="msg_1",
)


def numbered(number):
    return INTERCEPTION._replace(id=str(number))
