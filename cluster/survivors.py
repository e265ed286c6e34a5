"""What a recovery must not lose: events of the stream that are written nowhere else.

One file of the home, there from before the stream is deleted until it is whole again. By it a
recovery that was interrupted is known.
"""

import base64
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from bus.refill import Message
from cluster.errors import HomeNotUsable
from cluster.home import Home, own, write_private

_FORM = "swarm-survivors/1"


class Survivors:
    """The file. Its messages have the sequences on which they stood."""

    def __init__(self, home: Home) -> None:
        self._folder = home.root / "recovery"
        self.path = self._folder / "survivors.jsonl"

    @property
    def exist(self) -> bool:
        """Whether a recovery has begun and not ended."""
        return self.path.exists()

    def load(self) -> list[Message]:
        """What was saved; nothing if there is no file.

        Raises:
            HomeNotUsable: it cannot be read.
        """
        try:
            return _parse(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError) as error:
            raise HomeNotUsable(f"Cannot read {self.path}: {error}.") from error

    def save(self, messages: Sequence[Message]) -> None:
        """Replace the file in one step; it is on the disk when this returns.

        Raises:
            HomeNotUsable: it cannot be written.
        """
        text = "\n".join((_FORM, *(_to_line(message) for message in messages)))
        own(self._folder)
        try:
            write_private(self.path, f"{text}\n".encode())
            flush(self._folder)
            flush(self._folder.parent)
        except OSError as error:
            raise HomeNotUsable(f"Cannot write {self.path}: {error}.") from error

    def discard(self) -> None:
        """The stream has them again."""
        self.path.unlink(missing_ok=True)
        flush(self._folder)


def flush(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_all(folder: Path) -> None:
    """Have the disk hold a folder with all that is in it."""
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                flush(Path(place) / name)
        flush(Path(place))


def _parse(text: str) -> list[Message]:
    form, *lines = text.splitlines()
    if form != _FORM:
        raise ValueError(f"its first line is {form[:40]!r}")
    return [_from_line(line) for line in lines]


def _to_line(message: Message) -> str:
    return json.dumps(
        {
            "sequence": message.sequence,
            "subject": message.subject,
            "headers": message.headers,
            "data": base64.b64encode(message.data).decode(),
            "stored_at": message.stored_at.isoformat() if message.stored_at else None,
        }
    )


def _from_line(line: str) -> Message:
    fields = json.loads(line)
    stored_at = fields.get("stored_at")
    return Message(
        sequence=int(fields["sequence"]),
        subject=str(fields["subject"]),
        headers=tuple((str(name), str(value)) for name, value in fields["headers"]),
        data=base64.b64decode(fields["data"]),
        stored_at=datetime.fromisoformat(stored_at) if stored_at else None,
    )
