"""One real stream through a gateway that just started, and its record: what `make run` shows.

The request takes the road of every client: HTTP over a socket, to the gateway's own port.
"""

import asyncio
import http.client
import json

from aibridge.config import Config
from aibridge.stores import recorded
from aibridge.stores.sqlite import querying

_MODEL = "claude-sonnet-5"
_TIMEOUT = 60
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


async def show_one_stream(port: int, config: Config) -> str:
    """Stream one answer through the gateway, print its text, and return its interception's id."""
    provider = "bedrock" if "bedrock" in config.providers else next(iter(config.providers))
    print(f"\nPOST /{provider}/v1/messages, streaming:\n", flush=True)
    key = (config.auth.keys[0].clear or "") if config.auth.keys else ""
    return await asyncio.to_thread(_stream, _host(config), port, provider, key)


def show_record(port: int, config: Config, interception_id: str) -> None:
    """Print the record of an interception, less what belongs to it. It has to be in the store."""
    with querying(config.records.path) as query:
        record = recorded.interception(query, interception_id) or {}
    print("\n\nIts record:\n", flush=True)
    for name, value in record.items():
        if value not in (None, "") and not isinstance(value, list | dict):
            print(f"  {name:<22} {value}")
    address = f"http://{_host(config)}:{port}"
    print(f"\nThe gateway goes on serving: ANTHROPIC_BASE_URL={address}/anthropic or /bedrock,")
    print(f"OPENAI_BASE_URL={address}/openai/v1", flush=True)


def _host(config: Config) -> str:
    return "127.0.0.1" if config.listen.host in _EVERYWHERE else config.listen.host


def _stream(host: str, port: int, provider: str, key: str) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    body = {
        "model": _MODEL,
        "max_tokens": 200,
        "stream": True,
        "messages": [{"role": "user", "content": "How did this stream end?"}],
    }
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    if key:
        headers["x-api-key"] = key
    connection.request("POST", f"/{provider}/v1/messages", json.dumps(body), headers)
    answer = connection.getresponse()
    for line in answer:
        _print_delta(line)
    connection.close()
    return answer.getheader("x-aibridge-id", "")


def _print_delta(line: bytes) -> None:
    if line.startswith(b"data: "):
        event = json.loads(line[6:])
        print(event.get("delta", {}).get("text", ""), end="", flush=True)
