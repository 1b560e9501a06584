"""Other gateways: how each is installed in an environment of its own, and how it is started in front of the upstream.

`python bench/peers.py` installs all that the registries have into bench/.peers/, and says what could not be had.
Each runs as one process (worker), without a database, and with its telemetry and its downloads of lists switched off:
at run time there is only traffic on loopback.
"""

import contextlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from doors import HERE, KEY, Address, Door, Route, Starter, Subject, free_port, listening, model_of, telling_its_port
from scenarios import PEERS
from traffic import BEDROCK_MODEL, MODEL, OPENAI_MODEL, Api

ROOT = HERE / ".peers"
ON_BEDROCK = "claude-on-bedrock"
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
INSTALL_WITHIN = 900.0


@dataclass(frozen=True)
class Peer:
    """A package of PyPI, or of the npm registry (`node`), which may need others in a release of our choice."""

    name: str
    package: str
    release: str
    extra: str = ""
    node: bool = False
    overrides: tuple[tuple[str, str], ...] = ()

    @property
    def home(self) -> Path:
        """Its environment."""
        return ROOT / self.name

    def version(self) -> str:
        """What is installed, or nothing."""
        with contextlib.suppress(OSError, StopIteration, KeyError):
            if self.node:
                return str(
                    json.loads((self.home / "node_modules" / self.package / "package.json").read_text())["version"]
                )
            site = next((self.home / "lib").glob("python*/site-packages"))
            found = importlib.metadata.distributions(name=self.package, path=[str(site)])
            return next(iter(found)).version
        return ""

    def missing(self) -> str:
        """Why it cannot run, or nothing."""
        return "" if self.version() else "not installed: `make bench-peers` tries to"

    def install(self) -> None:
        """Install it, or raise what the package manager says."""
        if self.node:
            self.home.mkdir(parents=True, exist_ok=True)
            wanted = {"dependencies": {self.package: self.release}, "overrides": dict(self.overrides)}
            (self.home / "package.json").write_text(json.dumps(wanted))
            _run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(self.home)])
        else:
            venv.create(self.home, with_pip=True, clear=True)
            wanted_here = f"{self.package}{self.extra}=={self.release}"
            _run([str(self.home / "bin/pip"), "install", "--quiet", wanted_here])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_WITHIN)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it says nothing"])[-1])


LITELLM = Peer("litellm", "litellm", "1.108.7", extra="[proxy]")  # later ones want packages that PyPI does not have
PORTKEY = Peer(  # with later releases of that server every stream fails ("immutable")
    "portkey", "@portkey-ai/gateway", "1.15.2", node=True, overrides=(("@hono/node-server", "1.13.8"),)
)
TENSORZERO = Peer("tensorzero", "tensorzero", "2026.6.0")
SGLANG = Peer("sglang", "sglang-router", "0.3.2")
MLFLOW = Peer("mlflow", "mlflow", "3.17.2", extra="[gateway]")
ALL = (LITELLM, PORTKEY, TENSORZERO, SGLANG, MLFLOW)


def peer_versions(names: list[str]) -> dict[str, str]:
    """The versions of those among `names` that are peers."""
    return {peer.name: peer.version() for peer in ALL if peer.name in names}


# ---- LiteLLM


def _litellm_config(upstream: Address) -> str:
    return f"""
model_list:
  - model_name: {MODEL}
    litellm_params: {{model: anthropic/{MODEL}, api_base: "{upstream.url}", api_key: {KEY}}}
  - model_name: {OPENAI_MODEL}
    litellm_params: {{model: openai/{OPENAI_MODEL}, api_base: "{upstream.url}/v1", api_key: {KEY}}}
  - model_name: {ON_BEDROCK}
    litellm_params:
      model: bedrock/invoke/{BEDROCK_MODEL}
      aws_bedrock_runtime_endpoint: "{upstream.url}"
      aws_region_name: {REGION}
      aws_access_key_id: {ACCESS_KEY}
      aws_secret_access_key: {SECRET_KEY}
litellm_settings: {{telemetry: false}}
"""


