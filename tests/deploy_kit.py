"""The tools that look at deploy/, and the files in it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from process_kit import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
TOOLS = ROOT / ".venv" / "deploy"


def tool(name):
    """Return a tool's path. A test that needs what is not there is skipped, but for CI, which has fetched it."""
    path = TOOLS / "bin" / name
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here: `make deploy-tools` fetches it")
    return found


def run(*command, status=0, **more):
    """Run a command to its end, and return what it said."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, **more)
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def read_yaml(path):
    return yaml.safe_load(Path(path).read_text())


def panels():
    """Return the panels of the dashboard that show something."""
    dashboard = json.loads((DEPLOY / "grafana" / "aibridge.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def alerts():
    groups = read_yaml(DEPLOY / "prometheus" / "aibridge.rules.yaml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def filled_in(query):
    """Return a query of the dashboard, with Grafana's own variables filled in as Grafana does for `All`."""
    for variable, value in {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*", "$provider": ".*"}.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return query


def bare_environment(home, **more):
    """Return an environment with no credentials, so that the simulator answers."""
    ports = {"AIBRIDGE_PORT": "0", "AIBRIDGE_ADMIN_PORT": "0"}
    return ENVIRONMENT | ports | {"HOME": str(home), "XDG_STATE_HOME": str(home), "NO_PROXY": "*"} | more
