"""The port through which an agent asks a model.

An agent knows this protocol only. Whether vLLM or the scripted engine answers,
and where it runs, is decided where the swarm is put together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, runtime_checkable

from pydantic import JsonValue

from actors.errors import ModelAsked


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of the conversation that a model continues."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What computed an answer; each is empty where it is not known."""

    name: str = ""
    version: str = ""
    weights: str = ""
    """Hex SHA-256 of the weights, as serve/weights_digest.py takes it."""


UNKNOWN: Final = Engine()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A model's whole answer."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    model: str
    """The name under which the model is served."""
    truncated: bool = False
    """Whether the answer ran into `max_tokens`; JSON is then cut off."""
    engine: Engine = UNKNOWN
    provider: str = ""
    """Who answered in place of the swarm's own engine; empty if that did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What a model is asked.

    Attributes:
        messages: the conversation, oldest first; at least one.
        schema: a JSON schema that the answer's text then follows, unless it is truncated.
        max_tokens: tokens after which the answer is cut off.
        temperature: 0 takes the likeliest token each time.
        seed: starting point of the sampling.
        deadline_s: seconds for everything, waiting for a free model included.
    """

    messages: Sequence[Message]
    schema: Mapping[str, JsonValue] | None
    max_tokens: int
    temperature: float
    seed: int
    deadline_s: float


class Model(Protocol):
    """Something that answers a conversation.

    Each call stands alone: nothing is remembered between calls, and calls may run side by side.
    The same request may give another text. A call that fails has no effect, so it may be
    repeated where its error says `retryable`.
    """

    async def connect(self) -> None:
        """Get ready, so that the first answer takes no longer than the others.

        Raises:
            serve.errors.ModelUnavailable: No model is there to be asked, for now.
        """
        ...

    async def complete(self, request: ModelRequest) -> Completion:
        """Continue the conversation.

        Cancelling the call, or passing its deadline, stops the model's work on it.

        Raises:
            serve.errors.ModelUnavailable: No model answered, for now.
            serve.errors.ModelRefused: The request is at fault.
            serve.errors.ModelTimeout: The deadline passed.
        """
        ...


@runtime_checkable
class WithFallback(Protocol):
    """A model behind which another one stands, elsewhere.

    No prompt goes there of who was not permitted.
    """

    def permitted(self, may_ask: Callable[[str], bool]) -> Model:
        """The same for somebody who may ask the models of these names in its place."""
        ...


class RaisingModel:
    """Stands where nobody may ask: every call raises."""

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def complete(self, request: ModelRequest) -> Completion:  # noqa: ARG002 - the port has it
        """Refuse.

        Raises:
            ModelAsked: always.
        """
        raise ModelAsked
