"""What a model is told of the tools that it may call. Pure.

Who wrote of a tool knew nothing of the room in a prompt, or wanted to fill it: a step whose prompt
has no room for its texts is not worked on. So all of it takes a third of the prompt at most. Each
tool's line is cut first, then tools are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue
from pydantic_core import to_json

from actors.prompt import PROMPT_BYTES, harmless
from actors.tool import Tool

MOST_BYTES: Final = PROMPT_BYTES // 3
"""Of all of it; instructions of a person may have as much."""
_LINE_BYTES: Final = (400, 200, 100)
"""Of a tool besides its name; the first of these with which all have room, else the last."""
_HEAD: Final = (
    'To call a tool, write {"call": its name, "arguments": {...}}. These are the tools:\n'
)
_TAIL: Final = '\n\nTo answer, write {"answer": {...}}.'
_CUT: Final = "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What is told, of which tools."""

    text: str
    tools: tuple[Tool, ...]
    left_out: tuple[str, ...]
    """Names of those that there is no room for: the last ones."""


def introduce(tools: Sequence[Tool]) -> Introduction:
    """As many of the tools as have room, and what a model is told of them."""
    room = MOST_BYTES - len((_HEAD + _TAIL).encode())
    lines: list[str] = []
    for limit_bytes in _LINE_BYTES:
        lines = [_line(tool, limit_bytes) for tool in tools]
        if _size(lines) <= room:
            break
    while _size(lines) > room:
        lines.pop()
    return Introduction(
        text=_HEAD + "\n".join(lines) + _TAIL if lines else "",
        tools=tuple(tools[: len(lines)]),
        left_out=tuple(tool.name for tool in tools[len(lines) :]),
    )


def _size(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _line(tool: Tool, limit_bytes: int) -> str:
    description = _cut(harmless(tool.description[:limit_bytes]), limit_bytes // 2)
    arguments = harmless(to_json(_fields(tool.schema)).decode()[:limit_bytes])
    return f"- {tool.name}: " + _cut(f"{description} Arguments: {arguments}", limit_bytes)


def _fields(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {
        name: each.get("description") or each.get("type", "any")
        for name, each in properties.items()
        if isinstance(each, dict)
    }


def _cut(text: str, limit_bytes: int) -> str:
    encoded = text.encode()
    if len(encoded) <= limit_bytes:
        return text
    return encoded[: limit_bytes - len(_CUT)].decode(errors="ignore") + _CUT
