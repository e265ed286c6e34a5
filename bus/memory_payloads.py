"""What is written to the shared memory, as events; the memory itself is a projection of them.

An item is named by its namespace and its own name. Every write and every delete makes its next
version, from 1; who says which version they saw overwrites nothing that they did not see.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from bus.payload import (
    ERASED,
    MAX_PAYLOAD_BYTES,
    Count,
    EventId,
    Name,
    Ordinal,
    Payload,
    Person,
    Reason,
)
from bus.storable import STORABLE, Metadata

MAX_CONTENT_CHARS: Final = 32_768
MOST_SOURCES: Final = 1_024
"""Of a version: more than a step reads. None may be left out, or a quarantine would miss it."""
MOST_WRITTEN_BYTES: Final = 2 * 1024 * 1024
"""Content, metadata and sources as JSON, each as long as it may be, and sealed."""
LONGEST_LIFE_S: Final = 10 * 365 * 24 * 3600

Namespace = Annotated[
    str,
    Field(min_length=3, max_length=256, pattern=r"^[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64})+$"),
]
"""A path such as ``run/<run>/notes``: ``run``, ``role``, ``user`` or ``shared``, then whose."""
Item = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:-]+$")]
TAKEN: Final = ("items", "export")
"""Not names of new items: in an address they stand for what is in a namespace.

Of older ones they are, and of what a member writes past the gateway: the log is read all the same.
"""


def _free(name: str) -> str:
    if name in TAKEN:
        raise ValueError(f"must not be one of {', '.join(TAKEN)}")
    return name


NewItem = Annotated[Item, AfterValidator(_free)]
Content = Annotated[str, Field(min_length=1, max_length=MAX_CONTENT_CHARS), STORABLE]
Why = Annotated[Reason, STORABLE]
Kind = Literal["session", "episodic", "semantic"]
"""What goes away by itself, what happened, what is so."""
Base = Annotated[
    Count | None,
    Field(description="The version that the writer saw: 0 for none, null for whatever is there."),
]


class ItemReference(BaseModel):
    """A version of an item that something was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    namespace: Namespace
    item: Item
    version: Ordinal

    def __str__(self) -> str:
        return f"{self.namespace}/{self.item}@{self.version}"


class MemoryWritten(Payload):
    """Somebody wants an item to be so."""

    TYPE: ClassVar[str] = "swarm.memory.written.v1"
    MOST_BYTES: ClassVar[int] = MOST_WRITTEN_BYTES
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {
        "content": ERASED,
        "metadata": {},
        "reason": ERASED,
    }
    namespace: Namespace
    item: Item
    kind: Kind
    base: Base = None
    content: Content
    metadata: Metadata = Field(default_factory=dict)
    reason: Why = ""
    step: Name | None = Field(None, description="Of the run, where an agent writes for one.")
    derived_from: tuple[ItemReference, ...] = Field((), max_length=MOST_SOURCES)
    ttl_s: int | None = Field(
        None, gt=0, le=LONGEST_LIFE_S, description="Life, counted from the event's time."
    )


class MemoryDeleted(Payload):
    """Somebody wants an item not to be there any more."""

    TYPE: ClassVar[str] = "swarm.memory.deleted.v1"
    MOST_BYTES: ClassVar[int] = MAX_PAYLOAD_BYTES
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {"reason": ERASED}
    namespace: Namespace
    item: Item
    base: Base = None
    reason: Why = ""


class MemoryRefused(Payload):
    """A write that did not take effect, and why: the memory is as if it had not been asked for."""

    TYPE: ClassVar[str] = "swarm.memory.refused.v1"
    refused: EventId
    code: Literal["conflict", "denied", "expired"]
    namespace: Namespace
    item: Item
    base: Base = None
    version: Count = Field(0, description="That there was instead of `base`.")


class MemoryQuarantined(Payload):
    """What an agent wrote from an event on is hidden, and all that was derived from it."""

    TYPE: ClassVar[str] = "swarm.memory.quarantined.v1"
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {}
    agent: str = Field(description="Role and name.", pattern=r"^[a-z]{1,64}/[A-Za-z0-9_-]{1,64}$")
    since: Ordinal = Field(description="The place in the log from which on.")
    requested_by: Person
    reason: Why = ""


class MemoryReleased(Payload):
    """A quarantine was an error, or what it hid was looked through: it is seen again."""

    TYPE: ClassVar[str] = "swarm.memory.released.v1"
    quarantine: EventId
    requested_by: Person
    reason: Why = ""


MEMORY: Final[tuple[type[Payload], ...]] = (
    MemoryWritten,
    MemoryDeleted,
    MemoryRefused,
    MemoryQuarantined,
    MemoryReleased,
)
