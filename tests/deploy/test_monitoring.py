"""Alerts and dashboard speak of metrics that are there, fire when they should, and show what a real gateway tells."""

import asyncio
import importlib.util
import json
import re
import socket
import urllib.parse
import urllib.request
from contextlib import asynccontextmanager

import pytest
from deploy_kit import DEPLOY, ROOT, TOOLS, alerts, bare_environment, filled_in, panels, run, tool
from process_kit import PATIENCE, serving

from aibridge import config
from aibridge.reload import ReloadCounts
from aibridge.supervisor import Supervisor
from aibridge.telemetry.metrics import Metrics
from aibridge.telemetry.series import CounterFamily, Family, HistogramFamily

RULES = DEPLOY / "prometheus" / "aibridge.rules.yaml"
EXPRESSIONS = {f"alert {alert['alert']}": alert["expr"] for alert in alerts()} | {
    f"panel {panel['id']} {panel['title']}, {target['refId']}": filled_in(target["expr"])
    for panel in panels()
    for target in panel["targets"]
}

OF_OTHERS = {"up": set(), "process_cpu_seconds_total": set(), "process_resident_memory_bytes": set()}
OF_TARGETS = {"job", "instance"}


def known():
    """Return the labels of each series that a gateway tells, by its name."""
    supervisor = Supervisor(config.from_environment({}), [])
    names = {}
    for family in [*vars(Metrics()).values(), *vars(supervisor).values(), *ReloadCounts().families]:
        if not isinstance(family, Family):
            continue
        labels = set(family.labels)
        if isinstance(family, HistogramFamily):
            names |= {f"{family.name}_bucket": {*labels, "le"}, f"{family.name}_sum": labels}
            names[f"{family.name}_count"] = labels
        else:
            names[family.name + "_total" * isinstance(family, CounterFamily)] = labels
    return names


