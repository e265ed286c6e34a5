"""What people write beside a request: short, and of characters that can be shown anywhere."""

import unicodedata
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bus.payloads import Reason

CONTROL: Final = "Cc"
"""Unicode's category of control characters; line breaks are among them."""


def _can_be_shown(text: str) -> str:
    if any(unicodedata.category(character) == CONTROL for character in text):
        raise ValueError("must not contain control characters")
    return text.strip()


Told = Annotated[Reason, AfterValidator(_can_be_shown)]


class Because(BaseModel):
    """Why, in a sentence; may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    reason: Told = ""


def _says_something(reason: str) -> str:
    if not reason:
        raise ValueError("must say something")
    return reason


class BecauseOf(BaseModel):
    """Why, in a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    reason: Annotated[Told, AfterValidator(_says_something)] = Field(
        description="Who asked for the step gets to read it."
    )
