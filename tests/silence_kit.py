"""Timeouts for a house whose simulator falls silent: those that are to fire, and no other, however slow the machine."""

SOON = 1.5
"""Seconds: what comes before the silence may be late, too."""

_WHERE = {"stall": "idle", "head_only": "idle", "no_head": "response"}


def silence_of(*faults):
    """Return the timeouts that end these faults; none for those that are not silent."""
    names = [fault.partition("+")[0].partition("@")[0] for fault in faults]
    return {_WHERE[name]: SOON for name in names if name in _WHERE}
