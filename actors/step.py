"""One step of a workflow: who does it, what it reads, how often and for how long."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from actors.errors import DuplicateName, InvalidStep
from actors.roles import RoleSpec, role_spec
from actors.shape import check_schema, says_accepted
from bus.subjects import is_token

MAX_ATTEMPTS: Final = 3
DEADLINE_S: Final = 300.0
"""A small model on a shared CPU needs a minute for an answer; five leave room for a queue."""
BACKOFF_S: Final = 1.0
"""Long enough for a replica that refused work to take some again."""
MAX_BACKOFF_S: Final = 3_600.0
"""Doubling stops here: whoever waits longer would rather see the run fail."""
_ROLE = re.compile(r"[a-z]{1,64}\Z")
"""What can stand in the ce-source of an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One step.

    Args:
        name: unique in the workflow; also names the task where the role has several.
        role: who does it.
        inputs: names of the steps whose answers it reads.
        max_attempts: how often it is tried before the run fails.
        deadline_s: seconds that an attempt may take once an agent has claimed it.
        backoff_s: seconds from a failure to the next attempt; they double with each.
        approval: whether a person must let it begin, once for all parts of a fan-out.
        for_each: ``step.field``, a list in the answer of one of its inputs: the step is
            done once for each item, and who reads it gets ``{"items": [answer, ...]}`` in
            the order of the list. Empty for a step that is done once.
        answer_schema: JSON schema of the answer; None for the role's own. A role that is
            not built in has none of its own.

    Raises:
        InvalidStep: the name is not a token of a subject, a limit is not positive, the
            schema is none, or `for_each` does not name an input.
        DuplicateName: an input is named twice.
        UnknownRole: neither is the role built in, nor is there a schema of its answer.
    """

    name: str
    role: str
    inputs: tuple[str, ...] = ()
    max_attempts: int = MAX_ATTEMPTS
    deadline_s: float = DEADLINE_S
    backoff_s: float = BACKOFF_S
    approval: bool = False
    for_each: str = ""
    answer_schema: Mapping[str, JsonValue] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        if not is_token(self.name):
            raise InvalidStep(f"{self.name[:80]!r} cannot name a step: use A-Z a-z 0-9 _ -")
        if self.max_attempts < 1:
            raise InvalidStep(f"step {self.name} has {self.max_attempts} attempts, at least 1")
        if not (self.deadline_s > 0 and math.isfinite(self.deadline_s)):
            raise InvalidStep(f"step {self.name} has a deadline of {self.deadline_s} s")
        if not 0 <= self.backoff_s <= MAX_BACKOFF_S:
            raise InvalidStep(
                f"step {self.name} has a backoff of {self.backoff_s} s, at most {MAX_BACKOFF_S:g}"
            )
        repeated = sorted({name for name in self.inputs if self.inputs.count(name) > 1})
        if repeated:
            raise DuplicateName(
                f"the inputs of step {self.name}: {', '.join(repeated)} is named more than once"
            )
        self._check_list()
        self._check_answer()

    @property
    def work(self) -> RoleSpec:
        """The prompt and the answer of this step, if its role is built in.

        Raises:
            UnknownRole: it is not.
        """
        return role_spec(self.role, self.name)

    @property
    def list_source(self) -> str:
        """The input that holds the list of a fan-out; empty if there is none."""
        return self.for_each.partition(".")[0]

    @property
    def list_field(self) -> str:
        """The field of that input's answer that is the list."""
        return self.for_each.partition(".")[2]

    @property
    def gives_verdict(self) -> bool:
        """Whether its answer always has a boolean ``accepted``."""
        if self.for_each:
            return False
        if self.answer_schema is not None:
            return says_accepted(self.answer_schema)
        accepted = self.work.answer.model_fields.get("accepted")
        return accepted is not None and accepted.annotation is bool

    def backoff_after_s(self, attempts: int) -> float:
        """Seconds to wait after so many failed attempts, at least one."""
        doublings = min(attempts - 1, 63)  # more would only overflow before they are capped
        return min(self.backoff_s * 2.0**doublings, MAX_BACKOFF_S)

    def _check_list(self) -> None:
        if self.for_each and not (self.list_field and self.list_source in self.inputs):
            raise InvalidStep(
                f"step {self.name} is for each {self.for_each[:80]!r}, which is not "
                "`step.field` with a step among its inputs"
            )

    def _check_answer(self) -> None:
        if self.answer_schema is None:
            _ = self.work
            return
        if not _ROLE.match(self.role):
            raise InvalidStep(f"{self.role[:80]!r} cannot name a role: use 1 to 64 small letters")
        check_schema(self.name, self.answer_schema)
