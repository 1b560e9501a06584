"""The pages say what the code does: what can be compared is compared."""

import importlib.util
import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ByteSize

from aibridge import config
from aibridge.cli import main
from aibridge.lifecycle import TERMINATION_OF, Cause, Termination
from aibridge.reload import ReloadCounts
from aibridge.telemetry.metrics import Metrics
from aibridge.telemetry.series import Family

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def page(name):
    return (ROOT / name).read_text()


def rows_of(text):
    """Return the cells of every table row; a code span's content where a cell is one."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


# links and commands


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_make_targets_exist(path):
    known = set(re.findall(r"^([a-z-]+):", page("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ |&& )make ([a-z-]+)", path.read_text())) <= known


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_named_exist(path):
    names = re.findall(r"`((?:aibridge|tests|bench|deploy|docs|scripts|_speedups)/[a-z0-9_./]*)`", path.read_text())
    assert [name for name in names if not (ROOT / name).exists() and name not in BUILT] == []


BUILT = frozenset({"aibridge/_compiled/"})
"""What is there only where something was compiled."""


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"^\$ .*?aibridge ([a-z]+)", README, re.MULTILINE)) - {"aibridge"})
)
def test_commands_exist(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert command in capsys.readouterr().out


# what there is, listed


def test_readme_lists_every_metric():
    listed = {cells[0]: cells[1] for cells in rows_of(README) if cells[0].startswith("aibridge_")}
    ours = {}
    for one in (*vars(Metrics()).values(), *ReloadCounts().families):
        if isinstance(one, Family):
            ours[one.name] = ", ".join(one.labels)
        elif hasattr(one, "_labelnames"):  # one of the library's own, fit for what is seldom counted
            ours[one._name] = ", ".join(one._labelnames)
    assert {name.removesuffix("_total"): labels for name, labels in listed.items()} == ours


def test_readme_lists_every_cause():
    listed = {}
    for cells in rows_of(README):
        if cells[0] in set(Termination):
            listed |= dict.fromkeys(re.findall(r"`?([a-z_]+)`?", cells[4]), cells[0])
    assert listed == {str(cause): str(termination) for cause, termination in TERMINATION_OF.items()}


def test_outcomes_tell_every_cause_with_its_termination():
    told = re.findall(r"\| (COMPLETED|UPSTREAM_ERROR|CLIENT_GONE|GATEWAY_ERROR) / ([a-z_]+)", page("docs/outcomes.md"))
    assert {cause for _, cause in told} == {str(cause) for cause in Cause}
    assert {cause: termination.lower() for termination, cause in told} == {
        str(cause): str(termination) for cause, termination in TERMINATION_OF.items()
    }


def test_outcomes_tell_every_reason_to_refuse():
    sources = "".join(path.read_text() for path in (ROOT / "aibridge").rglob("*.py"))
    ours = set(re.findall(r'RequestRejected\(\s*"([a-z_]+)", (\d+)', sources))
    table = page("docs/outcomes.md").partition("### The reasons of G8")[2]
    told = {
        (reason, status)
        for reasons, statuses in (cells[:2] for cells in rows_of(table) if re.match(r"[\d, ]+$", cells[1]))
        for reason in re.findall(r"[a-z_]+", reasons)
        for status in re.findall(r"\d+", statuses)
    }
    assert {reason for reason, _ in told} == {reason for reason, _ in ours}
    assert ours <= told


def script(name):
    """Load a script of docs/."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize(("name", "written"), [("lifecycle", "docs/architecture.md"), ("commandline", "docs/cli.md")])
def test_what_is_drawn_from_the_code_is_drawn_anew(name, written):
    text = page(written)
    assert script(name).drawn_into(text) == text, "run `make docs`"


@pytest.mark.parametrize(
    ("name", "written"), [("metrics", "docs/metrics.md"), ("decisions", "docs/decisions/index.md")]
)
def test_pages_are_written_from_what_they_list(name, written):
    assert page(written) == script(name).page(), "run `make docs`"


