"""Reads every import of aibridge/ and keeps the rules: floors, doors, purity, sizes.

Each rule is a function from sources to complaints. The last tests hand each rule a source that breaks it.
"""

import ast
import functools
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = [
    ["errors", "lifecycle", "ids", "text", "deadlines", "compiled", "parts", "secretsource", "poolkey"],
    ["values", "breaker", "faults", "jsontext", "config/", "journal", "decompression", "litellm", "__init__"],
    [
        "headers",
        "callers",
        "circuits",
        "ratelimits",
        "clientstream",
        "configschema",
        "content",
        "credentials",
        "listeners",
        "share",
        "stores/",
        "sums",
    ],
    [
        "admin",
        "telemetry/",
        "wire/",
        "access",
        "retries",
        "keypool",
        "clientconnection",
        "dumptext",
        "refusals",
        "carrier",
        "audit",
        "retention",
        "prices",
        "member",
    ],
    ["body", "auth", "dumpfiles", "writer", "pricefile", "reload", "orphans", "adminapi/"],
    ["dialects/", "recorder", "keywatch", "tokens", "limits/"],
    ["toolloop/"],
    ["relay", "mcp/", "providers/"],
    ["routing", "server", "upstream", "overhead", "draft", "rotation", "replay"],
    ["surroundings", "dump", "turns", "issuer", "opening"],
    ["linger", "passthrough", "failover", "patience"],
    ["attempts", "assembly"],
    ["exchange", "admission", "doctor/", "limiting"],
    ["gateway"],
    ["generation"],
    ["app", "demo", "commands/", "simulator/", "supervisor"],
    ["worker"],
    ["cli"],
    ["__main__"],
]
"""The rooms of aibridge/, lowest floor first; a name with a slash is a folder. Imports lead only downwards."""

INNER_FLOORS = {
    "adminapi/": [
        ["__init__", "problems", "figures", "flow", "guesses"],
        ["answers", "asking", "parameters", "signin"],
        ["exporting", "files", "live", "questions"],
        ["room"],
    ],
    "commands/": [
        ["__init__", "parser", "terminal"],
        ["reporting"],
        [
            "checking",
            "completing",
            "doctoring",
            "following",
            "importing",
            "keys",
            "prices",
            "replaying",
            "reports",
            "toolservers",
        ],
    ],
    "config/": [
        ["values", "interpolation", "yamlfile"],
        ["bounds", "headers", "recourse", "routers", "secret", "telemetry", "urls"],
        ["content", "mcp", "outbound", "rate_limits"],
        ["keys", "providers", "records"],
        ["auth", "ports"],
        ["checks"],
        ["settings"],
        ["configuration", "mistakes"],
        ["changes", "environment"],
        ["file"],
        ["__init__"],
    ],
    "doctor/": [["__init__", "advice", "asking", "values"], ["connection", "house"], ["upstreams"]],
    "wire/": [["chunked", "eventstream", "template", "jsonscan", "jsontail"], ["sse"], ["transcode"], ["__init__"]],
    "dialects/": [
        ["base", "counts", "pieces", "raw"],
        [
            "asking",
            "blocks",
            "chat_asking",
            "chat_calls",
            "chat_extra_usage",
            "chat_quiet",
            "chat_usage",
            "openai_errors",
            "responses_asking",
            "responses_items",
            "responses_usage",
        ],
        ["chat", "messages", "responses"],
        ["__init__"],
    ],
    "limits/": [["__init__", "values"], ["rules", "memory", "sqlite", "valkey"], ["limiter"]],
    "mcp/": [["__init__", "values", "policy"], ["catalog", "link", "report", "results"], ["sessions"], ["servers"]],
    "providers/": [
        ["__init__", "base", "reading", "sigv4", "bedrock_errors", "bedrock_lessons", "bedrock_models"],
        ["renewal", "bedrock_features", "usage_lessons"],
        ["awschain"],
        ["aws", "anthropic", "bedrock", "openai", "router"],
    ],
    "toolloop/": [
        ["base", "chat_sums", "rewriting"],
        ["chat_message", "chat_request", "messages_blocks", "messages_request", "messages_usage"],
        ["responses_items", "responses_request"],
        ["chat_turn", "messages_stream", "responses_chains", "responses_turn"],
        ["responses_answer"],
        ["responses_stream"],
        ["chat", "messages", "responses"],
        ["__init__"],
    ],
    "stores/": [
        ["__init__", "base", "writeahead"],
        ["entries", "inserting", "migrations", "recorded"],
        ["carrying", "following", "keys", "ledger", "sqlite"],
        ["browsing", "rerating"],
        ["summaries"],
    ],
    "telemetry/": [
        ["__init__", "conventions", "exporters", "lag", "log", "series"],
        ["counting", "tally"],
        ["admission_metrics", "content_metrics", "gateway_metrics", "interception_metrics", "upstream_metrics"],
        ["genai", "metrics", "totals", "tracing"],
    ],
    "simulator/": [
        ["__init__", "faults", "values"],
        ["encodings", "faces", "ledger", "cutter", "delivery", "scripts", "signer"],
        ["aws_errors", "damage", "openai_speech", "recordings", "sigv4"],
        ["anthropic", "openai_chat", "openai_errors", "settings"],
        ["bedrock", "openai", "openai_responses"],
        ["expected", "openai_faces"],
        ["answers"],
        ["connection"],
        ["server"],
        ["command"],
    ],
}
"""The same inside each folder."""

