"""What a gateway key opens."""

import pytest

from aibridge.access import EVERYTHING, Access
from aibridge.errors import RequestRejected

LIMITED = Access(frozenset({"anthropic"}), frozenset({"/v1/messages"}), ("claude-haiku-*", "exact"))


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "exact", None])
def test_what_is_open_passes(model):
    LIMITED.check("/v1/messages", "anthropic", model)
    EVERYTHING.check("/v1/anything", "anyone", model)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (("/v1/messages", "bedrock", "exact"), "provider_not_allowed"),
        (("/v1/models", "anthropic"), "route_not_allowed"),
        (("/v1/models",), "route_not_allowed"),
        (("/v1/messages", "anthropic", "claude-opus-4"), "model_not_allowed"),
        (("/v1/messages", "anthropic", "Exact"), "model_not_allowed"),
        (("/v1/messages", "anthropic", "us.exact"), "model_not_allowed"),
        (("/v1/messages", "anthropic", ""), "model_not_allowed"),
    ],
)
def test_what_is_not_open_is_refused_with_a_reason(request_, reason):
    with pytest.raises(RequestRejected) as refused:
        LIMITED.check(*request_)
    assert (refused.value.reason, refused.value.status) == (reason, 403)


def test_nothing_is_open_to_a_key_of_nothing():
    with pytest.raises(RequestRejected):
        Access(models=()).check("/v1/messages", "anthropic", "any")
