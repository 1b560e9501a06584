"""The configuration: what an operator writes, checked whole before anything starts.

Two ways in. `load` reads a YAML file, with `${NAME}` and `${NAME:-default}` in its values; the file is the whole
truth, and `AIBRIDGE_*` variables count only where the file names them. `from_environment` needs no file at all.
Both tell every mistake at once, one a line, and no text of theirs holds a secret.

Each section of the file has its file here, or shares one: `settings` puts them together, `checks` compares them, and
`mistakes` says what is wrong. The door to pydantic and yaml; no provider, no socket and no clock is known here.

Variables that are read where there is no file:

| variable | sets |
|---|---|
| `ANTHROPIC_API_KEY` | provider `anthropic`; without it `AIBRIDGE_ANTHROPIC_BASE_URL` alone makes one without a key |
| `OPENAI_API_KEY` | provider `openai`; without it `AIBRIDGE_OPENAI_BASE_URL` alone makes one without a key |
| the AWS chain's signs (`AWS_SIGNS`), and `AWS_REGION` or `AWS_DEFAULT_REGION` | provider `bedrock` |
| `AIBRIDGE_ANTHROPIC_BASE_URL`, `AIBRIDGE_BEDROCK_BASE_URL`, `AIBRIDGE_OPENAI_BASE_URL` | their `base_url` |
| `AIBRIDGE_HOST`, `AIBRIDGE_PORT`, `AIBRIDGE_ADMIN_HOST`, `AIBRIDGE_ADMIN_PORT` | `listen`, `admin` |
| `AIBRIDGE_ADMIN_KEYS` | `admin.keys`: `name:key` or `key`, separated by commas |
| `AIBRIDGE_RECORDS` | `records.path`, or `off` |
| `AIBRIDGE_AUTH_MODE` | `auth.mode` |
| `AIBRIDGE_GATEWAY_KEYS` | `auth.keys`: `name:key` or `key`, separated by commas |
| `AIBRIDGE_KEY_STORE` | `auth.key_store.path` |
| `AIBRIDGE_WORKERS`, `AIBRIDGE_DRAIN_DEADLINE` | `workers`, `drain_deadline` |
| `AIBRIDGE_LOG_LEVEL`, `AIBRIDGE_CA_FILE` | `log.level`, `tls.ca_file` |

`ANTHROPIC_BASE_URL` and `OPENAI_BASE_URL` are not read: on a machine whose clients use the gateway they point at the
gateway itself.
"""

from aibridge.config.auth import JWT, ActorHeaders, Auth, AuthMode, FrontProxy, KeyStore
from aibridge.config.changes import changed_keys
from aibridge.config.configuration import Config, describe
from aibridge.config.content import ContentOverrides
from aibridge.config.environment import (
    AWS_SIGNS,
    SIMULATOR_ACCESS_KEY_ID,
    SIMULATOR_API_KEY,
    SIMULATOR_OPENAI_KEY,
    SIMULATOR_REGION,
    SIMULATOR_SECRET_ACCESS_KEY,
    from_environment,
)
from aibridge.config.file import load
from aibridge.config.keys import AdminKey, GatewayKey
from aibridge.config.mcp import ToolServer
from aibridge.config.providers import (
    KINDS,
    AnthropicProvider,
    APIKey,
    BedrockProvider,
    CopilotProvider,
    OpenAIProvider,
    Provider,
)
from aibridge.config.rate_limits import Budget, LimitStore, RateLimit
from aibridge.config.recourse import Fallback
from aibridge.config.routers import Router, RouterPrefix, RouterTarget
from aibridge.config.secret import Secret
from aibridge.config.settings import Settings

__all__ = [
    "AWS_SIGNS",
    "JWT",
    "KINDS",
    "SIMULATOR_ACCESS_KEY_ID",
    "SIMULATOR_API_KEY",
    "SIMULATOR_OPENAI_KEY",
    "SIMULATOR_REGION",
    "SIMULATOR_SECRET_ACCESS_KEY",
    "APIKey",
    "ActorHeaders",
    "AdminKey",
    "AnthropicProvider",
    "Auth",
    "AuthMode",
    "BedrockProvider",
    "Budget",
    "Config",
    "ContentOverrides",
    "CopilotProvider",
    "Fallback",
    "FrontProxy",
    "GatewayKey",
    "KeyStore",
    "LimitStore",
    "OpenAIProvider",
    "Provider",
    "RateLimit",
    "Router",
    "RouterPrefix",
    "RouterTarget",
    "Secret",
    "Settings",
    "ToolServer",
    "changed_keys",
    "describe",
    "from_environment",
    "load",
]