SIMULATOR_MAY_IMPORT = {"aibridge.errors"}
"""The simulator tests the gateway: were it made of the gateway's parts, it would share their mistakes."""

DOORS = {
    "httptools": {"aibridge.clientconnection", "aibridge.upstream", "aibridge.simulator.connection"},
    "aiohappyeyeballs": {"aibridge.upstream"},
    "botocore": {"aibridge.providers.awschain", "aibridge.simulator.signer"},
    "orjson": {"aibridge.jsontext"},
    "backports": {"aibridge.decompression"},  # the standard library's `compression`, for Python before 3.14
    "compression": {"aibridge.decompression"},
    "pydantic": {
        "aibridge.config.auth",
        "aibridge.config.bounds",
        "aibridge.config.changes",
        "aibridge.config.content",
        "aibridge.config.headers",
        "aibridge.config.keys",
        "aibridge.config.mcp",
        "aibridge.config.mistakes",
        "aibridge.config.outbound",
        "aibridge.config.ports",
        "aibridge.config.providers",
        "aibridge.config.rate_limits",
        "aibridge.config.records",
        "aibridge.config.recourse",
        "aibridge.config.routers",
        "aibridge.config.secret",
        "aibridge.config.settings",
        "aibridge.config.telemetry",
        "aibridge.config.urls",
        "aibridge.config.values",
    },
    "pydantic_core": {"aibridge.config.configuration", "aibridge.config.mistakes", "aibridge.config.values"},
    "yaml": {"aibridge.config.yamlfile", "aibridge.litellm", "aibridge.pricefile"},
    "prometheus_client": {"aibridge.telemetry.metrics", "aibridge.telemetry.series", "aibridge.telemetry.totals"},
    "opentelemetry": {
        "aibridge.telemetry.exporters",
        "aibridge.telemetry.genai",
        "aibridge.telemetry.tracing",
    },
    "jwt": {"aibridge.tokens"},
    "uvloop": {"aibridge.cli", "aibridge.commands.doctoring", "aibridge.commands.toolservers"},
    "shtab": {"aibridge.commands.completing"},
    "tqdm": {"aibridge.commands.terminal"},
    "redis": {"aibridge.limits.valkey"},
    "mcp": {"aibridge.mcp.link"},
    "mcp_types": {"aibridge.mcp.link"},
    "httpx2": {"aibridge.mcp.link"},
    "aibridge._speedups": {"aibridge.wire"},
    # of the standard library, what reaches outside
    "sqlite3": {
        "aibridge.limits.sqlite",
        "aibridge.stores.inserting",
        "aibridge.stores.keys",
        "aibridge.stores.sqlite",
        "aibridge.stores.writeahead",
    },
    "socket": {
        "aibridge.server",
        "aibridge.share",
        "aibridge.simulator.connection",
        "aibridge.supervisor",
        "aibridge.upstream",
    },
    "ssl": {"aibridge.doctor.connection", "aibridge.limits.valkey", "aibridge.mcp.link", "aibridge.upstream"},
    "urllib.request": {"aibridge.upstream"},
    "http.client": {"aibridge.demo"},
    "threading": {
        "aibridge.dumpfiles",
        "aibridge.providers.renewal",
        "aibridge.reload",
        "aibridge.telemetry.exporters",
        "aibridge.telemetry.counting",
        "aibridge.telemetry.tally",
        "aibridge.writer",
    },
    "fcntl": {"aibridge.journal"},
    "subprocess": {"aibridge.carrier", "aibridge.secretsource"},
    "select": {"aibridge.carrier", "aibridge.secretsource"},
    "os": {
        "aibridge.carrier",
        "aibridge.cli",
        "aibridge.commands.terminal",
        "aibridge.compiled",
        "aibridge.config.environment",
        "aibridge.config.file",
        "aibridge.dumpfiles",
        "aibridge.journal",
        "aibridge.orphans",
        "aibridge.providers.awschain",
        "aibridge.secretsource",
        "aibridge.share",
        "aibridge.supervisor",
        "aibridge.telemetry.tally",
    },
}
"""Each library, and the files that may import it. Third-party libraries that are not here may not be imported."""

