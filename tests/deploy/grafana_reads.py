"""Read a dashboard by Grafana's own types, and say what these do not know; the exit status is 1 where there is such.

Run by the Python that `make deploy-tools` installs.

Usage: python grafana_reads.py FILE
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(before, after, path=""):
    """Yield the paths of what is in the one and not in the other."""
    if isinstance(before, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{path}/{key}")
            else:
                yield f"{path}/{key}"
    elif isinstance(before, list):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from lost(*pair, f"{path}/{number}")


register_default_plugins()
written = json.loads(Path(sys.argv[1]).read_text())
read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(written)))
sys.exit("\n".join(lost(written, read)) or 0)
