"""What relays bytes and does not look: nothing (direct), nginx, haproxy, and a plain aiohttp handler."""

import contextlib
import getpass
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from doors import HERE, Address, Door, free_port, listening, telling_its_port

SBIN = "/usr/sbin:/usr/local/sbin"


def find_program(name: str) -> str:
    """The path of an installed program, or nothing."""
    return shutil.which(name) or shutil.which(name, path=SBIN) or ""


@contextlib.contextmanager
def start_direct(upstream: Address, _: Path) -> Iterator[Door]:
    yield Door(upstream.port, 0)


# ---- nginx


def _nginx_config(upstream: Address, port: int, directory: Path) -> str:
    user = f"user {getpass.getuser()};" if getpass.getuser() == "root" else ""
    temporary = "\n".join(
        f"  {kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    trust = (
        f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {upstream.authority}; proxy_ssl_name localhost;"
        if upstream.authority
        else ""
    )
    scheme = "https" if upstream.authority else "http"
    return f"""
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid {directory}/pid; error_log stderr crit; {user}
events {{ worker_connections 20000; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 256k; keepalive_requests 1000000000;
{temporary}
  upstream provider {{ server 127.0.0.1:{upstream.port}; keepalive 4096; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass {scheme}://provider; proxy_http_version 1.1; proxy_set_header Connection ""; {trust}
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 120s;
    }}
  }}
}}
"""


@contextlib.contextmanager
def start_nginx(upstream: Address, directory: Path) -> Iterator[Door]:
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(_nginx_config(upstream, port, directory))
    command = [find_program("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(config)]
    with listening("nginx", command, port, directory) as door:
        yield door


def nginx_missing() -> str:
    return "" if find_program("nginx") else "nginx is not installed"


# ---- haproxy


def _haproxy_config(upstream: Address, port: int) -> str:
    trust = f"ssl verify required ca-file {upstream.authority} verifyhost localhost" if upstream.authority else ""
    return f"""
global
  nbthread 1
  maxconn 9500
  tune.bufsize 32768
defaults
  mode http
  option http-no-delay
  timeout connect 10s
  timeout client 120s
  timeout server 120s
  http-reuse always
frontend clients
  bind 127.0.0.1:{port} backlog 4096
  default_backend provider
backend provider
  server one 127.0.0.1:{upstream.port} {trust}
"""


@contextlib.contextmanager
def start_haproxy(upstream: Address, directory: Path) -> Iterator[Door]:
    port = free_port()
    config = directory / "haproxy.cfg"
    config.write_text(_haproxy_config(upstream, port))
    with listening("haproxy", [find_program("haproxy"), "-db", "-f", str(config)], port, directory) as door:
        yield door


def haproxy_missing() -> str:
    return "" if find_program("haproxy") else "haproxy is not installed"


# ---- plain aiohttp


@contextlib.contextmanager
def start_aiohttp(upstream: Address, _: Path) -> Iterator[Door]:
    trust = [str(upstream.authority)] if upstream.authority else []
    with telling_its_port("aiohttp", [sys.executable, str(HERE / "passthrough.py"), upstream.url, *trust]) as door:
        yield door


def aiohttp_missing() -> str:
    found = all(importlib.util.find_spec(name) for name in ("uvloop", "aiohttp"))
    return "" if found else "aiohttp or uvloop is not installed"
