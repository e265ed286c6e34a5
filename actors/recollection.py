"""Putting what was recalled into a prompt, as much as there is room for. Pure."""

from collections.abc import Sequence
from typing import Final

from storage.memory_item import MemoryItem

BUDGET_BYTES: Final = 1_500
"""Of a prompt; a token covers at least one byte."""
LEAST_BYTES: Final = 80
"""Of one item; with less of it nobody knows what it is about."""
_CUT: Final = "..."


def recollection(items: Sequence[MemoryItem], budget_bytes: int = BUDGET_BYTES) -> str:
    """The items as text, the best first, each under the name by which it can be cited.

    Args:
        items: in the order in which they fit.
        budget_bytes: most that the text takes as UTF-8. Each item gets an equal part of what the
            ones before it left; those for which too little is left are left out.
    """
    blocks: list[str] = []
    left = budget_bytes
    for at, item in enumerate(items):
        title = f"[{item.namespace}/{item.item}@{item.version}]\n"
        room = left // (len(items) - at) - len(title.encode()) - 2
        if room < LEAST_BYTES:
            continue
        block = title + _cut(item.content.strip(), room)
        blocks.append(block)
        left -= len(block.encode()) + 2
    return "\n\n".join(blocks)


def _cut(text: str, room_bytes: int) -> str:
    encoded = text.encode()
    if len(encoded) <= room_bytes:
        return text
    kept = encoded[: room_bytes - len(_CUT)].decode(errors="ignore")
    return kept.rstrip() + _CUT