def test_the_page_of_the_command_line_tells_all_checks_of_the_doctor():
    sources = "".join(path.read_text() for path in (ROOT / "aibridge" / "doctor").glob("*.py"))
    ours = set(re.findall(r'(?:Finding\("", |_finding\(\n? *|_folder\(|_refused\()"([a-z ]+)"', sources)) - {"request"}
    told = {name for cells in rows_of(page("docs/cli.md").partition("## Doctor")[2].partition("## Tail")[0])
            for name in cells[0].split(", ")} - {"check"}  # fmt: skip
    assert ours <= told
    assert {"dns", "clock", "data port"} <= told


# the configuration


@pytest.mark.parametrize("name", ["README.md", "docs/configuration.md"])
def test_configuration_examples_are_valid(name, tmp_path, monkeypatch):
    for where in ("_stored", "_printed"):  # secrets of the examples, in files and from commands
        monkeypatch.setattr(f"aibridge.secretsource.{where}", lambda source: str(source).encode().hex().encode())
    examples = re.findall(r"```yaml\n(.*?)```", page(name), re.DOTALL)
    assert examples
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.yaml"
        path.write_text(example)
        names = {found[0] for found in re.findall(r"\$\{([A-Z_]+)(:-)?", example)}
        assert config.load(path, {name: f"secret-of-{name}" for name in names}).providers


_SECTIONS = {
    "admin.keys": (config.AdminKey, "admin.keys[]."),
    "auth.keys": (config.GatewayKey, "auth.keys[]."),
    "auth.key_store": (config.KeyStore, "auth.key_store."),
    "auth.jwt": (config.JWT, "auth.jwt."),
    "auth.header": (config.FrontProxy, "auth.header."),
    "providers.anthropic.api_keys": (config.APIKey, "providers.anthropic.api_keys[]."),
    "providers.openai.api_keys": (config.APIKey, "providers.openai.api_keys[]."),
    "providers.anthropic.fallbacks": (config.Fallback, "providers.anthropic.fallbacks[]."),
    "rate_limits": (config.RateLimit, "rate_limits[]."),
    "budgets": (config.Budget, "budgets[]."),
}
"""What stands below keys that are not there by default."""


def keys_of(model, prefix=""):
    """Yield each key that a file may hold, with its default as an operator would write it."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        if key == "providers":
            for kind in config.KINDS.values():
                yield from keys_of(kind, f"providers.{kind.model_fields['kind'].default}.")
        elif key == "routers":
            yield key, shown(field.default)
            yield from keys_of(config.Router, "routers.all.")
            yield from keys_of(config.RouterTarget, "routers.all.models[].")
            yield from keys_of(config.RouterPrefix, "routers.all.prefixes[].")
        elif key == "mcp.servers":
            yield key, shown(field.default)
            yield from keys_of(config.ToolServer, "mcp.servers.wiki.")
        elif key in _SECTIONS:
            yield key, shown(field.default)
            yield from keys_of(*_SECTIONS[key])
        elif isinstance(field.default, BaseModel) and type(field.default).model_fields:
            yield from keys_of(type(field.default), f"{key}.")
        elif not isinstance(field.default, BaseModel):
            yield key, "needed" if field.is_required() else shown(field.default)


def shown(default):
    if default is None or default in ({}, (), ""):
        return "none"
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, ByteSize):
        return default.human_readable(separator="").replace(".0", "")
    if isinstance(default, tuple):
        return ", ".join(map(str, default))
    if isinstance(default, float):
        return f"{default:g}"
    return str(default)


def test_every_key_is_documented_with_its_default():
    known = dict(keys_of(config.Settings))
    text = page("docs/configuration.md")
    documented = {
        cells[0]: cells[1] for cells in rows_of(text) if re.match(r"[a-z_.\[\]]+$", cells[0]) and cells[0] in known
    }
    assert documented == known


def test_no_key_is_documented_that_is_not_there():
    known = dict(keys_of(config.Settings))
    keys = {
        cells[0] for cells in rows_of(page("docs/configuration.md")) if re.match(r"[a-z_]+\.[a-z_.\[\]]+$", cells[0])
    }
    assert keys <= set(known)


def test_every_variable_is_documented():
    text = page("docs/configuration.md")
    variables = set(re.findall(r"`([A-Z][A-Z_]+)`", config.__doc__)) | set(config.AWS_SIGNS)
    assert [name for name in sorted(variables - {"AWS_SIGNS"}) if f"`{name}`" not in text] == []
