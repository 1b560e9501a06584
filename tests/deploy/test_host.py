"""The unit of systemd, and the composition: they name what is there, and start a gateway."""

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest
from deploy_kit import DEPLOY, ROOT, bare_environment, read_yaml, run, tool
from process_kit import PATIENCE, line_with

from aibridge import config

UNIT = DEPLOY / "systemd" / "aibridge.service"
COMPOSE = DEPLOY / "compose"
SECRETS = {"ANTHROPIC_API_KEY": "sk-ant-any", "GATEWAY_KEY": "gateway-0123456789abcdef"}


def of_unit(name):
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


# systemd


def test_systemd_takes_the_unit():
    assert run(tool("systemd-analyze"), "verify", str(UNIT)) == ""


def test_systemd_finds_the_unit_confined():
    said = run(tool("systemd-analyze"), "security", "--offline=true", str(UNIT))
    exposure = float(re.search(r"Overall exposure level for aibridge.service: ([\d.]+)", said)[1])
    assert exposure <= 2.0, said


async def test_the_units_command_starts_a_gateway_with_its_secrets(tmp_path):
    """What systemd does with the line: `$$` is `$`, and the credentials' folder is in a variable."""
    (tmp_path / "aibridge.env").write_text("ANTHROPIC_API_KEY='sk-ant-any'\n")
    file = tmp_path / "aibridge.yaml"
    records = tmp_path / "records.db"
    anywhere = "{host: 127.0.0.1, port: 0}"
    file.write_text(
        f"{{listen: {anywhere}, admin: {anywhere}, records: {{path: {records}}},"
        ' providers: {anthropic: {api_key: "${ANTHROPIC_API_KEY}"}}}'
    )
    line = of_unit("ExecStart")[0].replace("$$", "$").replace("/etc/aibridge", str(tmp_path))
    assert "/opt/aibridge/bin/aibridge" in line
    command = shlex.split(line.replace("/opt/aibridge/bin/aibridge", f"{sys.executable} -m aibridge"))
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE,
        env=bare_environment(tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path), PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            started = await line_with(process.stderr, "aibridge started")
        assert started["workers"] > 1, "SIGUSR2 would end a single one"
        assert of_unit("ExecReload") == ["/bin/kill -USR2 $MAINPID"]
        os.kill(process.pid, signal.SIGUSR2)
        async with asyncio.timeout(PATIENCE):
            await line_with(process.stderr, "new workers have taken over")
        os.kill(process.pid, signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def test_the_unit_waits_for_the_drain():
    drain = config.from_environment({}).drain_deadline
    assert float(of_unit("TimeoutStopSec")[0]) >= drain + 20  # what a supervisor gives its workers behind it


# compose


def test_the_compositions_files_are_there():
    services = read_yaml(COMPOSE / "compose.yaml")["services"]
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (COMPOSE / source).is_file(), source
    assert (COMPOSE / services["aibridge"]["build"] / "Dockerfile").is_file()


def test_the_compositions_gateway_takes_its_configuration():
    loaded = config.load(COMPOSE / "aibridge.yaml", SECRETS)
    gateway = read_yaml(COMPOSE / "compose.yaml")["services"]["aibridge"]
    assert gateway["environment"].keys() == SECRETS.keys()
    assert gateway["ports"] == [f"127.0.0.1:{loaded.listen.port}:{loaded.listen.port}"]
    assert float(gateway["stop_grace_period"].removesuffix("s")) >= loaded.drain_deadline + 20
    assert gateway["volumes"][-1] == f"records:{loaded.records.path.parent}"
    job = read_yaml(COMPOSE / "prometheus.yaml")["scrape_configs"][0]
    assert job["static_configs"] == [{"targets": [f"aibridge:{loaded.admin.port}"]}]


def test_grafana_finds_the_dashboard():
    provider = read_yaml(COMPOSE / "grafana" / "dashboards.yaml")["providers"][0]
    volumes = read_yaml(COMPOSE / "compose.yaml")["services"]["grafana"]["volumes"]
    targets = {Path(volume.split(":")[1]).parent.as_posix() for volume in volumes if "aibridge.json" in volume}
    assert targets == {provider["options"]["path"]}


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="no docker-compose here")
def test_docker_compose_takes_it():
    secrets = SECRETS | {"GRAFANA_PASSWORD": "any", "PATH": os.environ["PATH"]}
    said = run("docker-compose", "--file", str(COMPOSE / "compose.yaml"), "config", env=secrets)
    assert "aibridge" in said
    run("docker-compose", "--file", str(COMPOSE / "compose.yaml"), "config", env={"PATH": os.environ["PATH"]}, status=1)
