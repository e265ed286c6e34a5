"""What a search of the memory may be narrowed to, besides where to look."""

import json
from datetime import UTC, datetime
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    model_validator,
)

from bus.payload import Name
from bus.storable import MAX_METADATA_CHARS, STORABLE

MOST_KEYS: Final = 8
MAX_KEY_CHARS: Final = 256
MAX_VALUE_CHARS: Final = 1_024


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be of the years 1 to 9999 in UTC") from error


def _small(metadata: "dict[str, Value]") -> "dict[str, Value]":
    if len(json.dumps(metadata)) > MAX_METADATA_CHARS:
        raise ValueError(f"must have at most {MAX_METADATA_CHARS:,} characters as JSON")
    return metadata


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]
Value = bool | int | FiniteFloat | Annotated[str, Field(max_length=MAX_VALUE_CHARS)] | None
"""Of metadata: what is equal or not. Of a list or an object it could mean many things."""
Wanted = Annotated[
    dict[Annotated[str, Field(max_length=MAX_KEY_CHARS)], Value],
    Field(max_length=MOST_KEYS),
    STORABLE,
    AfterValidator(_small),
]


class MemoryFilters(BaseModel):
    """What an item must be like, as it is now; all of it at once, and nothing where none is set."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    author: str | None = Field(
        None,
        description="Role and name of who wrote it.",
        pattern=r"^[a-z]{1,64}/[A-Za-z0-9_-]{1,64}$",
    )
    run: Name | None = Field(None, description="The run in which it was written.")
    since: Moment | None = Field(None, description="Written then or later.")
    before: Moment | None = Field(None, description="Written earlier.")
    metadata: Wanted = Field(default_factory=dict, description="These keys, with these values.")

    @model_validator(mode="after")
    def _times_are_in_order(self) -> Self:
        if self.since is not None and self.before is not None and self.since >= self.before:
            raise ValueError("since must be earlier than before")
        return self

    @property
    def is_set(self) -> bool:
        """Whether anything is asked for."""
        return self != UNFILTERED


UNFILTERED: Final = MemoryFilters()
