"""The events that say that something is wrong with the log."""

from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from bus.payload import MAX_PAYLOAD_BYTES, Count, Ordinal, Payload

_MOST_SOURCE_CHARS: Final = 160
"""``swarm://``, a role and a name, each of at most 64 characters."""


class EventRefused(Payload):
    """An event in the log was not acted on; the evidence stays where it is."""

    TYPE: ClassVar[str] = "swarm.event.refused.v1"
    MOST_BYTES: ClassVar[int] = MAX_PAYLOAD_BYTES
    stream_sequence: Ordinal
    subject: str = Field(max_length=512)
    digest: str = Field(description="Hex SHA-256 of the data as received.", max_length=64)
    code: str = Field(max_length=64)
    reason: str = Field(max_length=1_000)


class ChainBroken(Payload):
    """An event does not join what the log has: something was lost, repeated or forked.

    Either the chain of its sender, or, where `cause` says so, the event that it answers.
    """

    TYPE: ClassVar[str] = "swarm.chain.broken.v1"
    sender: str = Field(max_length=_MOST_SOURCE_CHARS)
    key: str = Field(max_length=64)
    expected_sequence: Ordinal
    found_sequence: Ordinal = Field(description="As expected, where the cause is missing.")
    stream_sequence: Ordinal
    cause: str = Field(
        default="",
        description="Id of the event that it answers, if the log does not have that before it.",
        max_length=64,
    )


class MissingEvent(BaseModel):
    """An event that the audit log has and the stream has lost."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stream_sequence: Ordinal
    sender: str = Field(max_length=_MOST_SOURCE_CHARS)
    sequence: Count = Field(description="In the sender's chain; 0 where it had no readable one.")


class LogLost(Payload):
    """The stream lost or changed events that the audit log has."""

    TYPE: ClassVar[str] = "swarm.log.lost.v1"
    count: Ordinal
    first: Ordinal = Field(description="Lowest stream sequence that is missing.")
    last: Ordinal = Field(description="Highest stream sequence that is missing.")
    missing: tuple[MissingEvent, ...] = Field(description="The first of them.", max_length=100)


class WitnessContradicted(Payload):
    """A witness knows another history of the audit log than this one, or forgot this one."""

    TYPE: ClassVar[str] = "swarm.witness.contradicted.v1"
    witness: str = Field(description="Its verifier key.", max_length=512)
    how: Literal["ahead", "branch", "forgot"] = Field(
        description="It cosigned more than there is, another history, or more than it now holds."
    )
    size: Count = Field(description="Leaves of the checkpoint that it was asked to cosign.")
    held: Count = Field(description="Leaves of the one that it says it cosigned last.")
