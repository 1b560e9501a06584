"""Injected tools, and the turns that they make, per API. An API is its files here and a name in `new_loops`."""

from collections.abc import Mapping

from aibridge.toolloop.base import (
    MAX_TURN_BYTES,
    PREFIX,
    Image,
    LoopFactory,
    Ran,
    Text,
    Tool,
    ToolCall,
    ToolLoop,
    ToolResult,
)
from aibridge.toolloop.chat import chat_loop
from aibridge.toolloop.messages import messages_loop
from aibridge.toolloop.responses import ResponsesLoops


def new_loops() -> Mapping[str, LoopFactory]:
    """Return what makes loops, by the dialect's name. That of Responses remembers what its clients go on with."""
    return {"chat": chat_loop, "messages": messages_loop, "responses": ResponsesLoops()}


__all__ = [
    "MAX_TURN_BYTES",
    "PREFIX",
    "Image",
    "LoopFactory",
    "Ran",
    "Text",
    "Tool",
    "ToolCall",
    "ToolLoop",
    "ToolResult",
    "new_loops",
]
