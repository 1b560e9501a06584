"""How OpenAI's APIs say an error."""

import json

import pytest

from aibridge.dialects import Telling
from aibridge.dialects.openai_errors import error_body, error_object
from aibridge.faults import ErrorKind


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_of_error_has_a_type(kind):
    error = error_object(Telling(kind, "why", "id-1"))
    assert {key: type(value) for key, value in error.items() if key not in {"code", "param"}} == {
        "message": str,
        "type": str,
        "request_id": str,
    }
    assert error["param"] is None


def test_an_error_as_a_body():
    assert json.loads(error_body(Telling(ErrorKind.RATE_LIMIT, "slowly", ""))) == {
        "error": {"message": "slowly", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    }


def test_codex_is_told_to_give_up_at_a_budget_alone():
    """It does so at these codes; see `map_api_error` in its source."""
    assert error_object(Telling(ErrorKind.BUDGET, "", ""))["code"] == "insufficient_quota"
    codes = {error_object(Telling(kind, "", ""))["code"] for kind in ErrorKind if kind is not ErrorKind.BUDGET}
    assert not codes & {"server_is_overloaded", "slow_down", "insufficient_quota", "usage_not_included"}
