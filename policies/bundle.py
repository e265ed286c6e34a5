"""The policy bundle: what people write in YAML, and the values that it is read into. Pure.

Everything is denied that is not said: a list that is left out is empty, a limit that is left
out is 0. The lists are sets; they are kept sorted, so that the order in which they were
written makes no other policy.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
)
from pydantic_core import ErrorDetails

from policies.errors import PolicyNotUsable
from policies.source import Source

UNLIMITED: Final = "unlimited"
ANY: Final = "*"
_MAX_LIMIT: Final = 2**53
"""Whole numbers below it are the same to every reader of JSON."""
_TOLD: Final = 10
"""Problems of one bundle that are told at once."""


def _as_set(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(texts)))


def _limit(told: object) -> object:
    is_number = isinstance(told, int) and not isinstance(told, bool) and 0 <= told < _MAX_LIMIT
    if not is_number and told != UNLIMITED:
        raise ValueError(f'write a whole number from 0, or "{UNLIMITED}"')
    return told


RoleName = Annotated[str, Field(pattern=r"^[a-z]{1,64}$")]
Pattern = Annotated[
    str,
    Field(max_length=256, pattern=r"^[a-z]+\.[a-z]+(\.(\*|\{role\}|[A-Za-z0-9_-]+))*$"),
]
Named = Annotated[str, Field(max_length=200, pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9_./:-]*)$")]
Namespace = Annotated[
    str,
    Field(
        max_length=256,
        pattern=r"^(\*\*|(\*|\{role\}|\{run\}|\{user\}|[A-Za-z0-9_-]+)"
        r"(/(\*|\{role\}|\{run\}|\{user\}|[A-Za-z0-9_-]+))*(/\*\*)?)$",
    ),
]
Username = Annotated[str, Field(max_length=64, pattern=r"^[^\sA-Z]+$")]
Limit = Annotated[int | Literal["unlimited"], BeforeValidator(_limit)]
Amount = Annotated[StrictInt, Field(ge=0, lt=_MAX_LIMIT)]
Patterns = Annotated[tuple[Pattern, ...], AfterValidator(_as_set)]
Names = Annotated[tuple[Named, ...], AfterValidator(_as_set)]
Namespaces = Annotated[tuple[Namespace, ...], AfterValidator(_as_set)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Call(_Part):
    """Models and tools that a role may call, by name; ``*`` stands for any."""

    models: Names = ()
    tools: Names = ()


class Spend(_Part):
    """What a role may use up; 0 is nothing, ``unlimited`` has to be said."""

    tokens_per_run: Limit = 0
    requests_per_minute: Limit = 0
    cost_per_run: Limit = 0
    """In millionths of the currency that the prices are in."""


class MemoryRule(_Part):
    """Namespaces of the memory: ``*`` is one part of a name, ``**`` the rest of it."""

    read: Namespaces = ()
    write: Namespaces = ()


class Capability(_Part):
    """What one role may do. What is not said is denied.

    Who may take assignments may unseal as well: it could not read them.
    """

    publish: Patterns = ()
    work: StrictBool = False
    read: StrictBool = False
    unseal: StrictBool = False
    provision: StrictBool = False
    personal_inbox: StrictBool = True
    call: Call = Call()
    spend: Spend = Spend()
    memory: MemoryRule = MemoryRule()


class Price(_Part):
    """What a model costs, in millionths of a currency for 1,000 tokens."""

    prompt: Amount
    completion: Amount


class PeopleRule(_Part):
    """What each person may use up of the models, asked through the gateway.

    Unlike an agent, a person is not limited where nothing is said.
    """

    tokens_per_day: Limit = UNLIMITED
    """From midnight to midnight, in UTC."""
    named: Mapping[Username, Limit] = {}
    """The same for some of them, by user name in lower case."""


class Bundle(_Part):
    """The policy as it is in force."""

    version: Literal[1]
    roles: Mapping[RoleName, Capability]
    prices: Mapping[Named, Price] = {}
    people: PeopleRule = PeopleRule()


class BundleSource(Bundle):
    """The policy as it is written: with the rule for roles that an application adds."""

    agent: Capability | None = None

    def with_workers(self, workers: tuple[str, ...]) -> Bundle:
        """The bundle, with more roles under the rule for them.

        Raises:
            PolicyNotUsable: a role is there already, or there is no rule for more.
        """
        taken = sorted(set(workers) & set(self.roles))
        if taken:
            raise PolicyNotUsable(f"role {taken[0]!r} is in the policy bundle already")
        if workers and self.agent is None:
            raise PolicyNotUsable(
                f"the policy bundle has no rule `agent`, which role {workers[0]!r} would be under"
            )
        extra = dict.fromkeys(workers, self.agent or Capability())
        return Bundle(
            version=self.version,
            roles={**self.roles, **extra},
            prices=self.prices,
            people=self.people,
        )


@lru_cache(maxsize=8)
def read_bundle(source: bytes) -> BundleSource:
    """Read what people wrote.

    Raises:
        PolicyNotUsable: not YAML, or not a bundle; each problem on a line, with its place.
    """
    written = Source.read(source)
    try:
        return BundleSource.model_validate(written.content)
    except ValidationError as error:
        problems = (
            f"line {written.line_of(problem['loc'])}: {_where(problem['loc'])}: {_what(problem)}"
            for problem in error.errors(include_url=False)
        )
        told = list(dict.fromkeys(problems))[:_TOLD]
        raise PolicyNotUsable("\n".join(["the policy bundle cannot be used:", *told])) from error


def _where(place: tuple[int | str, ...]) -> str:
    """Names of keys, and numbers of entries from 1."""
    kept = [str(each + 1) if isinstance(each, int) else each for each in place if each != "[key]"]
    return ".".join(kept) or "the bundle"


def _what(problem: ErrorDetails) -> str:
    match problem["type"]:
        case "extra_forbidden":
            return "there is no such field"
        case "string_pattern_mismatch":
            return f"{str(problem['input'])[:64]!r} is not of the form that is wanted here"
        case _:
            return problem["msg"].removeprefix("Value error, ")
