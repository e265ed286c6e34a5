"""The roles of the swarm. Each has a module with its answer and a prompt beside it.

An assignment names a role and a step. A role with one task does that, whatever the step
is called. A role with several does the one that the step is named after: the planner's
step ``completion``, or ``completion-api``, is its completion; any other is pseudocode.
"""

from collections.abc import Mapping
from typing import Final

from actors.errors import UnknownRole
from actors.roles.architect import ARCHITECT
from actors.roles.coder import CODER
from actors.roles.critic import CRITIC
from actors.roles.judge import JUDGE
from actors.roles.planner import COMPLETION, PSEUDOCODE
from actors.roles.researcher import RESEARCHER
from actors.roles.role import RoleAnswer, RoleSpec
from actors.roles.specifier import SPECIFIER
from actors.roles.tester import TESTER

__all__ = ["ROLES", "TASKS", "RoleAnswer", "RoleSpec", "role_spec"]

_DEFAULTS = (SPECIFIER, PSEUDOCODE, RESEARCHER, ARCHITECT, CODER, CRITIC, TESTER, JUDGE)

ROLES: Final[Mapping[str, RoleSpec]] = {spec.name: spec for spec in _DEFAULTS}
"""Every role with the task it does unless the step's name asks for another."""

TASKS: Final[Mapping[tuple[str, str], RoleSpec]] = {
    (spec.name, spec.task): spec for spec in (*_DEFAULTS, COMPLETION)
}
"""Every task by role and task name."""


def role_spec(role: str, step: str) -> RoleSpec:
    """The prompt and answer for a step of a role.

    Args:
        role: as in the assignment.
        step: the step's name; what stands before its first hyphen may name a task.

    Raises:
        UnknownRole: no such role; the message lists those that exist.
    """
    if role not in ROLES:
        raise UnknownRole(f"there is no role {role[:64]!r}; there are {', '.join(sorted(ROLES))}")
    return TASKS.get((role, step.split("-", maxsplit=1)[0]), ROLES[role])
