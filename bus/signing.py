"""Signing as a sender: the one place where events are numbered, chained and signed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

from bus.attributes import encode_attribute
from bus.errors import PublishDenied
from bus.event import (
    FIRST_PREVIOUS,
    KEY_HEADER,
    SEALED_FOR,
    SIGNATURE_HEADER,
    Draft,
    Event,
)
from bus.identity import Credential
from bus.nkey import AgentKey, encode_base64url
from bus.reference import DATAREF, ObjectReference
from bus.subjects import Subject, parse, subject_for

Clock = Callable[[], datetime]
SCHEMA_PREFIX: Final = "urn:vllm-swarm:event:"


class SubjectPolicy(Protocol):
    """Says what a role may publish; denies what no rule allows."""

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the policy bundle."""
        ...

    def refusal(self, role: str, subject: Subject) -> str | None:
        """Why the role may not publish there, None if it may."""
        ...


Consumption = Literal["work", "read"]


class MemberPolicy(SubjectPolicy, Protocol):
    """Says what a role may read as well."""

    def consumption_refusal(self, role: str, what: Consumption) -> str | None:
        """Why the role may not take assignments, or read every event; None if it may."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainHead:
    """The last event of a chain that is known to be stored."""

    sequence: int = 0
    digest: str = FIRST_PREVIOUS


class Sender:
    """An agent's voice: its key, its credential, the policy it obeys and its chain.

    `sign` does not move the chain; `advance` does, once the outcome is known. One event is
    in flight at a time (bus.log holds the lock), because the next needs its digest.
    """

    def __init__(
        self,
        key: AgentKey,
        credential: Credential,
        policy: SubjectPolicy,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self.key = key
        self.credential = credential
        self._policy = policy
        self._clock = clock
        self.head = ChainHead()

    @property
    def source(self) -> str:
        """The ce-source of this sender's events."""
        return f"swarm://{self.credential.role}/{self.credential.name}"

    def sign(self, draft: Draft) -> Event:
        """Number, chain and sign a draft.

        A payload over 256 KiB is referred to: whoever publishes the event puts the object
        first.

        Raises:
            PublishDenied: the policy does not allow this role to publish there.
            PayloadTooLarge: over 16 MiB.
        """
        subject = subject_for(draft.run, draft.payload.TYPE, *draft.suffix)
        refusal = self._policy.refusal(self.credential.role, parse(subject))
        if refusal is not None:
            raise PublishDenied(f"{self.source} may not publish on {subject}: {refusal}")
        headers = self._attributes(draft)
        data, content = draft.body, None
        opened = None if draft.sealed is None or draft.is_erased else draft.plain
        if draft.needs_object:
            data, content = b"", draft.body
            headers[DATAREF] = str(ObjectReference.to(content, draft.payload.MOST_BYTES))
        event = Event(
            subject=subject,
            headers=headers,
            data=data,
            content=content,
            opened=opened,
            is_erased=draft.is_erased,
        )
        # The signature's own header is not among what it covers.
        headers[SIGNATURE_HEADER] = encode_base64url(self.key.sign(event.signed_bytes))
        return event

    def advance(self, event: Event) -> None:
        """Record that the event is stored, so that the next one follows it."""
        self.head = ChainHead(sequence=event.sequence, digest=event.digest.hex())

    def _attributes(self, draft: Draft) -> dict[str, str]:
        attributes = {
            "ce-specversion": "1.0",
            "ce-id": draft.id,
            "ce-source": self.source,
            "ce-type": draft.payload.TYPE,
            "ce-time": self._clock().isoformat(),
            "ce-datacontenttype": "application/json",
            "ce-dataschema": SCHEMA_PREFIX + draft.payload.TYPE,
            "ce-run": draft.run,
            "ce-sequence": str(self.head.sequence + 1),
            "ce-previous": self.head.digest,
            "ce-policy": self._policy.digest,
            "ce-cause": draft.cause,
            "ce-onbehalfof": draft.on_behalf_of,
            SEALED_FOR: None if draft.sealed is None else draft.about,
            "traceparent": draft.traceparent,
            KEY_HEADER: self.key.public,
        }
        return {name: encode_attribute(value) for name, value in attributes.items() if value}
