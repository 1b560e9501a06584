"""Draws the lifecycle of an answer from `aibridge.lifecycle.TRANSITIONS` into docs/architecture.md.

`python docs/lifecycle.py` prints it; with `--write` it goes between the page's marks. `make docs` does that, and a test
compares: the page cannot say anything else than the table.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from aibridge.lifecycle import TERMINATION_OF, TRANSITIONS, Cause, Signal, State, Termination

PAGE = Path(__file__).with_name("architecture.md")
BEGIN = "<!-- lifecycle: begin (drawn by `make docs`) -->\n"
END = "<!-- lifecycle: end -->\n"
STATES = [state for state in State if state is not State.ENDED]


def drawing() -> str:
    """Return the diagram and the table, in Markdown."""
    return f"\n```mermaid\n{''.join(diagram())}```\n\n{''.join(table())}\n"


def diagram() -> Iterator[str]:
    """Yield a Mermaid state diagram: the moves between states, and for each state how it may end."""
    yield "stateDiagram-v2\n"
    yield f"    [*] --> {STATES[0].name}\n"
    for state in STATES:
        for target in STATES:
            signals = [
                signal for signal in Signal if target is not state and TRANSITIONS[state, signal].state is target
            ]
            if signals:
                yield f"    {state.name} --> {target.name} : {' / '.join(signal.name for signal in signals)}\n"
        for termination in Termination:
            causes = [cause for cause in causes_of(state) if TERMINATION_OF[cause] is termination]
            if causes:
                yield f"    {state.name} --> {termination.name} : {' / '.join(causes)}\n"
    for termination in Termination:
        yield f"    {termination.name} --> [*]\n"


def causes_of(state: State) -> list[Cause]:
    """Return how a state may end, in the order of `Cause`; a bug, which may end each, included."""
    found = {step.cause for (origin, _), step in TRANSITIONS.items() if origin is state}
    return [cause for cause in Cause if cause in found]


def table() -> Iterator[str]:
    """Yield the whole table: rows are signals, columns are states."""
    yield f"| signal | {' | '.join(state.name for state in STATES)} |\n"
    yield f"|---|{'---|' * len(STATES)}\n"
    for signal in Signal:
        yield f"| {signal.name} | {' | '.join(cell(state, signal) for state in STATES)} |\n"


def cell(state: State, signal: Signal) -> str:
    """Return what a signal means in a state."""
    target, cause = TRANSITIONS[state, signal]
    if cause is Cause.INTERNAL and signal is not Signal.BUG:
        return "·"
    if cause is not None:
        return f"**{cause}**"
    return "stays" if target is state else f"→ {target.name}"


def drawn_into(page: str) -> str:
    """Return the page with the drawing between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        sys.exit(f"{PAGE}: the marks of the lifecycle are missing")
    return before + BEGIN + drawing() + END + after


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(drawn_into(PAGE.read_text()))
    else:
        sys.stdout.write(drawing())
