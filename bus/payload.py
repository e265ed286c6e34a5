"""What every payload is, and the words that payloads are made of."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from bus.reference import MAX_OBJECT_BYTES

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
LARGEST: Final = 2**63 - 1
"""What every database can hold; JSON itself has no bound."""
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Ordinal = Annotated[int, Field(ge=1, le=LARGEST)]
EventId = Annotated[str, Field(min_length=1, max_length=64)]
Person = Annotated[str, Field(min_length=1, max_length=128)]
Reason = Annotated[str, Field(max_length=500)]
MAX_PAYLOAD_BYTES: Final = 256 * 1024
"""Of a payload that stands in its event; of a larger one, the event says where it is."""
ERASED: Final = "[erased]"
"""Stands where a text was that nobody can read any more."""


class Usage(BaseModel):
    """Tokens a model read and wrote."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prompt_tokens: Count
    completion_tokens: Count

    def __add__(self, other: "Usage") -> "Usage":
        """Both together, as far as a count goes: agents may say what they like of themselves."""
        return Usage(
            prompt_tokens=min(LARGEST, self.prompt_tokens + other.prompt_tokens),
            completion_tokens=min(LARGEST, self.completion_tokens + other.completion_tokens),
        )


NO_USAGE: Final = Usage(prompt_tokens=0, completion_tokens=0)


class Payload(BaseModel):
    """The typed content of an event."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    TYPE: ClassVar[str] = ""
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {}
    """Fields about a person, sealed on the wire (bus/sealing.py), and what stands in the place
    of each for who has no key."""
    MOST_BYTES: ClassVar[int] = MAX_OBJECT_BYTES
    """Of the payload as JSON. Every reader of the event holds it in memory, at many times the size:
    what any agent may say is as small as it can be."""


class StepPayload(Payload):
    """What names one attempt at one step.

    Iterations count the rounds of a loop, items the parts of a fan-out from 1; an item of 0
    stands for a step that is not fanned out.
    """

    step: Name
    iteration: Ordinal
    attempt: Ordinal
    item: Count = 0