def metrics_in(expression):
    """Return the metrics of an expression, each with the labels that stand in its braces."""
    found = {}
    for name, matchers in re.findall(r"\b((?:aibridge|process)_\w+|up)\b(?!\s*\()(?:\{([^}]*)\})?", expression):
        found.setdefault(name, set()).update(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', matchers))
    return found


def grouped_in(expression):
    """Return the labels that an expression sums by."""
    lists = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    return {label.strip() for one in lists for label in one.split(",")}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
async def test_each_metric_and_label_is_there(expression):
    there = known() | OF_OTHERS
    asked = metrics_in(expression)
    assert asked
    assert asked.keys() - there.keys() == set()
    for name, labels in asked.items():
        assert labels <= there[name] | OF_TARGETS
    assert grouped_in(expression) <= set().union(OF_TARGETS, *(there[name] for name in asked))


async def test_values_of_labels_exist():
    """A matcher with a misspelt value finds nothing, and nobody hears of it."""
    sources = "".join(path.read_text() for path in (ROOT / "aibridge").rglob("*.py"))
    for expression in EXPRESSIONS.values():
        for label, values in re.findall(r'(\w+)\s*(?:=~|!=|=)\s*"([^"]*)"', expression):
            if label in {"job", "instance", "provider"} or not metrics_in(expression).keys() <= known().keys():
                continue
            for value in values.split("|"):
                assert f'"{value}"' in sources, f"{label} is never {value}"


def test_the_dashboard_is_made_of_its_table():
    spec = importlib.util.spec_from_file_location("dashboard", DEPLOY / "grafana" / "dashboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.FILE.read_text() == module.text(), "run `python deploy/grafana/dashboard.py`"


def test_panels_do_not_lie_on_each_other():
    cells = [
        (x, y)
        for panel in json.loads((DEPLOY / "grafana" / "aibridge.json").read_text())["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_grafana_knows_each_key_of_the_dashboard():
    tool("cibuildwheel")  # of the same environment
    assert run(TOOLS / "bin/python", ROOT / "tests/deploy/grafana_reads.py", DEPLOY / "grafana/aibridge.json") == ""


def test_each_alert_has_its_advice():
    page = (ROOT / "docs" / "deployment.md").read_text()
    told = set(re.findall(r"^\| `(Aibridge\w+)` \|", page, re.MULTILINE))
    assert told == {alert["alert"] for alert in alerts()}


def test_each_alert_is_tested():
    tests = (DEPLOY / "prometheus" / "aibridge.test.yaml").read_text()
    fired = set(re.findall(r"alertname: (\w+)\n *eval_time: \w+\n *exp_alerts:", tests))
    assert fired == {alert["alert"] for alert in alerts()}


def test_promtool_takes_the_rules():
    promtool = tool("promtool")
    assert f"{len(alerts())} rules found" in run(promtool, "check", "rules", RULES)
    assert "SUCCESS" in run(promtool, "test", "rules", DEPLOY / "prometheus" / "aibridge.test.yaml")


def test_promtool_takes_the_configuration_of_compose(tmp_path):
    text = (DEPLOY / "compose" / "prometheus.yaml").read_text().replace("/etc/prometheus/", f"{RULES.parent}/")
    path = tmp_path / "prometheus.yaml"
    path.write_text(text)
    assert "1 rule files found" in run(tool("promtool"), "check", "config", path)


# a real Prometheus, at a real gateway


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read()


def ask(data, fault):
    body = {
        "model": "claude-sonnet-5",
        "max_tokens": 9,
        "stream": True,
        "messages": [{"role": "user", "content": "hi"}],
    }
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01", "x-sim-fault": fault}
    request = urllib.request.Request(f"{data}/anthropic/v1/messages", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read()


class Prometheus:
    def __init__(self, url):
        self.url = url

    def query(self, expression):
        query = urllib.parse.urlencode({"query": expression})
        answer = json.loads(get(f"{self.url}/api/v1/query?{query}"))
        assert answer["status"] == "success"
        return answer["data"]["result"]

    async def until(self, expression):
        """Ask until there is an answer that is not empty."""
        async with asyncio.timeout(PATIENCE):
            while not (result := await asyncio.to_thread(self.query, expression)):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)
        return result


@asynccontextmanager
async def prometheus(folder, admin):
    """Run a Prometheus with our rules that scrapes an admin port five times a second."""
    program = tool("prometheus")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    (folder / "prometheus.yaml").write_text(
        json.dumps({
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "aibridge", "static_configs": [{"targets": [admin.removeprefix("http://")]}]}],
        })
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        program, f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address={address}", stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            while b"ready to receive web requests" not in (line := await process.stderr.readline()):
                assert line, "Prometheus has ended"
        draining = asyncio.create_task(process.stderr.read())
        yield Prometheus(f"http://{address}")
    finally:
        process.kill()
        await process.wait()
    await draining


async def test_a_real_prometheus_reads_a_real_gateway(tmp_path):
    """Every query of the dashboard and every alert is answered; those about what went on, with what went on."""
    async with (
        serving(environment=bare_environment(tmp_path)) as (_, line),
        prometheus(tmp_path, line["admin"]) as seen,
    ):
        assert await seen.until('up{job="aibridge"} == 1')
        await asyncio.to_thread(ask, line["data"], "")  # a first time: `rate` does not see a series' first value
        await asyncio.to_thread(ask, line["data"], "truncate@5")
        started = "sum(aibridge_interceptions_started_total)"
        await seen.until(f"{started} == 2")
        for fault in ("", "", "truncate@5"):
            await asyncio.to_thread(ask, line["data"], fault)
        await seen.until(f"{started} == 5")
        empty = {name for name, expression in EXPRESSIONS.items() if not seen.query(expression)}
        told = {name for name, expression in EXPRESSIONS.items() if all(map(seen.query, metrics_in(expression)))}
        assert len(told) > 30
        assert {name for name in empty & told if name.startswith("panel")} == set()
        assert await seen.until('ALERTS{alertname="AibridgeTruncations", alertstate="pending", provider="anthropic"}')