LATE = {
    ("aibridge.limiting", "aibridge.limits.valkey"): "its library is installed by who has such a server",
    ("aibridge.mcp.sessions", "aibridge.mcp.link"): "half a second and 27 MB, for who has a tool server",
    ("aibridge.providers.aws", "aibridge.providers.awschain"): "a tenth of a second and 7 MB, for who has keys of AWS",
    ("aibridge.simulator.sigv4", "aibridge.simulator.signer"): "the same, for who signs to the simulator",
}
"""What is loaded by name, where it is asked for; downwards all the same. Nobody else may import it."""

PURE = {
    "errors", "lifecycle", "ids", "text", "deadlines", "__init__", "values", "faults", "jsontext", "breaker", "headers",
    "decompression", "callers", "retries", "ratelimits", "keypool", "poolkey", "rotation", "content", "credentials",
    "access", "prices", "dumptext", "refusals", "sums", "wire/", "auth", "body", "dialects/", "toolloop/", "relay",
    "limits/values", "limits/rules", "limits/memory",
}  # fmt: skip
"""Rooms that do no I/O and read no clock, and files of other rooms: bytes and times come in as arguments. They import
only each other."""

PURE_LIBRARIES = {
    "binascii", "collections.abc", "dataclasses", "datetime", "enum", "fnmatch", "functools",
    "hashlib", "hmac", "ipaddress", "itertools",
    "json", "math", "re", "struct", "types", "typing", "urllib.parse", "uuid", "zlib",
}  # fmt: skip

PURE_EXCEPTIONS = {
    ("aibridge.ids", "random"): "random bits for an id",
    ("aibridge", "aibridge.compiled"): "the switch, which is there before all else",
    ("aibridge.wire", "aibridge.compiled"): "the answer of AIBRIDGE_SPEEDUPS",
    ("aibridge.jsontext", "orjson"): "its door, and pure itself",
    ("aibridge.decompression", "backports"): "its door, and pure itself",
    ("aibridge.decompression", "compression"): "the same",
    ("aibridge.decompression", "sys"): "the version of Python says which of the two",
    ("aibridge.wire", "aibridge._speedups"): "its door, and pure itself",
}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
LONG_FILES = {
    "aibridge.exchange": "the wires of one interception: every way in which one can end is told in this file",
    "aibridge.simulator.faults": "one closed list of faults, and the grammar of its words",
    "aibridge.upstream": "connection and pool know each other's state",
}
LONG_FUNCTIONS: dict[str, str] = {}


