"""What a client is told of each fault."""

import pytest

from aibridge.faults import FAULT_OF, KEYS_REFUSED, ErrorKind, kind_of_exception, kind_of_status
from aibridge.lifecycle import TERMINATION_OF, Cause, Termination

UNTOLD = {Cause.CLEAN, Cause.HTTP_STATUS, Cause.ERROR_EVENT, Cause.CRASHED}
"""Ends without words of ours: nothing went wrong, the upstream has said it, or there is nobody left to say it."""


def test_every_end_that_is_ours_to_tell_has_words():
    told = {cause for cause in Cause if TERMINATION_OF[cause] is not Termination.CLIENT_GONE} - UNTOLD
    assert set(FAULT_OF) == told


OF_KEYS = {Cause.KEYS_EXHAUSTED}
"""Limits of our own keys, which the client shares: it is told as the upstream would."""


@pytest.mark.parametrize("cause", [cause for cause in FAULT_OF if cause not in OF_KEYS])
def test_status_kind_and_side_agree(cause):
    fault = FAULT_OF[cause]
    if cause is Cause.BUDGET_SPENT:  # the one that is the client's own, as the refusal before it would be
        assert (fault.status, fault.kind) == (403, ErrorKind.BUDGET)
        return
    assert kind_of_status(fault.status) is fault.kind
    assert 500 <= fault.status <= 599
    not_asked = TERMINATION_OF[cause] is Termination.GATEWAY_ERROR or cause is Cause.CIRCUIT_OPEN
    assert (fault.status in {500, 503}) == not_asked
    assert fault.message


@pytest.mark.parametrize("fault", [FAULT_OF[Cause.KEYS_EXHAUSTED], KEYS_REFUSED])
def test_keys_that_are_limited_are_told_so_and_keys_that_are_refused_are_no_fault_of_the_clients(fault):
    assert kind_of_status(fault.status) is fault.kind
    assert fault.status == (502 if fault is KEYS_REFUSED else 429)


def test_timeouts_are_told_as_timeouts():
    late = {cause for cause, fault in FAULT_OF.items() if fault.kind is ErrorKind.TIMEOUT}
    assert late == {Cause.IDLE_TIMEOUT, Cause.RESPONSE_TIMEOUT}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ErrorKind.INVALID_REQUEST),
        (401, ErrorKind.AUTHENTICATION),
        (402, ErrorKind.INVALID_REQUEST),
        (403, ErrorKind.PERMISSION),
        (404, ErrorKind.NOT_FOUND),
        (408, ErrorKind.TIMEOUT),
        (413, ErrorKind.TOO_LARGE),
        (418, ErrorKind.INVALID_REQUEST),
        (429, ErrorKind.RATE_LIMIT),
        (499, ErrorKind.INVALID_REQUEST),
        (500, ErrorKind.API),
        (501, ErrorKind.NOT_SUPPORTED),
        (502, ErrorKind.API),
        (503, ErrorKind.OVERLOADED),
        (504, ErrorKind.TIMEOUT),
        (529, ErrorKind.OVERLOADED),
        (599, ErrorKind.API),
    ],
)
def test_kinds_of_statuses(status, kind):
    assert kind_of_status(status) is kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", ErrorKind.RATE_LIMIT),
        ("serviceUnavailableException", ErrorKind.OVERLOADED),
        ("modelStreamErrorException", ErrorKind.API),
        ("internalServerException", ErrorKind.API),
        ("modelTimeoutException", ErrorKind.TIMEOUT),
        ("validationException", ErrorKind.INVALID_REQUEST),
        ("ThrottlingException", ErrorKind.RATE_LIMIT),
        ("somethingNewException", None),
        ("", None),
    ],
)
def test_kinds_of_exceptions(name, kind):
    assert kind_of_exception(name) is kind
