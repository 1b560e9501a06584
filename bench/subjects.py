"""What is measured: nothing (direct), nginx, a plain aiohttp handler, and aibridge.

Each is started as a child in front of the upstream. `SUBJECTS` at the end is the list.
"""

import contextlib
import getpass
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import traffic
from processes import line_of, running

HERE = Path(__file__).resolve().parent
START_WITHIN = 20.0
KEY = "sk-ant-bench-0123456789"

Starter = Callable[[int, Path], "contextlib.AbstractContextManager[Door]"]


@dataclass(frozen=True)
class Door:
    """A running subject: where to knock, and which process to charge (0: there is none)."""

    port: int
    pid: int


@dataclass(frozen=True)
class Subject:
    """One thing to measure. `decodes` says that Bedrock's frames come back as Anthropic's events."""

    name: str
    says: str
    start: Starter
    missing: Callable[[], str]
    messages_path: str = traffic.MESSAGES_PATH
    bedrock_path: str = traffic.BEDROCK_PATH
    decodes: bool = False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(name: str, port: int, child: "subprocess.Popen[str]") -> None:
    """Until `port` accepts."""
    give_up = time.monotonic() + START_WITHIN
    while time.monotonic() < give_up and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{name} did not start")


# ---- direct


@contextlib.contextmanager
def start_direct(upstream: int, _: Path) -> Iterator[Door]:
    yield Door(upstream, 0)


# ---- nginx


def nginx_config(upstream: int, port: int, directory: Path) -> str:
    user = f"user {getpass.getuser()};" if getpass.getuser() == "root" else ""
    temporary = "\n".join(
        f"  {kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid {directory}/pid; error_log stderr crit; {user}
events {{ worker_connections 20000; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 256k; keepalive_requests 1000000000;
{temporary}
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 4096; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 120s;
    }}
  }}
}}
"""


def nginx_binary() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def start_nginx(upstream: int, directory: Path) -> Iterator[Door]:
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(nginx_config(upstream, port, directory))
    command = [str(nginx_binary()), "-e", "stderr", "-p", str(directory), "-c", str(config)]
    with running(command) as child:
        wait_for("nginx", port, child)
        yield Door(port, child.pid)


# ---- plain aiohttp


@contextlib.contextmanager
def start_aiohttp(upstream: int, _: Path) -> Iterator[Door]:
    with running([sys.executable, str(HERE / "passthrough.py"), str(upstream)]) as child:
        port = line_of(child, START_WITHIN)
        if not port:
            raise RuntimeError("aiohttp did not start")
        yield Door(int(port), child.pid)


# ---- aibridge


def aibridge_config(upstream: int, port: int, admin: int, directory: Path) -> str:
    """The whole YAML: both providers at the scripted upstream, records on, defaults everywhere else."""
    return f"""
listen: {{host: 127.0.0.1, port: {port}}}
admin: {{host: 127.0.0.1, port: {admin}}}
records: {{path: {directory}/records.db}}
providers:
  anthropic: {{base_url: "http://127.0.0.1:{upstream}", api_key: {KEY}}}
  bedrock:
    base_url: "http://127.0.0.1:{upstream}"
    region: us-east-1
    access_key_id: AKIDEXAMPLE
    secret_access_key: wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY
    model_map: {{{traffic.MODEL}: "{traffic.BEDROCK_MODEL}"}}
"""


@contextlib.contextmanager
def start_aibridge(upstream: int, directory: Path) -> Iterator[Door]:
    port, admin = free_port(), free_port()
    config, log = directory / "aibridge.yaml", directory / "log"
    config.write_text(aibridge_config(upstream, port, admin, directory))
    command = [sys.executable, "-m", "aibridge", "serve", "--config", str(config)]
    with log.open("w") as out, running(command, stdout=out, stderr=out, cwd=str(HERE.parent)) as child:
        try:
            wait_for("aibridge", port, child)
        except RuntimeError:
            print(log.read_text(), file=sys.stderr)
            raise
        yield Door(port, child.pid)


def _nothing_missing() -> str:
    return ""


def _nginx_missing() -> str:
    return "" if nginx_binary() else "nginx is not installed"


def _aiohttp_missing() -> str:
    return (
        ""
        if importlib.util.find_spec("uvloop") and importlib.util.find_spec("aiohttp")
        else "aiohttp or uvloop is not installed"
    )


def _aibridge_missing() -> str:
    command = [sys.executable, "-m", "aibridge", "serve", "--help"]
    tried = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    complaint = tried.stderr.strip().splitlines()[-1:] or ["it says nothing"]
    return f"`aibridge serve` does not run: {complaint[0]}" if tried.returncode else ""


SUBJECTS = (
    Subject("direct", "the load generator straight at the upstream", start_direct, _nothing_missing),
    Subject(
        "nginx", "proxy_pass, buffering off, keep-alive, 1 worker; relays, does not look", start_nginx, _nginx_missing
    ),
    Subject(
        "aiohttp",
        "a plain pass-through handler on uvloop (passthrough.py); relays, does not look",
        start_aiohttp,
        _aiohttp_missing,
    ),
    Subject(
        "aibridge",
        "verifies, counts, logs and records every stream",
        start_aibridge,
        _aibridge_missing,
        messages_path="/anthropic/v1/messages",
        bedrock_path="/bedrock/v1/messages",
        decodes=True,
    ),
)
