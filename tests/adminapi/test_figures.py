"""What people are told of providers: nothing of one that another configuration has not."""

import math

from aibridge.adminapi.figures import providers
from aibridge.telemetry.series import Sample


def test_what_is_gone_is_not_told_to_be_down():
    of_pool = {"provider": "one", "state": "valid"}
    samples = [
        Sample("aibridge_mcp_server_up", {"server": "here"}, 1.0),
        Sample("aibridge_mcp_server_up", {"server": "down"}, 0.0),
        Sample("aibridge_mcp_server_up", {"server": "gone"}, math.nan),
        Sample("aibridge_key_pool_keys", of_pool, 2.0),
        Sample("aibridge_key_pool_keys", {**of_pool, "provider": "gone"}, math.nan),
    ]
    told = providers(lambda wanted: [sample for sample in samples if wanted(sample.name.removesuffix("_total"))])
    assert told["tool_servers"] == [{"server": "here", "up": True}, {"server": "down", "up": False}]
    assert told["key_pools"] == [{"metric": "aibridge_key_pool_keys", "labels": of_pool, "value": 2.0}]
