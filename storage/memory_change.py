"""What an event of the audit log changes in the memory.

How it is read out of the event stands in actors/memory_events.py, and what becomes of it in
storage/memory_projection.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import JsonValue

MemoryKind = Literal["session", "episodic", "semantic"]
RefusalCode = Literal["conflict", "denied", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The event behind a change.

    Attributes:
        event: its id.
        place: its sequence in the stream.
        stored_at: when the stream stored it.
        author: role/name of who signed it.
        author_key: the key it was signed with.
        run: the run that it was published on.
        tenant: whose memory it is about.
        subject: the person whom it says something about, who may have it erased.
    """

    event: str
    place: int
    stored_at: datetime
    author: str
    author_key: str
    run: str
    tenant: str
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of an item, by name."""

    namespace: str
    item: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """An item gets its next version, unless the writer saw another than there is.

    Attributes:
        base: the version that the writer saw; 0 for none, None for whatever is there.
        content: None deletes the item, or stands where nobody can read it any more.
        is_deletion: which of the two.
        expires_at: when it goes away by itself.
    """

    cause: Cause
    namespace: str
    item: str
    kind: MemoryKind = "semantic"
    base: int | None = None
    content: str | None = None
    is_deletion: bool = False
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    reason: str = ""
    step: str | None = None
    sources: tuple[Version, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """A write that the policy does not allow."""

    cause: Cause
    namespace: str
    item: str
    base: int | None = None
    code: RefusalCode = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """What an agent wrote from a place on is hidden, and all that was derived from it."""

    cause: Cause
    agent: str
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A quarantine ends."""

    cause: Cause
    quarantine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Nothing is kept of what was written about a person."""

    cause: Cause
    person: str


MemoryChange: TypeAlias = Write | Deny | Quarantine | Release | Forget
