"""Reading server-sent events from bytes that may be cut anywhere.

Source: WHATWG HTML, section 9.2.6: what is not ended by an empty line is not an event.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from swarm.errors import GatewayFailed

MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
"""An event has at most 256 KiB of payload; in JSON, six times that at the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One server-sent event."""

    event: str = "message"
    data: str = ""
    id: str = ""


@dataclass(slots=True)
class FrameReader:
    """Collects bytes, hands out whole events. One reader for one connection."""

    _rest: bytes = b""
    _lines: list[str] = field(default_factory=list)
    _collected_bytes: int = 0

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """The events that this chunk completes.

        Raises:
            GatewayFailed: an event without an end.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r").decode("utf-8", "replace")
            self._collected_bytes += len(raw)
            if line:
                self._lines.append(line)
                continue
            yield from _frame(self._lines)
            self._lines, self._collected_bytes = [], 0
        if self._collected_bytes + len(self._rest) > MAX_FRAME_BYTES:
            raise GatewayFailed("The gateway sent an event without an end.")


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
