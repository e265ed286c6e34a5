"""What an agent records of the tools that it uses while it works on a step.

Nothing is decided by these events: they tell how an answer came about.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, JsonValue

from bus.payload import ERASED, MAX_PAYLOAD_BYTES, Count, Ordinal, StepPayload

ToolName = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?$")
]
"""A tool; one of a server's has the server's name before it."""
MAX_MESSAGE_CHARS: Final = 500


class ToolCalled(StepPayload):
    """An agent is about to use a tool, if it may."""

    TYPE: ClassVar[str] = "swarm.tool.called.v1"
    MOST_BYTES: ClassVar[int] = MAX_PAYLOAD_BYTES
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {"arguments": {}}
    epoch: Ordinal
    call: Ordinal = Field(description="Counts the calls of the attempt.")
    tool: ToolName
    arguments: dict[str, JsonValue]


class ToolAnswered(StepPayload):
    """What came of a call; its cause is the call."""

    TYPE: ClassVar[str] = "swarm.tool.answered.v1"
    MOST_BYTES: ClassVar[int] = MAX_PAYLOAD_BYTES
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {"result": None, "digest": "", "message": ERASED}
    epoch: Ordinal
    call: Ordinal
    tool: ToolName
    outcome: Literal["answered", "refused", "failed"] = Field(
        description="Refused: by the policy, and nothing was called."
    )
    result: JsonValue = None
    digest: str = Field("", description="Hex SHA-256 of the result as JSON.", max_length=64)
    code: str = Field("", description="Of the error, where there is one.", max_length=64)
    message: str = Field("", max_length=MAX_MESSAGE_CHARS)
    duration_ms: Count
