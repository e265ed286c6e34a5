"""What people use up of the models, asked through the gateway.

Nothing here holds what was asked or answered: who asked is a user id, as in bus/people.py.
What agents use up stands in the events of their steps.
"""

from datetime import date
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AwareDatetime, Field

from bus.payload import Count, Payload
from bus.people import Id

RequestId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]


class ModelUsed(Payload):
    """A model was asked for a person, and used up tokens; one event for each time it was asked."""

    TYPE: ClassVar[str] = "swarm.model.used.v1"
    user: Id
    api_key: Id | None = Field(None, description="The key that it was asked with, by its id.")
    request: RequestId = Field(description="As the caller named it; repeats of it count anew.")
    task: Literal["chat", "completion", "embedding"]
    model: ModelName
    prompt_tokens: Count
    completion_tokens: Count
    outcome: Literal["answered", "abandoned", "failed"] = Field(
        description="Abandoned by who asked, failed by the model; both broke the answer off."
    )
    counted: Literal["engine", "estimate"] = Field(
        description="Whether the model said the numbers, or they are what it may have used."
    )
    asked_at: AwareDatetime = Field(description="The day that it counts for is of this, in UTC.")
    duration_ms: Count


class BudgetReached(Payload):
    """A person was refused for what they had used up that day; one event a day and limit."""

    TYPE: ClassVar[str] = "swarm.budget.reached.v1"
    user: Id
    day: date = Field(description="In UTC.")
    limit: Count = Field(description="Tokens a day.")
    used: Count = Field(description="Tokens of answers that are over.")
    in_work: Count = Field(description="Tokens that answers in work may use up.")


USAGE: Final[tuple[type[Payload], ...]] = (ModelUsed, BudgetReached)
