"""What all metrics are made with: one lock, and the names from outside that become labels.

Series are summed up with these bounds: P providers (as configured, say 3), M models (those that the configuration
names, `max_models` others, and `other`: say 211; 10 in use), R routes that are intercepted at a provider (at most 3:
of OpenAI's APIs two and `compact`, of Copilot's three), H methods (1: POST), C clients (15: `callers.CLIENT_NAMES`;
say 5 in use), X causes (27; say 6 in use). A cause has one termination, and a termination one status, so that those two
labels multiply nothing. Worst cases are what hostile clients could reach, in use is what to expect;
`metrics.max_models` is the bound to lower.

Where the product is large the metric has a bound of its own: past `MANY` series what is new there shares one series
for all clients, actors or tools, so that the worst case is that bound and the product without them. So it is no worse
with `metrics.actor_label`; in use that multiplies by the actors that are active.
"""

import threading
from typing import Any

from aibridge.telemetry.series import Family, Names
from aibridge.values import Interception

MANY = 10_000
"""Series of one metric, before those of new clients, actors or tools are summed up."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
"""Of HTTP, which are labels; what a client invents is `other`."""
# The predecessor's dashboards keep working: 0.5, 2, 5, 15, 30, 60 and 120 are there, others between and beyond.
DURATION_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800)


class Counting:
    """Some of the metrics: families, which are its attributes, and what counts in them.

    Args:
        models: names of models that are labels.
        actors: ids of actors that are; None where they are not told apart.
    """

    def __init__(self, models: Names, actors: Names | None) -> None:
        self._lock = threading.Lock()
        self._models = models
        self._actors = actors
        self._who_labels = ("client",) if actors is None else ("client", "actor")

    def families(self) -> dict[str, Family[Any]]:
        """Return all families by the names of their attributes."""
        return {name: family for name, family in vars(self).items() if isinstance(family, Family)}

    def _who(self, interception: Interception) -> tuple[str, ...]:
        if self._actors is None:
            return (interception.client,)
        return (interception.client, self._actors.label(interception.actor.id))
