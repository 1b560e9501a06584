"""What brings a store of an older version to the present one."""

from aibridge.stores.base import BROWSED_INDEX, ENDED_INDEX, OPEN_INDEX

_ADDED_IN_3 = ("session_id", "correlating_tool_call_id", "thread_parent_id", "thread_root_id")
_ID_3, _TIME_3 = "interception_id TEXT", "DOUBLE PRECISION"
_HEAD_3 = f"{_ID_3}, number BIGINT, created_at {_TIME_3}, message_id TEXT"
_KEY_3 = "PRIMARY KEY (interception_id, number)"

_COUNTS_4 = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_ADDED_TO_TOOLS_IN_5 = (
    "server TEXT", f"latency {_TIME_3}", "error TEXT", "arguments_bytes BIGINT", "result_bytes BIGINT",
)  # fmt: skip
_ADDED_TO_ATTEMPTS_IN_7 = ("provider", "provider_kind", "upstream_model", "credential_kind", "credential_hint")

MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE interceptions ADD COLUMN journal TEXT",
        OPEN_INDEX,
        "CREATE TABLE journals (name TEXT, position BIGINT, PRIMARY KEY (name))",
    ),
    2: (
        *(f"ALTER TABLE interceptions ADD COLUMN {name} TEXT" for name in _ADDED_IN_3),
        "CREATE INDEX interceptions_session_id ON interceptions (session_id)",
        "CREATE INDEX interceptions_thread_root_id ON interceptions (thread_root_id)",
        f"CREATE TABLE user_prompts ({_ID_3}, created_at {_TIME_3}, prompt TEXT, PRIMARY KEY (interception_id))",
        f"CREATE TABLE tool_usages ({_HEAD_3}, tool_call_id TEXT, tool TEXT, arguments TEXT, {_KEY_3})",
        "CREATE INDEX tool_usages_tool_call_id_created_at ON tool_usages (tool_call_id, created_at)",
        f"CREATE TABLE model_thoughts ({_HEAD_3}, source TEXT, thought TEXT, {_KEY_3})",
    ),
    3: tuple(f"ALTER TABLE {name} ADD COLUMN note TEXT" for name in ("interceptions", "attempts")),
    4: (
        *(f"ALTER TABLE attempts ADD COLUMN {name} TEXT" for name in ("message_id", "usage_source")),
        *(f"ALTER TABLE attempts ADD COLUMN {name} BIGINT" for name in _COUNTS_4),
        *(f"ALTER TABLE tool_usages ADD COLUMN {name}" for name in _ADDED_TO_TOOLS_IN_5),
    ),
    5: (
        *(f"ALTER TABLE token_usages ADD COLUMN {name} TEXT" for name in ("service_tier", "region", "turns")),
        "ALTER TABLE token_usages ADD COLUMN cost_nanodollars BIGINT",
        *(f"ALTER TABLE token_usages ADD COLUMN {name} TEXT" for name in ("price_version", "unpriced")),
    ),
    6: (
        *(f"ALTER TABLE interceptions ADD COLUMN answered_{name} TEXT" for name in ("by", "kind", "model")),
        *(f"ALTER TABLE attempts ADD COLUMN {name} TEXT" for name in _ADDED_TO_ATTEMPTS_IN_7),
    ),
    7: ("DROP INDEX interceptions_started_at", BROWSED_INDEX, ENDED_INDEX),
}
"""The statements that bring a store from version n to n + 1. Written out: `TABLES` goes on, what they did does not."""
