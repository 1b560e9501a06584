"""What an interception takes on the disk: a real gateway, real requests, and the size of the store that they leave.

    python bench/disk.py [--requests 5000]

Requests look like an agent's: a session, a prompt of `PROMPT` characters, an answer with two calls of tools, streamed.
They are answered by the simulator inside the gateway. Once for each policy of content; the figure is the file's size
after a clean stop, divided by the requests.
"""

import argparse
import asyncio
import json
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CLIENTS = 8
PROMPT = 400
MODEL = "claude-sonnet-5"
OFF: dict[str, str] = {}
FULL = {"prompts": "full", "arguments": "full", "thoughts": "full"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=5000)
    count = parser.parse_args().requests
    for name, content in (("content off", OFF), ("content full", FULL)):
        with tempfile.TemporaryDirectory() as folder:
            size = asyncio.run(filled(Path(folder), content, count))
        print(f"{name}: {size / count:,.0f} bytes an interception ({count:,} of them, {size / 1e6:.1f} MB)")


async def filled(folder: Path, content: dict[str, str], count: int) -> int:
    """Return the bytes of a store with so many interceptions."""
    simulator = await started("simulate", "--port", "0", "--any-credentials")
    assert simulator.stdout is not None
    url = re.search(r"http://\S+", (await simulator.stdout.readline()).decode())
    assert url is not None
    records = folder / "records.db"
    (folder / "aibridge.yaml").write_text(json.dumps(configuration(url[0], records, content)))
    gateway = await started("serve", "--config", str(folder / "aibridge.yaml"))
    assert gateway.stderr is not None
    port = int(json.loads(await gateway.stderr.readline())["data"].rpartition(":")[2])
    said = asyncio.create_task(gateway.stderr.read())
    numbers = iter(range(count))
    await asyncio.gather(*(ask_on(port, numbers) for _ in range(CLIENTS)))
    for process in (gateway, simulator):
        process.send_signal(signal.SIGTERM)
        await process.wait()
    await said
    return size_of(folder)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("records.db*") if path.is_file())


async def started(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "aibridge", *arguments, stdout=pipe, stderr=pipe)


def configuration(url: str, records: Path, content: dict[str, str]) -> dict[str, object]:
    return {
        "listen": {"host": "127.0.0.1", "port": 0},
        "admin": {"port": 0},
        "providers": {"anthropic": {"base_url": url, "api_key": "sk-ant-simulator"}},
        "records": {"path": str(records), "content": content},
        "log": {"level": "info"},
    }


async def ask_on(port: int, numbers: Iterator[int]) -> None:
    """Ask, one after the other on one connection, as long as there are numbers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        session = f"3f6c1a52-9f0e-4f43-9f0c-{number // 30:012}"
        prompt = f"{number} ".ljust(PROMPT, "x")
        asked = {"model": MODEL, "max_tokens": 500, "stream": True, "messages": [{"role": "user", "content": prompt}]}
        asked["tools"] = [{"name": "Bash", "description": "Run.", "input_schema": {"type": "object"}}]
        body = json.dumps(asked).encode()
        lines = [
            "POST /anthropic/v1/messages HTTP/1.1",
            "host: gateway",
            "anthropic-version: 2023-06-01",
            "user-agent: claude-cli/2.1.330 (external, cli)",
            f"x-claude-code-session-id: {session}",
            "x-sim-fault: tools:2",
            f"content-length: {len(body)}",
        ]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        if b"message_stop" not in answer:
            sys.exit(f"bench/disk.py: an answer without its end: {answer[:200]!r}")
    writer.close()


if __name__ == "__main__":
    main()
