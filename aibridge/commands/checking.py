"""The commands that look at one thing and say whether it is right: `check`, `audit`, `version`."""

import argparse
import sys
from pathlib import Path

from aibridge import __version__, config, jsontext, pricefile
from aibridge.audit import audit, report
from aibridge.commands.parser import Commands, add_json
from aibridge.commands.reporting import configuration, there
from aibridge.commands.terminal import print_lines, progress
from aibridge.compiled import MODULES
from aibridge.configschema import configuration_schema
from aibridge.wire import IMPLEMENTATION


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    check = commands.add(
        "check",
        _check,
        "check a configuration file, and print what it comes to",
        [
            "check aibridge.yaml",
            "check aibridge.yaml --json | jq .notes",
            "check --schema > aibridge.schema.json  # for editors, which complete keys and mark mistakes",
        ],
        "docs/configuration.md",
    )
    what = check.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", metavar="FILE", help="a YAML file")
    what.add_argument("--schema", action="store_true", help="print the JSON Schema of such a file instead")
    add_json(check, "its notes in the JSON too, instead of on standard error")
    audit = commands.add(
        "audit",
        _audit,
        "check that the records add up; exit status 1 where they do not",
        ["audit", "audit --config aibridge.yaml --json | jq .differences"],
        "docs/operations.md",
    )
    where = audit.add_mutually_exclusive_group()
    where.add_argument(
        "path", nargs="?", metavar="STORE", help="the file of the records (default: where the gateway's go)"
    )
    where.add_argument("--config", metavar="FILE", help="a configuration that names it")
    add_json(audit)
    version = commands.add(
        "version", _version, "print the version and which wire is in use", ["version", "version --json | jq .wire"]
    )
    add_json(version)


def _check(options: argparse.Namespace) -> int:
    if options.schema:
        print_lines([jsontext.dumps(configuration_schema()).decode()], as_json=True)
        return 0
    checked = config.load(options.file)
    pricefile.load(checked.prices.path)
    described = config.describe(checked)
    if options.json:
        described = {"notes": checked.notes, "configuration": described}
    else:
        for note in checked.notes:
            print(f"note: {note}", file=sys.stderr)
    print_lines([jsontext.dumps(described).decode()], as_json=True)
    return 0


def _audit(options: argparse.Namespace) -> int:
    path = there(Path(options.path) if options.path else configuration(options).records.path)
    result = audit(path, lambda queries: progress(queries, "checks"))
    lines = [jsontext.dumps(result.fields()).decode()] if options.json else report(result)
    print_lines(lines, as_json=options.json)
    return 1 if result.differences else 0


def _version(options: argparse.Namespace) -> int:
    python = sys.version.split()[0]
    if options.json:
        told = {"version": __version__, "wire": IMPLEMENTATION, "modules": MODULES, "python": python}
        text = jsontext.dumps(told).decode()
    else:
        text = f"aibridge {__version__}, {IMPLEMENTATION} wire, {MODULES} modules, Python {python}"
    print_lines([text], as_json=options.json)
    return 0
