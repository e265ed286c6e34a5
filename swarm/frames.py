"""Reading server-sent events from bytes that may be cut anywhere.

Source: WHATWG HTML, section 9.2.6: what is not ended by an empty line is not an event.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from swarm.errors import GatewayFailed

MAX_OBJECT_BYTES: Final = 16 * 1024 * 1024
"""Of an event's payload, wherever it is stored (bus/reference.py)."""
MAX_FRAME_BYTES: Final = 6 * MAX_OBJECT_BYTES + 1024 * 1024
"""In JSON, a character takes six at the worst; the rest is for what else an event says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One server-sent event."""

    event: str = "message"
    data: str = ""
    id: str = ""


@dataclass(slots=True)
class FrameReader:
    """Collects bytes, hands out whole events. One reader for one connection."""

    _begun: list[bytes] = field(default_factory=list)
    """The pieces of a line that has no end yet."""
    _lines: list[str] = field(default_factory=list)
    _collected_bytes: int = 0

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """The events that this chunk completes.

        Raises:
            GatewayFailed: an event without an end.
        """
        ends, *others = chunk.split(b"\n")
        self._begin(ends)
        for begins in others:
            line = b"".join(self._begun).removesuffix(b"\r").decode("utf-8", "replace")
            self._begun.clear()
            if line:
                self._lines.append(line)
            else:
                yield from _frame(self._lines)
                self._lines, self._collected_bytes = [], 0
            self._begin(begins)
        if self._collected_bytes > MAX_FRAME_BYTES:
            raise GatewayFailed("The gateway sent an event without an end.")

    def _begin(self, piece: bytes) -> None:
        if piece:
            self._begun.append(piece)
            self._collected_bytes += len(piece)


def _frame(lines: list[str]) -> Iterator[Frame]:
    data: list[str] = []
    values = {"event": "message", "id": ""}
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name in values:
            values[name] = value
    if data:
        yield Frame(event=values["event"], id=values["id"], data="\n".join(data))
