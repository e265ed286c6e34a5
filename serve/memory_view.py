"""The memory over HTTP: what is asked, and how an item looks."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from actors.memory_question import MAX_TEXT_CHARS, MOST_FOUND, MOST_NAMESPACES, Scoped
from bus.memory_payloads import (
    LONGEST_LIFE_S,
    MOST_SOURCES,
    Base,
    Content,
    ItemReference,
    Kind,
    MemoryWritten,
    Namespace,
    NewItem,
    Why,
)
from bus.storable import STORABLE, Metadata
from storage.memory_filter import UNFILTERED, MemoryFilters
from storage.memory_item import MemoryItem

Found = Annotated[float, Field(description="Compares within one answer only.")]


class ItemWrite(BaseModel):
    """What an item shall be."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    content: Content
    kind: Kind = Field(
        "semantic", description="What is so, what happened, or what goes away by itself."
    )
    base: Base = None
    metadata: Metadata = Field(default_factory=dict)
    reason: Why = Field("", description="Why; it stands in the log.")
    ttl_s: int | None = Field(
        None, gt=0, le=LONGEST_LIFE_S, description="Life in seconds; a session item needs one."
    )
    derived_from: tuple[ItemReference, ...] = Field(
        (), max_length=MOST_SOURCES, description="The versions that it was made from."
    )

    @model_validator(mode="after")
    def _sessions_end(self) -> Self:
        if self.kind == "session" and self.ttl_s is None:
            raise ValueError("an item of the kind session needs ttl_s")
        return self

    def payload(self, namespace: Namespace, item: NewItem, base: int | None) -> MemoryWritten:
        """As it goes into the log."""
        return MemoryWritten(
            namespace=namespace,
            item=item,
            kind=self.kind,
            base=base,
            content=self.content,
            metadata=self.metadata,
            reason=self.reason,
            ttl_s=self.ttl_s,
            derived_from=self.derived_from,
        )


class ItemView(BaseModel):
    """A version of an item, and where it is from."""

    model_config = ConfigDict(frozen=True)
    namespace: str
    item: str
    version: int
    kind: Kind
    content: str
    metadata: dict[str, JsonValue]
    written_at: datetime
    expires_at: datetime | None
    author: str = Field(description="Role and name of who signed the event.")
    on_behalf_of: str | None = Field(description="The id of the user whom it is from.")
    run: str
    step: str | None
    reason: str
    event: str = Field(description="The id of the event that wrote it.")
    derived_from: tuple[ItemReference, ...] | None = Field(
        None, description="The versions that it was made from; left out in lists."
    )
    degraded: bool = Field(
        default=False, description="Whether a part of the memory was away: it may not be the last."
    )


class PendingWrite(BaseModel):
    """The write stands in the log, and takes effect, or is refused, later."""

    model_config = ConfigDict(frozen=True)
    status: Literal["pending"] = "pending"
    event: str = Field(description="The id of the event that asked for it.")


class Clash(BaseModel):
    """Both sides of a write that was too late."""

    model_config = ConfigDict(frozen=True)
    base: int | None = Field(description="The version that the writer saw; 0 for none.")
    version: int = Field(description="The one that there was instead; 0 for none.")
    current: ItemView | None = Field(description="The item as it is now; null if it is gone.")


class ItemList(BaseModel):
    """Items in the order of their names."""

    model_config = ConfigDict(frozen=True)
    items: tuple[ItemView, ...]
    next: str | None = Field(None, description="`after` of the next page; null at the end.")


class SearchRequest(BaseModel):
    """What is looked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    query: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS), STORABLE]
    namespaces: tuple[Scoped, ...] | None = Field(
        None,
        min_length=1,
        max_length=MOST_NAMESPACES,
        description="Where, and below; left out: your own, shared and all roles. Runs by name.",
    )
    kinds: tuple[Kind, ...] = Field((), max_length=3, description="Left out: not of sessions.")
    filters: MemoryFilters = UNFILTERED
    limit: int = Field(10, ge=1, le=MOST_FOUND)


class FoundItem(BaseModel):
    """An item that was found, and how well it fits."""

    model_config = ConfigDict(frozen=True)
    score: Found
    item: ItemView


class SearchResult(BaseModel):
    """What was found, the best first."""

    model_config = ConfigDict(frozen=True)
    found: tuple[FoundItem, ...]
    recall: Literal["hybrid", "keyword"]
    degraded: bool = Field(description="Whether it was searched by words only.")


class Reindexed(BaseModel):
    """The vector index and the sessions are being made anew."""

    model_config = ConfigDict(frozen=True)
    items: int


def view_item(item: MemoryItem, *, degraded: bool = False, in_list: bool = False) -> ItemView:
    """How an item looks."""
    sources = tuple(
        ItemReference(namespace=each.namespace, item=each.item, version=each.version)
        for each in item.sources
    )
    return ItemView(
        namespace=item.namespace,
        item=item.item,
        version=item.version,
        kind=item.kind,
        content=item.content,
        metadata=dict(item.metadata),
        written_at=item.written_at,
        expires_at=item.expires_at,
        author=item.author,
        on_behalf_of=item.subject,
        run=item.run,
        step=item.step,
        reason=item.reason,
        event=item.event,
        derived_from=None if in_list else sources,
        degraded=degraded,
    )
