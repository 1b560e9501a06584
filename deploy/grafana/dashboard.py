"""The Grafana dashboard, as a table: `python deploy/grafana/dashboard.py` writes aibridge.json beside it.

A panel is a title, a kind, a unit, a width, and queries with their legends.
"""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("aibridge.json")

WHERE = 'job=~"$job", instance=~"$instance"'
WHOSE = f'{WHERE}, provider=~"$provider"'

Query = tuple[str, str]
Panel = tuple[str, str, str, int, list[Query]]
"""Title, kind, unit, width of 24, queries."""

RATE = "[$__rate_interval]"

COLOURS = {
    "completed": "green",
    "upstream_error": "red",
    "client_gone": "blue",
    "gateway_error": "purple",
}


def quantiles(metric: str, by: str, matchers: str, *of: float) -> list[Query]:
    """Return a query for each quantile of a histogram."""
    return [
        (
            f"histogram_quantile({one}, sum by (le, {by}) (rate({metric}_bucket{{{matchers}}}{RATE})))",
            f"{{{{{by}}}}} p{one * 100:.0f}",
        )
        for one in of
    ]


def rate(metric: str, by: str, matchers: str) -> list[Query]:
    """Return the query of a counter's rate."""
    return [
        (f"sum by ({by}) (rate({metric}{{{matchers}}}{RATE}))", " ".join(f"{{{{{one}}}}}" for one in by.split(", ")))
    ]


ENDED = "aibridge_interceptions_total"

ROWS: dict[str, list[Panel]] = {
    "Now": [
        ("Live streams", "stat", "short", 4, [(f"sum(aibridge_interceptions_inflight{{{WHOSE}}})", "")]),
        ("Requests", "stat", "reqps", 4, [(f"sum(rate(aibridge_interceptions_started_total{{{WHOSE}}}{RATE}))", "")]),
        (
            "Completed, of those whose client stayed", "stat", "percentunit", 4,
            [(f'sum(rate({ENDED}{{{WHOSE}, status="completed"}}{RATE})) / sum(rate({ENDED}{{{WHOSE}, status!="client_gone"}}{RATE}))', "")],
        ),
        (
            "Stopped without their end, in an hour", "stat", "short", 4,
            [(f'sum(increase({ENDED}{{{WHOSE}, cause=~"truncated|truncated_frame|incomplete_body"}}[1h])) or vector(0)', "")],
        ),
        ("Cost, a day at this rate", "stat", "currencyUSD", 4, [(f"sum(rate(aibridge_cost_dollars_total{{{WHOSE}}}[1h])) * 86400", "")]),
        ("Programs", "stat", "none", 4, [(f"sum by (version, wire) (aibridge_build_info{{{WHERE}}})", "{{version}} {{wire}}")]),
    ],
    "How it ends": [
        ("Ends", "bars", "reqps", 12, rate(ENDED, "termination", WHOSE)),
        ("Causes, other than clean", "timeseries", "reqps", 12, rate(ENDED, "provider, cause", f'{WHOSE}, cause!="clean"')),
        ("Attempts at upstreams that failed", "timeseries", "reqps", 8, rate("aibridge_upstream_attempts_total", "provider, cause", f'{WHOSE}, cause!="clean"')),
        ("Refused requests", "timeseries", "reqps", 8, rate("aibridge_rejections_total", "reason", WHERE)),
        ("Interceptions by client", "timeseries", "reqps", 8, rate(ENDED, "client", WHOSE)),
    ],
    "Time": [
        ("To the first event", "timeseries", "s", 12, quantiles("aibridge_time_to_first_event_seconds", "provider", WHOSE, 0.5, 0.95)),
        ("To the end", "timeseries", "s", 12, quantiles("aibridge_interceptions_duration_seconds", "provider", WHOSE, 0.5, 0.95)),
        ("The gateway's own work", "timeseries", "s", 8, quantiles("aibridge_overhead_seconds", "step", WHOSE, 0.95)),
        ("Beyond the provider's own time", "timeseries", "s", 8, quantiles("aibridge_overhead_beyond_provider_seconds", "until", WHOSE, 0.95)),
        ("Lag of the event loop", "timeseries", "s", 8, quantiles("aibridge_event_loop_lag_seconds", "instance", WHERE, 0.99)),
    ],
    "Tokens and money": [
        ("Tokens", "timeseries", "short", 8, rate("aibridge_tokens_total", "type", WHOSE)),
        ("Cost an hour, by model", "bars", "currencyUSD", 8, [(f"sum by (model) (rate(aibridge_cost_dollars_total{{{WHOSE}}}{RATE})) * 3600", "{{model}}")]),
        ("Requests without a price", "timeseries", "reqps", 8, rate("aibridge_unpriced_requests_total", "model, reason", WHOSE)),
        ("Tools of the gateway, by end", "timeseries", "reqps", 12, rate("aibridge_injected_tool_invocations_total", "server, outcome", WHOSE)),
        ("Tools of the clients", "timeseries", "reqps", 12, rate("aibridge_non_injected_tool_selections_total", "name", WHOSE)),
    ],
    "Upstreams": [
        ("Circuits: 0 closed, 1 open", "timeseries", "none", 8, [(f"max by (provider, endpoint, model) (aibridge_circuit_breaker_state{{{WHOSE}}})", "{{provider}} {{endpoint}} {{model}}")]),
        ("Refused by an open circuit", "timeseries", "reqps", 8, rate("aibridge_circuit_breaker_rejects_total", "provider", WHOSE)),
        ("Keys of pools", "timeseries", "none", 8, [(f"sum by (provider, state) (aibridge_key_pool_keys{{{WHOSE}}})", "{{provider}} {{state}}")]),
        ("Tool servers: 1 up", "timeseries", "none", 8, [(f"min by (server) (aibridge_mcp_server_up{{{WHERE}}})", "{{server}}")]),
        ("Fields that a model does not take", "timeseries", "reqps", 8, rate("aibridge_stripped_fields_total", "provider, field", WHOSE)),
        ("Relayed only", "timeseries", "reqps", 8, rate("aibridge_passthrough_total", "provider, route", WHOSE)),
    ],
    "Books": [
        ("Age of the journal", "timeseries", "s", 8, [(f"max by (instance) (aibridge_journal_age_seconds{{{WHERE}}})", "{{instance}}")]),
        ("Bytes of the journal", "timeseries", "bytes", 8, [(f"max by (instance) (aibridge_journal_bytes{{{WHERE}}})", "{{instance}}")]),
        ("Lost: records, dumps", "timeseries", "short", 8, [
            (f"sum by (instance) (increase(aibridge_records_dropped_total{{{WHERE}}}[1h]))", "records {{instance}}"),
            (f"sum by (instance) (increase(aibridge_dumps_lost_total{{{WHERE}}}[1h]))", "dumps {{instance}}"),
        ]),
        ("Age of gateway keys, and of the issuer's", "timeseries", "s", 12, [
            (f"max by (instance) (aibridge_key_store_age_seconds{{{WHERE}}})", "store {{instance}}"),
            (f"max by (instance) (aibridge_issuer_keys_age_seconds{{{WHERE}}})", "issuer {{instance}}"),
        ]),
        ("Gateway keys", "timeseries", "none", 12, [(f"max by (state) (aibridge_gateway_keys{{{WHERE}}})", "{{state}}")]),
    ],
    "Processes": [
        ("Live streams", "timeseries", "short", 8, [(f"sum by (instance) (aibridge_interceptions_inflight{{{WHOSE}}})", "{{instance}}")]),
        ("CPU, in cores", "timeseries", "none", 8, [(f"rate(process_cpu_seconds_total{{{WHERE}}}{RATE})", "{{instance}}")]),
        ("Memory", "timeseries", "bytes", 8, [(f"process_resident_memory_bytes{{{WHERE}}}", "{{instance}}")]),
        ("Workers", "timeseries", "none", 8, [(f"sum by (stage) (aibridge_workers{{{WHERE}}})", "{{stage}}")]),
        ("Workers that died, in an hour", "timeseries", "none", 8, [(f"sum by (instance) (increase(aibridge_worker_deaths_total{{{WHERE}}}[1h]))", "{{instance}}")]),
        ("Last reload: 1 went well", "timeseries", "none", 8, [(f"min by (instance) (aibridge_config_last_reload_successful{{{WHERE}}})", "{{instance}}")]),
    ],
}  # fmt: skip