@contextlib.contextmanager
def _start_litellm(upstream: Address, directory: Path) -> Iterator[Door]:
    port, config = free_port(), directory / "litellm.yaml"
    config.write_text(_litellm_config(upstream))
    command = [str(LITELLM.home / "bin/litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    lists = ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "AUTOROUTER_PRESETS", "BLOG_POSTS", "POLICY_TEMPLATES")
    variables = {f"LITELLM_LOCAL_{name}": "True" for name in lists}
    variables |= {"LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": KEY}
    with listening("litellm", [*command, "--num_workers", "1"], port, directory, **variables) as door:
        yield door


def _litellm_routes() -> dict[Api, Route]:
    key = (("authorization", f"Bearer {KEY}"),)
    return {
        "messages": Route("/v1/messages", "messages", model=MODEL, headers=key),
        "bedrock": Route("/v1/messages", "messages", model=ON_BEDROCK, headers=key),
        "chat": Route("/v1/chat/completions", "chat", model=OPENAI_MODEL, headers=key),
    }


# ---- Portkey


@contextlib.contextmanager
def _start_portkey(upstream: Address, directory: Path) -> Iterator[Door]:
    port = free_port()
    program = PORTKEY.home / "node_modules" / PORTKEY.package / "build/start-server.js"
    command = ["node", str(program), f"--port={port}", "--headless"]
    variables = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    _portkey_host.url = upstream.url  # it takes the upstream from each request
    with listening("portkey", command, port, directory, **variables) as door:
        yield door


class _PortkeyHost:
    """Where Portkey is told to go."""

    url = ""


_portkey_host = _PortkeyHost()


def _portkey_routes() -> dict[Api, Route]:
    """Not Bedrock: it asks there for Converse, whose events are others."""

    def headers(provider: str) -> tuple[tuple[str, str], ...]:
        host = f"{_portkey_host.url}/v1"
        return (
            ("authorization", f"Bearer {KEY}"),
            ("x-portkey-provider", provider),
            ("x-portkey-custom-host", host),
        )

    return {
        "messages": Route("/v1/messages", "messages", model=MODEL, headers=headers("anthropic")),
        "chat": Route("/v1/chat/completions", "chat", model=OPENAI_MODEL, headers=headers("openai")),
    }


# ---- TensorZero


def _tensorzero_config(upstream: Address) -> str:
    return f"""
[gateway]
disable_pseudonymous_usage_analytics = true
observability.enabled = false
[models.claude]
routing = ["one"]
[models.claude.providers.one]
type = "anthropic"
model_name = "{MODEL}"
api_base = "{upstream.url}/v1/"
api_key_location = "env::ANTHROPIC_API_KEY"
[models.gpt]
routing = ["one"]
[models.gpt.providers.one]
type = "openai"
model_name = "{OPENAI_MODEL}"
api_base = "{upstream.url}/v1/"
api_key_location = "env::OPENAI_API_KEY"
"""


@contextlib.contextmanager
def _start_tensorzero(upstream: Address, directory: Path) -> Iterator[Door]:
    """Its gateway comes as a library, which a program of three lines runs."""
    config = directory / "tensorzero.toml"
    config.write_text(_tensorzero_config(upstream))
    command = [str(TENSORZERO.home / "bin/python"), str(HERE / "tensorzero_gateway.py"), str(config)]
    with telling_its_port("tensorzero", command, ANTHROPIC_API_KEY=KEY, OPENAI_API_KEY=KEY, RUST_LOG="error") as door:
        yield door


def _tensorzero_routes() -> dict[Api, Route]:
    return {
        "messages": Route("/openai/v1/chat/completions", "chat", model="tensorzero::model_name::claude"),
        "chat": Route("/openai/v1/chat/completions", "chat", model="tensorzero::model_name::gpt"),
    }


# ---- SGLang's router


@contextlib.contextmanager
def _start_sglang(upstream: Address, directory: Path) -> Iterator[Door]:
    port = free_port()
    command = [str(SGLANG.home / "bin/python"), "-m", "sglang_router.launch_router", "--worker-urls", upstream.url]
    command += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
    command += ["--policy", "round_robin", "--disable-retries", "--disable-circuit-breaker", "--log-level", "error"]
    with listening("sglang", command, port, directory) as door:
        yield door


def _sglang_routes() -> dict[Api, Route]:
    return {"chat": Route("/v1/chat/completions", "chat", exact=True, model=model_of("chat"))}


# ---- MLflow's gateway


def _mlflow_config(upstream: Address) -> str:
    return f"""
endpoints:
  - name: claude
    endpoint_type: llm/v1/chat
    model:
      provider: anthropic
      name: {MODEL}
      config: {{anthropic_api_key: {KEY}, anthropic_api_base: "{upstream.url}/v1"}}
  - name: gpt
    endpoint_type: llm/v1/chat
    model:
      provider: openai
      name: {OPENAI_MODEL}
      config: {{openai_api_key: {KEY}, openai_api_base: "{upstream.url}/v1"}}
"""


@contextlib.contextmanager
def _start_mlflow(upstream: Address, directory: Path) -> Iterator[Door]:
    port, config = free_port(), directory / "mlflow.yaml"
    config.write_text(_mlflow_config(upstream))
    command = [str(MLFLOW.home / "bin/mlflow"), "gateway", "start", "--config-path", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PATH": f"{MLFLOW.home}/bin:/usr/bin:/bin"}
    with listening("mlflow", command, port, directory, **variables) as door:
        yield door


def _mlflow_routes() -> dict[Api, Route]:
    return {
        "messages": Route("/v1/chat/completions", "chat", model="claude", ends='"finish_reason":"stop"'),
        "chat": Route("/v1/chat/completions", "chat", model="gpt", ends='"finish_reason":"stop"'),
    }


# ---- the list


def _subject(
    peer: Peer, says: str, start: Starter, routes: Callable[[], dict[Api, Route]], holds: int = 200
) -> Subject:
    return Subject(peer.name, says, start, peer.missing, routes, holds=holds, sets=(PEERS,))


PEER_SUBJECTS = (
    _subject(LITELLM, "LiteLLM proxy, 1 worker, no database", _start_litellm, _litellm_routes, holds=10),
    _subject(PORTKEY, "Portkey gateway", _start_portkey, _portkey_routes),
    _subject(
        TENSORZERO,
        "TensorZero gateway, observability off; its clients speak OpenAI's chat",
        _start_tensorzero,
        _tensorzero_routes,
    ),
    _subject(SGLANG, "SGLang's router; OpenAI's chat only", _start_sglang, _sglang_routes),
    _subject(
        MLFLOW, "MLflow AI gateway, 1 worker; its clients speak OpenAI's chat", _start_mlflow, _mlflow_routes, holds=100
    ),
)


def main() -> int:
    """Install what is not there yet; a peer that cannot be had is said, and left out of the run."""
    for peer in ALL:
        if version := peer.version():
            print(f"{peer.name}: {version} is here")
            continue
        print(f"{peer.name}: installing {peer.package} {peer.release}", flush=True)
        try:
            peer.install()
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            shutil.rmtree(peer.home, ignore_errors=True)
            print(f"{peer.name}: cannot be had here: {error}", file=sys.stderr)
    for program in ("nginx", "haproxy"):
        if not shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/bin"):
            print(f"{program}: not here; `apt-get install {program}` brings it", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
