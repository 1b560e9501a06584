"""Metrics of what people and models say: prompts, and tools that models call, the client's and ours.

Above each metric stands its worst case, in the bounds of `counting`.
"""

import math

from aibridge.telemetry.counting import DURATION_BUCKETS, MANY, Counting
from aibridge.telemetry.series import OTHER, Bound, CounterFamily, GaugeFamily, HistogramFamily, Names
from aibridge.values import Interception, Learned, ToolRun, ToolUse, UserPrompt

MAX_TOOL_NAME = 64
"""Characters of a tool's name that its label shows."""


class ContentMetrics(Counting):
    """Counts facts of the content."""

    def __init__(self, models: Names, actors: Names | None) -> None:
        super().__init__(models, actors)
        # MANY + P x M = 10,000 + 3 x 211 = 10,633, and below P x M x C = 9,495 without actors; in use 150.
        self.prompts = CounterFamily(
            "aibridge_prompts",
            "Prompts of users.",
            ("provider", "model", *self._who_labels),
            Bound(MANY, frozenset({"client", "actor"})),
        )
        # MANY + P x M = 10,633: a client chooses the names of its tools; in use 3 x 10 x 20 = 600.
        self.tools = CounterFamily(
            "aibridge_non_injected_tool_selections",
            "Tools of the client that models called.",
            ("provider", "model", "name"),
            Bound(MANY, frozenset({"name"})),
        )
        # MANY + P x M x (servers, say 5) x 9 outcomes = 10,000 + 3 x 211 x 5 x 9 = 38,485, by servers that rename
        # their tools without end; in use 3 x 10 x 20 tools x 2 = 1,200.
        self.injected_tools = CounterFamily(
            "aibridge_injected_tool_invocations",
            "Calls of tools that the gateway offered and ran, by how they ended.",
            ("provider", "model", "server", "name", "outcome"),
            Bound(MANY, frozenset({"name"})),
        )
        # (servers, say 5, and none) x (14 buckets + 3) = 6 x 17 = 102.
        self.tool_duration = HistogramFamily(
            "aibridge_injected_tool_duration_seconds",
            "What such a call took, the wait for its turn included.",
            ("server",),
            DURATION_BUCKETS,
        )
        # Servers whose session all actors share: 5.
        self.tool_servers = GaugeFamily(
            "aibridge_mcp_server_up", "Whether a tool server is there with its tools: 1, else 0.", ("server",)
        )

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:  # noqa: ARG002 - the contract's
        """Count a prompt, a tool that a model called, and one that was run for it."""
        with self._lock:
            model = self._models.label(interception.model)
            if isinstance(fact, UserPrompt):
                self.prompts.child(interception.provider, model, *self._who(interception)).value += 1
            elif isinstance(fact, ToolUse):
                name = fact.name[:MAX_TOOL_NAME].encode("utf-8", "replace").decode()
                self.tools.child(interception.provider, model, name).value += 1
            elif isinstance(fact, ToolRun):
                self._tool_ran(interception.provider, model, fact)

    def _tool_ran(self, provider: str, model: str, run: ToolRun) -> None:
        server = run.server or OTHER
        # A name that no server has is the model's invention.
        name = run.use.name if run.server else OTHER
        self.injected_tools.child(provider, model, server, name, run.outcome).value += 1
        if run.outcome != "not_run":
            self.tool_duration.child(server).observe(run.latency)

    def tool_server_is(self, server: str, up: bool) -> None:  # noqa: FBT001 - it is what is told
        """Show whether a tool server is up."""
        self.tool_servers.child(server).value = float(up)

    def tool_server_gone(self, server: str) -> None:
        """Show that a tool server is no longer one: neither up nor down."""
        self.tool_servers.child(server).value = math.nan
