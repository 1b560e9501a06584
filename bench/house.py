"""aibridge as it is measured: with all its books, without records, and with the pure wire."""

import contextlib
import functools
import importlib.util
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from doors import HERE, KEY, START_WITHIN, Address, Door, Route, free_port, listening, model_of
from traffic import BEDROCK_MODEL, MODEL, Api

COMMAND = [sys.executable, "-m", "aibridge"]


_LIMITED = f"""
auth: {{keys: [{{name: bench, key: {KEY}}}]}}
rate_limits:
  - {{for: actor, requests_per_minute: 100000000, tokens_per_minute: 100000000000, concurrent: 100000}}
budgets: [{{per: all, dollars: 100000000, period: month}}]
"""
"""A gateway key, and every measure once: none is ever reached."""


def _config(upstream: Address, port: int, admin: int, directory: Path, *, recording: bool) -> str:
    """The whole YAML: all providers at the scripted upstream, defaults everywhere else."""
    records = f"path: {directory}/records.db" if recording else "enabled: false"
    trust = f"tls: {{ca_file: {upstream.authority}}}" if upstream.authority else ""
    return f"""
listen: {{host: 127.0.0.1, port: {port}}}
admin: {{host: 127.0.0.1, port: {admin}}}
records: {{{records}}}
{trust}
providers:
  anthropic: {{base_url: "{upstream.url}", api_key: {KEY}}}
  bedrock:
    base_url: "{upstream.url}"
    region: us-east-1
    access_key_id: AKIDEXAMPLE
    secret_access_key: wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY
    model_map: {{{MODEL}: "{BEDROCK_MODEL}"}}
  openai: {{base_url: "{upstream.url}/v1", api_key: sk-bench-0123456789}}
"""


@contextlib.contextmanager
def start_aibridge(
    upstream: Address,
    directory: Path,
    *,
    recording: bool = True,
    speedups: str = "1",
    workers: int = 1,
    more: str = "",
) -> Iterator[Door]:
    port, admin = free_port(), free_port()
    config = directory / "aibridge.yaml"
    content = _config(upstream, port, admin, directory, recording=recording) + more
    config.write_text(content)
    command = [*COMMAND, "serve", "--config", str(config), "--workers", str(workers)]
    with listening("aibridge", command, port, directory, AIBRIDGE_SPEEDUPS=speedups) as door:
        if workers > 1:
            _wait_for_all(admin, workers)
        yield door


def _wait_for_all(admin: int, workers: int) -> None:
    """The port accepts when the first worker does."""
    give_up = time.monotonic() + START_WITHIN
    while time.monotonic() < give_up:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/healthz", timeout=1) as answer:
            if json.load(answer)["workers"]["ready"] == workers:
                return
        time.sleep(0.02)
    raise RuntimeError("not all workers started")


start_unrecorded = functools.partial(start_aibridge, recording=False)
start_limited = functools.partial(start_aibridge, more=_LIMITED)
start_two = functools.partial(start_aibridge, workers=2)
start_pure = functools.partial(start_aibridge, speedups="0")


def routes() -> dict[Api, Route]:
    """Bedrock comes back as Anthropic's events; everything else as it was."""
    authorized = (("authorization", "Bearer sk-bench-0123456789"),)
    chat = Route("/openai/v1/chat/completions", "chat", exact=True, model=model_of("chat"), headers=authorized)
    responses = Route("/openai/v1/responses", "responses", exact=True, model=model_of("responses"), headers=authorized)
    return {
        "messages": Route("/anthropic/v1/messages", "messages", exact=True, model=MODEL),
        "bedrock": Route("/bedrock/v1/messages", "messages", exact=True, model=MODEL),
        "chat": chat,
        "responses": responses,
    }


def aibridge_missing() -> str:
    if not importlib.util.find_spec("aibridge._speedups"):
        return "the compiled wire is not built"
    return pure_missing()


def pure_missing() -> str:
    tried = subprocess.run([*COMMAND, "serve", "--help"], cwd=HERE.parent, capture_output=True, text=True, check=False)
    complaint = tried.stderr.strip().splitlines()[-1:] or ["it says nothing"]
    return f"`aibridge serve` does not run: {complaint[0]}" if tried.returncode else ""
