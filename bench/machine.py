"""What the figures were taken on: the machine, the versions, and how many files a process may open."""

import contextlib
import importlib.metadata
import os
import platform
import resource
import subprocess
from pathlib import Path
from typing import Any

from doors import HERE
from proxies import find_program

FILES_WANTED = 20_000


def describe_machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "cpu": _fact("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_mb": int((_fact("/proc/meminfo", "MemTotal") or "0").split()[0]) // 1024,
        "kernel": platform.release(),
        "system": platform.system(),
    }


def _fact(path: str, name: str) -> str:
    pairs = (line.partition(":") for line in Path(path).read_text().splitlines())
    return next((value.strip() for key, _, value in pairs if key.strip() == name), "")


def versions() -> dict[str, str]:
    """Of all that is ours or Debian's; the peers of `peers.py` tell their own."""
    found = {"python": platform.python_version()}
    for package in ("aibridge", "aiohttp", "uvloop", "httptools"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    if nginx := find_program("nginx"):
        found["nginx"] = output([nginx, "-v"]).rpartition("/")[2]
    if haproxy := find_program("haproxy"):
        found["haproxy"] = output([haproxy, "-v"]).split(" ")[2]
    found["commit"] = output(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"])
    return {name: version for name, version in found.items() if version}


def output(command: list[str]) -> str:
    """What a command prints, or nothing where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return (done.stdout or done.stderr).strip()


def raise_file_limit(wanted: int = FILES_WANTED) -> int:
    """As many open files as we may have, for us and our children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)
