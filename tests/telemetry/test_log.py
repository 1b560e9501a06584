"""The log: one line an end, of the level and with the words that the termination asks for."""

import asyncio
import io
import json
import logging

import pytest

from aibridge.errors import AibridgeError
from aibridge.lifecycle import TERMINATION_OF, Cause, Termination
from aibridge.telemetry.log import JSONFormatter, LineHandler, Log, setup


@pytest.fixture
def lines():
    """Set the log up; returns what was written, parsed."""
    root, ours = logging.getLogger(), logging.getLogger("aibridge")
    before = root.handlers[:], root.level, ours.level
    stream = io.StringIO()

    def read(level=None):
        if level:
            setup(level, stream)
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    read("info")
    yield read
    root.handlers[:], root_level, our_level = before
    root.setLevel(root_level)
    ours.setLevel(our_level)


ENDS = {
    Termination.COMPLETED: ("info", "interception ended"),
    Termination.UPSTREAM_ERROR: ("warning", "interception failed"),
    Termination.CLIENT_GONE: ("info", "client gone"),
    Termination.GATEWAY_ERROR: ("error", "gateway failed"),
}


@pytest.mark.parametrize("cause", Cause)
def test_each_end_is_one_line(lines, make_interception, make_attempt, make_outcome, cause):
    log = Log()
    log.opened(make_interception())
    log.attempted(make_interception(), make_attempt(cause))
    log.closed(make_interception(), make_outcome(cause))
    [line] = lines()
    assert (line["level"], line["message"]) == ENDS[TERMINATION_OF[cause]]
    assert line["termination"] == TERMINATION_OF[cause].value
    assert line["cause"] == cause.value
    assert line["error"] == ("" if cause is Cause.CLEAN else "its words")


def test_the_line_tells_all_that_an_operator_asks(lines, make_interception, make_outcome):
    Log().closed(make_interception(), make_outcome())
    [line] = lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "message": "interception ended",
        "logger": "aibridge.interceptions",
        "interception_id": "0198c0de-0000-7000-8000-000000000001",
        "actor": "alice",
        "provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "route": "/v1/messages",
        "streaming": True,
        "client": "Claude Code",
        "user_agent": "claude-cli/2",
        "credential_kind": "centralized",
        "credential_hint": "sk-a...efgh",
        "termination": "completed",
        "cause": "clean",
        "error": "",
        "http_status": 200,
        "upstream_request_id": "req_1",
        "duration_s": 2.0,
        "time_to_first_event_s": 0.3,
        "events": 12,
        "bytes_in": 3456,
        "bytes_out": 3400,
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 40,
        "usage_source": "provider_final",
        "cost_nanodollars": None,
        "unpriced": None,
        "stop_reason": "end_turn",
    }


def test_debug_tells_the_start_and_the_attempts(lines, make_interception, make_attempt, make_outcome):
    lines("debug")
    log = Log()
    log.opened(make_interception())
    log.attempted(make_interception(), make_attempt())
    log.closed(make_interception(), make_outcome())
    assert [line["message"] for line in lines()] == ["interception started", "attempt ended", "interception ended"]


def test_a_level_hides_what_is_below_it(lines, make_interception, make_outcome):
    lines("warning")
    log = Log()
    log.closed(make_interception(), make_outcome())
    log.closed(make_interception(), make_outcome(Cause.DISCONNECTED))
    log.closed(make_interception(), make_outcome(Cause.TRUNCATED))
    assert [line["message"] for line in lines()] == ["interception failed"]


def test_text_from_outside_is_bounded_and_cannot_break_a_line(lines, make_interception, make_outcome):
    agent = "evil\x1b[2J\r\n{}\u2028\x85\x7f\x9b" + "ü" * 5000
    error = "\n" + "é" * 5000
    Log().closed(make_interception(user_agent=agent), make_outcome(Cause.ERROR_EVENT, error=error))
    [line] = lines()
    assert line["user_agent"].startswith("evil\x1b[2J\r\n{}\u2028\x85\x7f\x9bü")
    assert len(line["user_agent"].encode()) <= 256
    assert len(line["error"].encode()) <= 1024
    assert "\ufffd" not in line["error"]


def test_a_header_that_was_no_text_does_no_harm(lines, make_interception, make_outcome):
    Log().closed(make_interception(user_agent=b"\xffx".decode("utf-8", "surrogateescape")), make_outcome())
    assert lines()[0]["user_agent"] == "?x"


def test_an_exception_is_a_field(lines):
    error = RuntimeError("boom")
    logging.getLogger("aibridge").error("failed %s", "so", exc_info=error, extra={"fields": {"interception_id": "1"}})
    [line] = lines()
    assert line["message"] == "failed so"
    assert line["interception_id"] == "1"
    assert line["exception"] == "Traceback (most recent call last):\nRuntimeError\n"


HUSH = "hush-hush"


def raise_behind(error, behind):
    try:
        raise behind
    except type(behind) as caught:
        raise error from caught


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("boom"), "ValueError\n"),
        (AibridgeError("boom"), "aibridge.errors.AibridgeError: boom\n"),
        (OSError(111, "Connection refused", "boom"), "ConnectionRefusedError: Connection refused\n"),
    ],
)
def test_of_foreign_errors_the_words_are_not_told(lines, error, told):
    with pytest.raises(type(error)) as caught:
        raise_behind(error, KeyError(HUSH))
    logging.getLogger("aibridge").error("failed", exc_info=caught.value)
    text = lines()[0]["exception"]
    first, _, behind = text.partition("behind it:\n")
    assert first.endswith(told)
    assert behind.endswith("KeyError\n")
    assert "in raise_behind" in first
    assert "in raise_behind" in behind
    assert HUSH not in text


def test_errors_that_are_behind_each_other_end_somewhere(lines):
    error, other = ValueError("x"), KeyError("y")
    error.__cause__, other.__cause__ = other, error
    logging.getLogger("aibridge").error("failed", exc_info=error)
    assert lines()[0]["exception"].count("Traceback") < 20


def test_other_libraries_only_warn(lines):
    lines("debug")
    logging.getLogger("foreign").info("chatter")
    logging.getLogger("foreign").warning("a warning")
    assert [line["message"] for line in lines()] == ["a warning"]


def test_setting_up_again_replaces(lines):
    lines("info")
    lines("info")
    logging.getLogger("aibridge").info("once")
    assert len(lines()) == 1


async def test_lines_of_ordinary_life_wait_for_each_other():
    stream = io.StringIO()
    handler = LineHandler(stream)
    handler.setFormatter(JSONFormatter())
    for number in range(3):
        handler.emit(logging.makeLogRecord({"msg": f"line {number}", "levelno": logging.INFO, "levelname": "INFO"}))
    assert stream.getvalue() == ""
    handler.emit(logging.makeLogRecord({"msg": "bad", "levelno": logging.WARNING, "levelname": "WARNING"}))
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "line 0", "line 1", "line 2", "bad",
    ]  # fmt: skip
    handler.emit(logging.makeLogRecord({"msg": "late", "levelno": logging.INFO, "levelname": "INFO"}))
    flushed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(handler.DELAY * 2, flushed.set_result, None)
    await flushed
    assert stream.getvalue().endswith("\n")
    assert json.loads(stream.getvalue().splitlines()[-1])["message"] == "late"


def test_without_a_loop_a_line_is_written_at_once():
    stream = io.StringIO()
    handler = LineHandler(stream)
    handler.emit(logging.makeLogRecord({"msg": "now", "levelno": logging.INFO, "levelname": "INFO"}))
    assert stream.getvalue() == "now\n"
