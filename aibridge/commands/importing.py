"""The command `import litellm`: another gateway's configuration as one of ours."""

import argparse
from pathlib import Path

from aibridge import jsontext, litellm
from aibridge.commands.parser import Commands, add_json
from aibridge.commands.terminal import print_lines
from aibridge.errors import ConfigError

_PAGE = "docs/migrating-from-litellm.md"


def add_commands(commands: Commands) -> None:
    """Add `import`, and the command below it."""
    below = commands.group(
        "import",
        "make a configuration of another gateway's",
        ["import litellm config.yaml > aibridge.yaml"],
        _PAGE,
    )
    importing = below.add(
        "litellm",
        _import,
        "make a configuration of that of LiteLLM's proxy; what has no counterpart is told in comments above it",
        ["import litellm config.yaml > aibridge.yaml", "import litellm config.yaml --json | jq .left_out"],
        _PAGE,
    )
    importing.add_argument("file", metavar="FILE", help="the configuration of LiteLLM's proxy")
    add_json(importing)


def _import(options: argparse.Namespace) -> int:
    try:
        text = Path(options.file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{options.file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{options.file}: is not UTF-8 text") from None
    made = litellm.translate(text)
    if options.json:
        text = jsontext.dumps({"left_out": made.left, "configuration": made.config}).decode()
    else:
        text = made.text().rstrip("\n")
    print_lines([text], as_json=True)
    return 0