class Import(NamedTuple):
    """One name that a file imports."""

    importer: str
    target: str
    line: int
    at_top: bool

    def __str__(self):
        return f"{self.importer}, line {self.line}: imports {self.target}"


Sources = Mapping[str, str]
"""Texts by module name."""


def read_sources() -> dict[str, str]:
    return {module_name(path): path.read_text() for path in sorted((ROOT / "aibridge").rglob("*.py"))}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(sources: Sources) -> Iterator[Import]:
    for module, source in sources.items():
        for node, at_top in importing(source):
            for target in targets(node, module, sources):
                yield Import(module, target, node.lineno, at_top)


@functools.cache
def importing(source: str) -> list[tuple[ast.AST, bool]]:
    """Return the nodes that may import something, and whether they run with the module. Each rule reads all sources."""
    return [
        (node, not hides_imports(block))
        for block in ast.parse(source).body
        for node in ast.walk(block)
        if isinstance(node, ast.Import | ast.ImportFrom) or called(node)
    ]


def called(node: ast.AST) -> str | None:
    """Return the module that a call of `importlib.import_module` names, where it names one of ours."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
        name = node.args[0]
        if isinstance(name, ast.Constant) and is_ours(str(name.value)):
            return str(name.value)
    return None


def hides_imports(block: ast.stmt) -> bool:
    """Whether a statement of a module can hold imports that do not run with the module."""
    if isinstance(block, ast.If):
        return "TYPE_CHECKING" in ast.dump(block.test)
    return isinstance(block, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def targets(node: ast.AST, module: str, sources: Sources) -> Iterator[str]:
    if name := called(node):
        yield name
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module if is_package(module, sources) else module.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, base] if base else above)
        for alias in node.names:
            name = f"{base}.{alias.name}"
            yield name if name in sources or name in DOORS else base


def is_package(module: str, sources: Sources) -> bool:
    return any(name.startswith(f"{module}.") for name in sources)


def room(module: str, sources: Sources) -> tuple[str, str]:
    """Return a module's room, and its name inside where the room is a folder."""
    _, _, inner = module.partition(".")
    if not inner:
        return "__init__", ""
    first, _, rest = inner.partition(".")
    if rest or is_package(module, sources):
        return f"{first}/", rest or "__init__"
    return first, ""


def floors_of(floors: list[list[str]]) -> dict[str, int]:
    return {name: number for number, names in enumerate(floors) for name in names}


def is_ours(name: str) -> bool:
    return name.partition(".")[0] == "aibridge"


# the rules


def unnamed(sources: Sources) -> list[str]:
    """Every file has its floor, and every name a file."""
    named = {name for names in FLOORS for name in names if not name.endswith("/")}
    named |= {folder + name for folder, floors in INNER_FLOORS.items() for names in floors for name in names}
    there = {"".join(room(module, sources)) for module in sources}
    return [f"{name} has no floor" for name in there - named] + [f"{name} is not there" for name in named - there]


def upward(sources: Sources) -> list[str]:
    """A file imports only from lower floors."""
    outer = floors_of(FLOORS)
    complaints = []
    for one in imports_of(sources):
        if not is_ours(one.target) or one.target in DOORS:
            continue
        (here, here_inside), (there, there_inside) = room(one.importer, sources), room(one.target, sources)
        if here == there and here.endswith("/"):
            inner = floors_of(INNER_FLOORS.get(here, []))
            fine = inner.get(there_inside, sys.maxsize) < inner.get(here_inside, -1)
        else:
            fine = outer.get(there, sys.maxsize) < outer.get(here, -1)
        if not fine:
            complaints.append(f"{one}, which is on no lower floor")
    return complaints


