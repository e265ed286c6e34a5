"""The receipt of a model's answer: who gave it, and how it was asked for.

What the digests are taken of stands in docs/evidence.md, so that somebody else can take them.
"""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from bus.payload import Ordinal

NAME_CHARS: Final = 64
"""Of an engine, its version, a provider: what is longer is cut off."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Unknown = Annotated[str, Field(max_length=0)]
Label = Annotated[str, Field(max_length=NAME_CHARS)]


class Receipt(BaseModel):
    """Which engine answered, with which weights, sampled how. Nothing personal is in it.

    The model's name and the counts of tokens stand beside it in the event.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    engine: Label = Field(description="Empty where whoever answered did not say.")
    version: Label = Field(description="Of the engine, or what a provider calls its own.")
    weights: Sha256 | Unknown = Field(description="Hex SHA-256; empty where it is not known.")
    temperature: float
    seed: int
    max_tokens: Ordinal
    answer_schema: Sha256 | Unknown = Field(description="Hex SHA-256; empty for none.")
    provider: Label = Field("", description="Who answered in place of the swarm's own engine.")


class Digests(BaseModel):
    """Of what was said to the model and by it: hex SHA-256.

    They are personal, as that is: who guesses a text could see by its digest that the guess is
    right, also after the text was erased.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    prompt: Sha256
    answer: Sha256
