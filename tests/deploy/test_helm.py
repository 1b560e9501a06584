"""The chart: what comes out of it for the least and the most values, against Kubernetes' schemas and our own rules."""

import re

import pytest
import yaml
from deploy_kit import DEPLOY, ROOT, read_yaml, run, tool

from aibridge import __version__, config

CHART = DEPLOY / "helm" / "aibridge"
KUBERNETES = "1.35"
SECRETS = {"ANTHROPIC_API_KEY": "sk-ant-any", "ALICE_KEY": "alice-0123456789abcdef"}
THEIRS = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of Prometheus' operator, for which there is no schema here."""


def template(*arguments, status=0):
    return run(tool("helm"), "template", "gw", str(CHART), *arguments, status=status)


@pytest.fixture(scope="module", params=["least", "all"])
def values(request):
    return CHART / "ci" / f"{request.param}-values.yaml"


def rendered(values, *more):
    """Return the objects, by kind and name."""
    text = template("--values", str(values), *more)
    start = text.index("---")  # helm says first that it has followed links
    objects = [one for one in yaml.safe_load_all(text[start:].partition("\nlevel=")[0]) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


@pytest.fixture(scope="module")
def objects(values):
    return rendered(values)


@pytest.fixture(scope="module")
def pod(objects):
    return objects["StatefulSet", "gw-aibridge"]["spec"]["template"]["spec"]


def test_helm_finds_no_fault(values):
    assert "0 chart(s) failed" in run(tool("helm"), "lint", "--strict", str(CHART), "--values", str(values))


def test_kubernetes_would_take_it(objects, tmp_path):
    known = [one for (kind, _), one in objects.items() if kind not in THEIRS]
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(known))
    said = run(tool("kubernetes-validate"), "--strict", "--kubernetes-version", KUBERNETES, str(file))
    assert said.count("passed for resource") == len(known) >= 7


def test_kubernetes_would_not_take_anything(objects, tmp_path):
    """The check above can fail."""
    broken = dict(objects["StatefulSet", "gw-aibridge"], spec={"replicaz": 2})
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump(broken))
    run(tool("kubernetes-validate"), "--strict", "--kubernetes-version", KUBERNETES, str(file), status=1)


def test_the_gateway_takes_its_configuration(objects, pod, tmp_path):
    file = tmp_path / "aibridge.yaml"
    file.write_text(objects["ConfigMap", "gw-aibridge"]["data"]["aibridge.yaml"])
    loaded = config.load(file, SECRETS)
    container = pod["containers"][0]
    assert container["args"] == ["serve", "--config", "/etc/aibridge/aibridge.yaml"]
    assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} == {
        "config": "/etc/aibridge",
        "records": str(loaded.records.path.parent),
    }
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"data": loaded.listen.port, "admin": loaded.admin.port}
    assert {loaded.listen.host, loaded.admin.host} == {"0.0.0.0"}


def test_a_pod_has_time_to_drain(objects, pod):
    drain = yaml.safe_load(objects["ConfigMap", "gw-aibridge"]["data"]["aibridge.yaml"])["drain_deadline"]
    hook = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["terminationGracePeriodSeconds"] >= hook + drain + 20  # what a supervisor gives its workers behind it


def test_a_pod_may_do_no_more_than_it_must(pod):
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}" in (ROOT / "Dockerfile").read_text()
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_probes_and_services_name_ports_that_are_there(objects, pod):
    container = pod["containers"][0]
    named = {port["name"] for port in container["ports"]}
    probes = [container[f"{which}Probe"]["httpGet"] for which in ("startup", "readiness", "liveness")]
    assert [probe["path"] for probe in probes] == ["/readyz", "/readyz", "/healthz"]
    services = [one for (kind, _), one in objects.items() if kind == "Service"]
    labels = objects["StatefulSet", "gw-aibridge"]["spec"]["template"]["metadata"]["labels"]
    for service in services:
        assert service["spec"]["selector"].items() <= labels.items()
    asked = {probe["port"] for probe in probes} | {
        port["targetPort"] for one in services for port in one["spec"]["ports"]
    }
    assert asked == named


def test_every_optional_part_is_there_when_asked_for():
    kinds = {kind for kind, _ in rendered(CHART / "ci" / "all-values.yaml")}
    assert kinds == {
        "ConfigMap", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "PrometheusRule", "Service",
        "ServiceAccount", "ServiceMonitor", "StatefulSet",
    }  # fmt: skip


def test_alerts_and_dashboard_are_those_beside_it():
    objects = rendered(CHART / "ci" / "all-values.yaml")
    assert objects["PrometheusRule", "gw-aibridge"]["spec"] == read_yaml(DEPLOY / "prometheus" / "aibridge.rules.yaml")
    dashboard = objects["ConfigMap", "gw-aibridge-dashboard"]["data"]["aibridge.json"]
    assert dashboard.strip() == (DEPLOY / "grafana" / "aibridge.json").read_text().strip()


def test_the_monitor_finds_the_service_of_the_pods():
    objects = rendered(CHART / "ci" / "all-values.yaml")
    wanted = objects["ServiceMonitor", "gw-aibridge"]["spec"]["selector"]["matchLabels"]
    found = [
        name
        for (kind, name), one in objects.items()
        if kind == "Service" and wanted.items() <= one["metadata"]["labels"].items()
    ]
    assert found == ["gw-aibridge-pods"]
    job = objects["Service", "gw-aibridge-pods"]["metadata"]["labels"]["app.kubernetes.io/name"]
    assert re.fullmatch(".*aibridge.*", job)  # the alert for targets that are down looks for it


def test_a_change_of_the_configuration_makes_new_pods():
    least = CHART / "ci" / "least-values.yaml"

    def checksum(*more):
        objects = rendered(least, *more)
        return objects["StatefulSet", "gw-aibridge"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum("--set", "replicas=5")
    assert checksum() != checksum("--set", "config.timeouts.idle=60")


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ("config.auth=null", "auth"),
        ("config.providers=null", "providers"),
        ("replicaCount=3", "replicaCount"),
        ("config.drain_deadline=0", "drain_deadline"),
    ],
)
def test_wrong_values_are_refused(wrong, word):
    said = template("--values", str(CHART / "ci" / "least-values.yaml"), "--set-json", wrong, status=1)
    assert word in said


def test_versions_agree():
    assert read_yaml(CHART / "Chart.yaml")["appVersion"] == __version__
