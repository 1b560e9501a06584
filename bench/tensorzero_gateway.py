"""Runs TensorZero's gateway, which its Python package brings as a library. Usage: tensorzero_gateway.py CONFIG. Prints its port."""

import os
import signal
import sys

from tensorzero import _start_http_gateway

told = os.dup(1)
os.dup2(2, 1)  # it logs to its standard output
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
os.write(told, gateway.base_url.rstrip("/").rpartition(":")[2].partition("/")[0].encode() + b"\n")
signal.pause()
