"""The memory as the gateway shows it. What a newer gateway adds is passed over."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

MemoryKind = Literal["session", "episodic", "semantic"]
MetadataValue = str | int | float | bool | None
"""Of metadata, as a search can be narrowed to it."""


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class MemoryVersion(_View):
    """A version of an item that another one was made from."""

    namespace: str
    item: str
    version: int


class MemoryItem(_View):
    """A version of an item, and where it is from.

    `degraded` says that a part of the memory was away: it may not be the last version.
    """

    namespace: str
    item: str
    version: int
    kind: MemoryKind
    content: str
    metadata: dict[str, JsonValue]
    written_at: datetime
    expires_at: datetime | None = None
    author: str
    on_behalf_of: str | None = None
    run: str
    step: str | None = None
    reason: str = ""
    event: str
    derived_from: tuple[MemoryVersion, ...] | None = None
    degraded: bool = False


class FoundItem(_View):
    """An item that was found; scores compare within one answer only."""

    score: float
    item: MemoryItem


class MemorySearch(_View):
    """What was found, the best first; `degraded` if it was searched by words only."""

    found: tuple[FoundItem, ...]
    recall: Literal["hybrid", "keyword"]
    degraded: bool


class Clash(_View):
    """Both sides of a write that was too late."""

    base: int | None
    version: int
    current: MemoryItem | None


class Page(_View):
    """Items in the order of their names."""

    items: tuple[MemoryItem, ...]
    next: str | None = None


class Reindexed(_View):
    """How many items are being indexed anew."""

    items: int


class Standing(_View):
    """Whether an answer says no more than that the write stands in the log."""

    status: str = ""
    event: str = ""