def hidden(sources: Sources) -> list[str]:
    """No first-party import inside a function or for type checking alone: what is needed upward lives too high."""
    return [
        f"{one} out of sight"
        for one in imports_of(sources)
        if is_ours(one.target) and not one.at_top and (one.importer, one.target) not in LATE
    ]


def through_walls(sources: Sources) -> list[str]:
    """Each library has its door, and the simulator its wall."""
    complaints = []
    for one in imports_of(sources):
        door = next((name for name in DOORS if f"{one.target}.".startswith(f"{name}.")), None)
        standard = one.target.partition(".")[0] in sys.stdlib_module_names
        if door is not None:
            if one.importer not in DOORS[door]:
                complaints.append(f"{one}, which is not its door")
        elif not is_ours(one.target) and not standard:
            complaints.append(f"{one}, a library without a door")
        elif leaves_the_simulator(one, sources) and one.target not in SIMULATOR_MAY_IMPORT:
            complaints.append(f"{one}, through the simulator's wall")
    return complaints


def leaves_the_simulator(one: Import, sources: Sources) -> bool:
    return (
        is_ours(one.target)
        and room(one.importer, sources)[0] == "simulator/"
        and room(one.target, sources)[0] != "simulator/"
    )


def impure(sources: Sources) -> list[str]:
    """Pure rooms import pure rooms, and of the libraries only those that touch nothing."""
    complaints = []
    for one in imports_of(sources):
        if not is_pure(one.importer, sources) or (one.importer, one.target) in PURE_EXCEPTIONS:
            continue
        pure = is_pure(one.target, sources) if is_ours(one.target) else one.target in PURE_LIBRARIES
        if not pure:
            complaints.append(f"{one}, which is not pure")
    return complaints


def is_pure(module: str, sources: Sources) -> bool:
    there = room(module, sources)
    return there[0] in PURE or "".join(there) in PURE


def oversized(sources: Sources) -> list[str]:
    """Files and functions that fit a head, or give a reason."""
    complaints = []
    for module, source in sources.items():
        lines = source.count("\n")
        if lines > MAX_FILE_LINES and module not in LONG_FILES:
            complaints.append(f"{module}: {lines} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES and f"{module}.{node.name}" not in LONG_FUNCTIONS:
                    complaints.append(f"{module}.{node.name}: {length} lines")
    return complaints


def silent(sources: Sources) -> list[str]:
    """Every file says what it is."""
    return [
        f"{module} has no docstring" for module, source in sources.items() if not ast.get_docstring(ast.parse(source))
    ]


RULES = [unnamed, upward, hidden, through_walls, impure, oversized, silent]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule):
    assert rule(read_sources()) == []


def test_exceptions_are_needed():
    sources = read_sources()
    found = {(one.importer, one.target) for one in imports_of(sources)}
    assert set(PURE_EXCEPTIONS) <= found
    assert {module for module in sources if sources[module].count("\n") > MAX_FILE_LINES} == set(LONG_FILES)


def test_what_is_loaded_late_is_imported_by_nobody_else():
    found = {(one.importer, one.target) for one in imports_of(read_sources())}
    late = {target for _, target in LATE}
    assert {(importer, target) for importer, target in found if target in late} == set(LATE)


def test_every_door_is_used():
    found = {(one.importer, one.target) for one in imports_of(read_sources())}
    uses = {(name, importer) for importer, target in found for name in DOORS if f"{target}.".startswith(f"{name}.")}
    assert uses == {(name, importer) for name, importers in DOORS.items() for importer in importers}


def test_readme_draws_the_same_floors():
    text = (ROOT / "README.md").read_text()
    lines = re.findall(r"^ +(\d+) {2,}(\S+(?: · \S+)*)(?: {2,}.*)?$", text, re.MULTILINE)
    drawn = {int(number): rooms.split(" · ") for number, rooms in lines}
    assert drawn == dict(enumerate(FLOORS, 1))


# each rule, broken

