"""Injected tools, and the turns that they make, per API. An API is one file here and a line of this table."""

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

LOOPS: Mapping[str, LoopFactory] = {
    "chat": chat_loop,
    "messages": messages_loop,
    "responses": ResponsesLoops(),
}
"""By the dialect's name."""

__all__ = [
    "LOOPS",
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
]
