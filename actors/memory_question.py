"""A question to the memory, signed so that the policy can be held to it, and the answer.

Reading leaves no event behind, and goes by a Ray call. That a question comes from whom it names
is shown as with an event: by the key that the authority vouched for.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from actors.errors import QuestionRefused
from bus.errors import BadSignature, IdentityError
from bus.event import pre_authentication_encoding
from bus.memory_payloads import Item, Kind
from bus.nkey import AgentKey, verify_signature
from bus.payload import Name
from bus.payloads import Recall
from bus.storable import STORABLE
from storage.memory_filter import UNFILTERED, MemoryFilters
from storage.memory_item import MemoryItem

DOMAIN: Final = b"vllm-swarm/memory-question/v1"
MOST_FOUND: Final = 100
MOST_NAMESPACES: Final = 64
MAX_TEXT_CHARS: Final = 16_384
FRESH: Final = timedelta(seconds=60)
"""How far the clocks of two machines may be apart, and how long a question may travel."""

Scoped = Annotated[
    str, Field(max_length=256, pattern=r"^[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64})*$")
]
"""A namespace, or the beginning of some."""
Behind = Annotated[str, Field(max_length=256), STORABLE]


class Question(BaseModel):
    """What is looked for.

    Attributes:
        text: items that are about it are looked for; empty to read `item`.
        namespaces: where, and in all below them.
        run: for which it is asked; its tenant is the one whose memory is read.
        item: the one to read, of the only namespace.
        after: of a list, which goes by name: namespace and item before its first; None where
            none is asked for.
        kinds: of which kinds; none for all that are searched.
        filters: what else the items must be like.
        limit: most items of an answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    text: str = Field("", max_length=MAX_TEXT_CHARS)
    namespaces: tuple[Scoped, ...] = Field(min_length=1, max_length=MOST_NAMESPACES)
    run: Name
    item: Item | None = None
    after: tuple[Behind, Behind] | None = None
    kinds: tuple[Kind, ...] = ()
    filters: MemoryFilters = UNFILTERED
    limit: int = Field(10, ge=1, le=MOST_FOUND)
    asked_at: AwareDatetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedQuestion:
    """A question as it is sent: its JSON, and who signed that."""

    body: bytes
    public_key: str
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An item that was found, and how well it fits; scores compare within one answer only."""

    item: MemoryItem
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a search came to.

    Attributes:
        found: the best first.
        recall: how it was searched; "keyword" where the index or the model was away.
        next: of a list, `after` of what follows; None at its end.
    """

    found: tuple[Found, ...] = ()
    recall: Recall = "hybrid"
    next: tuple[str, str] | None = None


def signed(question: Question, key: AgentKey) -> SignedQuestion:
    """The question under a member's key."""
    body = question.model_dump_json().encode()
    signature = key.sign(pre_authentication_encoding(DOMAIN, body))
    return SignedQuestion(body=body, public_key=key.public, signature=signature)


def opened(sent: SignedQuestion, *, now: datetime) -> Question:
    """The question, once it is known to be of the key's holder and of this moment.

    Raises:
        QuestionRefused: it is not, or cannot be read.
    """
    message = pre_authentication_encoding(DOMAIN, sent.body)
    try:
        verify_signature(sent.public_key, message, sent.signature)
        question = Question.model_validate_json(sent.body)
    except (BadSignature, IdentityError, ValidationError) as error:
        raise QuestionRefused(f"the question of {sent.public_key[:64]} is not as signed") from error
    if abs(now - question.asked_at) > FRESH:
        raise QuestionRefused(f"the question of {sent.public_key[:64]} is of another time")
    return question