GOOD = dict.fromkeys(("aibridge", "aibridge.wire", "aibridge.wire.sse", "aibridge.values"), '"""A file."""\n')

BROKEN = [
    (unnamed, {"aibridge.helpers": ""}, "helpers has no floor"),
    (upward, {"aibridge.values": "from aibridge.gateway import Gateway", "aibridge.gateway": ""}, "no lower floor"),
    (upward, {"aibridge.values": "import aibridge.gateway", "aibridge.gateway": ""}, "no lower floor"),
    (upward, {"aibridge.values": "from aibridge import gateway", "aibridge.gateway": ""}, "no lower floor"),
    (upward, {"aibridge.values": "from .gateway import Gateway", "aibridge.gateway": ""}, "no lower floor"),
    (upward, {"aibridge.values": "from aibridge.nowhere import X"}, "no lower floor"),
    (upward, {"aibridge.wire.sse": "from . import transcode", "aibridge.wire.transcode": ""}, "no lower floor"),
    (upward, {"aibridge.wire.sse": "from .transcode import X", "aibridge.wire.transcode": ""}, "no lower floor"),
    (hidden, {"aibridge.relay": "def f():\n    from aibridge import values"}, "out of sight"),
    (hidden, {"aibridge.relay": "class C:\n    def f(self):\n        import aibridge.values"}, "out of sight"),
    (hidden, {"aibridge.relay": "if TYPE_CHECKING:\n    from aibridge.values import X"}, "out of sight"),
    (hidden, {"aibridge.relay": "if typing.TYPE_CHECKING:\n    import aibridge.values"}, "out of sight"),
    (hidden, {"aibridge.relay": "def f():\n    importlib.import_module('aibridge.values')"}, "out of sight"),
    (upward, {"aibridge.values": "importlib.import_module('aibridge.gateway')", "aibridge.gateway": ""}, "lower floor"),
    (through_walls, {"aibridge.gateway": "import httptools"}, "not its door"),
    (through_walls, {"aibridge.gateway": "import botocore.session"}, "not its door"),
    (through_walls, {"aibridge.gateway": "def f():\n    import yaml"}, "not its door"),
    (through_walls, {"aibridge.relay": "from aibridge import _speedups"}, "not its door"),
    (through_walls, {"aibridge.relay": "from aibridge._speedups import X"}, "not its door"),
    (through_walls, {"aibridge.gateway": "import requests"}, "without a door"),
    (through_walls, {"aibridge.simulator.answers": "from aibridge.values import X"}, "the simulator's wall"),
    (impure, {"aibridge.relay": "import time"}, "not pure"),
    (impure, {"aibridge.relay": "import asyncio"}, "not pure"),
    (impure, {"aibridge.wire.sse": "from os import environ"}, "not pure"),
    (impure, {"aibridge.relay": "from aibridge.config import Config", "aibridge.config": ""}, "not pure"),
    (impure, {"aibridge.limits.rules": "import time"}, "not pure"),
    (oversized, {"aibridge.relay": "\n" * (MAX_FILE_LINES + 1)}, "401 lines"),
    (oversized, {"aibridge.relay": "def f():\n" + "    pass\n" * MAX_FUNCTION_LINES}, "61 lines"),
    (silent, {"aibridge.relay": "X = 1"}, "no docstring"),
]


@pytest.mark.parametrize(("rule", "sources", "complaint"), BROKEN, ids=[f"{rule.__name__}" for rule, *_ in BROKEN])
def test_a_broken_rule_is_noticed(rule, sources, complaint):
    assert any(complaint in text for text in rule(GOOD | sources))


def test_every_rule_is_seen_broken():
    assert {rule for rule, *_ in BROKEN} == set(RULES)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule is not unnamed], ids=lambda rule: rule.__name__)
def test_a_good_house_is_left_alone(rule):
    assert rule(GOOD | {"aibridge.wire.sse": '"""Fine."""\nimport re\nfrom aibridge.values import Event\n'}) == []
