"""Runs TensorZero's gateway, which its Python package brings as a library; prints the port.

Usage: tensorzero_gateway.py CONFIG, in the environment that has the package.
"""

import os
import signal
import sys

from tensorzero import _start_http_gateway  # type: ignore[import-not-found]  # not in our own environment

told = os.dup(1)
os.dup2(2, 1)  # it logs to its standard output
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
os.write(told, gateway.base_url.rstrip("/").rpartition(":")[2].partition("/")[0].encode() + b"\n")
signal.pause()
