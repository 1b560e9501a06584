"""Which deadline is next, for everything that an exchange can stand in."""

import pytest

from aibridge.lifecycle import State
from aibridge.patience import Due, Since, Standing, next_deadline
from aibridge.surroundings import Deadlines

DEADLINES = Deadlines(connect=5, response=60, idle=30, client_stall=20, ping=10, commit=15)
SINCE = Since(sent=100.0, heard=200.0, said=300.0, gone=400.0, paused=None)
CONNECTING = Standing(State.CONNECTING, streaming=True, committed=False, connected=False, client_left=False)
STREAMING = Standing(State.STREAMING, streaming=True, committed=True, connected=True, client_left=False)
COLLECTING = Standing(State.COLLECTING, streaming=False, committed=False, connected=True, client_left=False)
NEVER = float("inf")


@pytest.mark.parametrize(
    ("standing", "since", "at", "due"),
    [
        (CONNECTING, SINCE, 105, Due.NO_CONNECTION),
        (CONNECTING._replace(state=State.RECONNECTING), SINCE, 105, Due.NO_CONNECTION),
        (CONNECTING._replace(connected=True), SINCE, 160, Due.NO_HEAD),
        (CONNECTING._replace(connected=True), SINCE._replace(said=100.0), 115, Due.COMMIT),
        (CONNECTING._replace(connected=True, streaming=False), SINCE._replace(said=100.0), 160, Due.NO_HEAD),
        (CONNECTING._replace(connected=True, committed=True), SINCE._replace(said=100.0), 110, Due.PING),
        # between two attempts nothing of the upstream can be late
        (CONNECTING._replace(state=State.BETWEEN), SINCE, 315, Due.COMMIT),
        (CONNECTING._replace(state=State.BETWEEN, committed=True), SINCE, 310, Due.PING),
        (CONNECTING._replace(state=State.BETWEEN, streaming=False), SINCE, NEVER, Due.NOTHING),
        (STREAMING, SINCE, 230, Due.SILENT),
        (STREAMING, SINCE._replace(said=210.0), 220, Due.PING),
        (COLLECTING, SINCE, 230, Due.SILENT),
        (COLLECTING._replace(state=State.REFUSED, streaming=True), SINCE, 230, Due.SILENT),
        (STREAMING._replace(state=State.FINISHED), SINCE, 230, Due.SILENT),
        # whose client has left, and is read on for its tokens
        (STREAMING._replace(client_left=True), SINCE._replace(heard=400.0), 408, Due.READ_ENOUGH),
        (STREAMING._replace(client_left=True), SINCE, 230, Due.SILENT),
        # while the client's buffer is full only the client can be late
        (STREAMING, SINCE._replace(paused=50.0), 70, Due.CLIENT_STALLED),
        (CONNECTING, SINCE._replace(paused=500.0), 520, Due.CLIENT_STALLED),
    ],
)
def test_the_next_deadline(standing, since, at, due):
    assert next_deadline(standing, since, DEADLINES, read_on=8.0) == (at, due)
