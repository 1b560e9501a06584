import argparse
import asyncio
import json
import os
import signal

import pytest

from aibridge.simulator import command
from aibridge.simulator.faults import Word, signature


def parse(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_defaults():
    options = parse()
    assert (options.host, options.port, options.ledger, options.pace) == ("127.0.0.1", 8900, None, 0.0)
    assert not options.any_credentials


def test_help_lists_all_words():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    lines = [line.split() for line in parser.format_help().splitlines()]
    assert {signature(word) for word in Word} <= {line[0] for line in lines if line}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serving_until_told_to_stop(tmp_path, monkeypatch, number):
    greetings = asyncio.Queue()
    monkeypatch.setattr("builtins.print", lambda text, **_: greetings.put_nowait(text))
    ledger = tmp_path / "ledger.jsonl"
    serving = asyncio.create_task(
        command.serve(parse("--port", "0", "--ledger", str(ledger), "--any-credentials", "--pace", "1"))
    )
    greeting = await greetings.get()
    assert "\n" not in greeting
    port = int(greeting.partition("127.0.0.1:")[2].split()[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"anthropic_version":"x","max_tokens":5,"messages":[]}'
    head = b"POST /model/sim-stall%%401/invoke-with-response-stream HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    while b"chunk" not in await reader.read(65536):
        pass
    os.kill(os.getpid(), number)
    await serving
    writer.close()
    (row,) = (json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines())
    assert (row["fault"], row["ending"], row["status"]) == ("stall@1", "stopped", 200)
