"""What there is in the memory, as values: no driver is needed to know an item."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from pydantic import JsonValue

from storage.memory_change import MemoryKind, RefusalCode, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryItem:
    """A visible version of an item.

    Attributes:
        place: the sequence in the stream of the event that wrote it; event is its id.
        author: role/name of who signed that.
        subject: the person whom it is about, None for nobody.
        sources: the versions that it was made from.
    """

    tenant: str
    namespace: str
    item: str
    version: int
    kind: MemoryKind
    content: str
    metadata: Mapping[str, JsonValue]
    written_at: datetime
    place: int
    event: str
    author: str
    run: str
    step: str | None
    subject: str | None
    reason: str
    expires_at: datetime | None = None
    sources: tuple[Version, ...] = field(default=())

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a row of `memory`, or anything like it, with its sources as JSON."""
        sources = tuple(
            Version(namespace=namespace, item=item, version=version)
            for namespace, item, version in json.loads(row["sources"])
        )
        fields = {**dict(row), "metadata": json.loads(row["metadata"]), "sources": sources}
        return cls(**fields)

    def to_json(self) -> str:
        """All of it, as `from_json` reads it."""
        return json.dumps(
            {
                **{name: getattr(self, name) for name in self.__slots__},
                "metadata": json.dumps(dict(self.metadata)),
                "sources": json.dumps([[s.namespace, s.item, s.version] for s in self.sources]),
                "written_at": self.written_at.isoformat(),
                "expires_at": None if self.expires_at is None else self.expires_at.isoformat(),
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """What `to_json` gave."""
        fields = json.loads(text)
        expires_at = fields["expires_at"]
        return cls.from_row(
            {
                **fields,
                "written_at": datetime.fromisoformat(fields["written_at"]),
                "expires_at": None if expires_at is None else datetime.fromisoformat(expires_at),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a write, as far as it is known.

    Attributes:
        place: the stream sequence up to which everything was applied.
        is_applied: whether it took effect.
        refusal: why it did not; None also where it was not looked at yet.
        version: with a conflict, the version that there was.
    """

    place: int
    is_applied: bool
    refusal: RefusalCode | None
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where to look: in these namespaces, and in all below them.

    Attributes:
        tenant: whose memory.
        namespaces: such as ``shared`` or ``run/<run>``.
        kinds: which kinds of items; None for any.
    """

    tenant: str
    namespaces: tuple[str, ...]
    kinds: tuple[MemoryKind, ...] | None = None

    @property
    def below(self) -> list[str]:
        """What the names of the namespaces below them begin with."""
        return [f"{namespace}/" for namespace in self.namespaces]


def is_within(namespace: str, scope: Scope) -> bool:
    """Whether a namespace is one of the scope's, or below one."""
    return any(namespace == each or namespace.startswith(f"{each}/") for each in scope.namespaces)
