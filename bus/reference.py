"""What an event says in place of a payload that is too large for it: the claim check.

The attribute is CloudEvents' ``dataref`` extension, inside the signature:

    ce-dataref: swarm-object:sha256:<hex>:<bytes>

The bytes stand in the stream OBJECTS, cut in chunks, on subjects that only the key which
signs the event may publish on, so that nobody else can take their place:

    obj.<run>.<key>.<sha256 hex>.<chunk number>
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from bus.errors import MalformedEvent, ObjectMismatch, PayloadTooLarge
from bus.subjects import run_filter

OBJECTS: Final = "OBJECTS"
"""The stream that holds them, in the account of the log."""
ALL_OBJECTS: Final = "obj.>"
CHUNK_BYTES: Final = 128 * 1024
"""An eighth of what the broker takes as one message."""
MAX_OBJECT_BYTES: Final = 16 * 1024 * 1024
"""Every reader of the event holds them in memory, several at a time."""
DATAREF: Final = "ce-dataref"
_FORM = re.compile(r"swarm-object:sha256:([0-9a-f]{64}):([1-9][0-9]{0,17})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReference:
    """The digest and size of the bytes that are a payload."""

    digest: str
    """Hex SHA-256."""
    size: int
    """Bytes, at most `MAX_OBJECT_BYTES`."""

    @classmethod
    def to(cls, content: bytes, most_bytes: int = MAX_OBJECT_BYTES) -> "ObjectReference":
        """Refer to these bytes.

        Raises:
            PayloadTooLarge: more than an object may have.
        """
        if len(content) > most_bytes:
            raise PayloadTooLarge(
                f"a payload of {len(content)} bytes is over the limit of {most_bytes}"
            )
        return cls(digest=hashlib.sha256(content).hexdigest(), size=len(content))

    @classmethod
    def parse(cls, text: str, most_bytes: int = MAX_OBJECT_BYTES) -> "ObjectReference":
        """Read the attribute.

        Raises:
            MalformedEvent: no sender of ours writes it so, or the object would be too large.
        """
        match = _FORM.match(text)
        if match is None:
            raise MalformedEvent(f"dataref {text[:120]!r} does not name an object")
        size = int(match[2])
        if size > most_bytes:
            raise MalformedEvent(
                f"dataref names an object of {size} bytes; the limit is {most_bytes}"
            )
        return cls(digest=match[1], size=size)

    def __str__(self) -> str:
        return f"swarm-object:sha256:{self.digest}:{self.size}"

    @property
    def chunk_sizes(self) -> tuple[int, ...]:
        """Bytes of each chunk: all full but the last."""
        full, rest = divmod(self.size, CHUNK_BYTES)
        return (CHUNK_BYTES,) * full + ((rest,) if rest else ())

    def check(self, content: bytes) -> None:
        """Accept the bytes that this refers to, and no others.

        Raises:
            ObjectMismatch: they have another size or digest.
        """
        if len(content) != self.size:
            raise ObjectMismatch(f"the object of {self.size} bytes has {len(content)}")
        found = hashlib.sha256(content).hexdigest()
        if found != self.digest:
            raise ObjectMismatch(f"the object {self.digest} has the digest {found}")


def chunk_subject(run: str, key: str, digest: str, number: int) -> str:
    """Where a chunk stands, counted from 0."""
    return f"obj.{run}.{key}.{digest}.{number}"


def objects_filter(run: str) -> str:
    """The filter that matches every chunk of one run.

    Raises:
        SubjectMismatch: the run is not a token.
    """
    run_filter(run)
    return f"obj.{run}.>"