def panel(number: int, one: Panel, x: int, y: int) -> dict[str, Any]:
    """Return a panel as Grafana has it."""
    title, kind, unit, width, queries = one
    bars = kind == "bars"
    custom = {"drawStyle": "bars", "fillOpacity": 80, "stacking": {"mode": "normal"}} if bars else {"fillOpacity": 8}
    return {
        "id": number,
        "type": "timeseries" if bars else kind,
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": x, "y": y, "w": width, "h": 4 if kind == "stat" else 8},
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0} | ({} if kind == "stat" else {"custom": custom}),
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": name},
                    "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
                }
                for name, colour in COLOURS.items()
                if title == "Ends"
            ],
        },
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "expr": query,
                "legendFormat": legend,
            }
            for at, (query, legend) in enumerate(queries)
        ],
    }


def variable(name: str, query: str) -> dict[str, Any]:
    """Return a variable whose values a query finds; all of them at first."""
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "sort": 1,
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    """Return the whole dashboard."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({
            "id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
        })  # fmt: skip
        y += 1
        x = height = 0
        for one in row:
            if x + one[3] > 24:
                x, y = 0, y + height
            made = panel(len(panels) + 1, one, x, y)
            height = made["gridPos"]["h"]
            x += one[3]
            panels.append(made)
        y += height
    return {
        "uid": "aibridge",
        "title": "aibridge",
        "tags": ["aibridge"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}},
                variable("job", "label_values(aibridge_build_info, job)"),
                variable("instance", 'label_values(aibridge_build_info{job=~"$job"}, instance)'),
                variable("provider", f"label_values(aibridge_interceptions_started_total{{{WHERE}}}, provider)"),
            ]
        },
        "panels": panels,
    }


def text() -> str:
    """Return the file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
