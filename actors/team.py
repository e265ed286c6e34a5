"""The agents of the swarm: one class a role, so that each reads well in the Ray dashboard."""

from collections.abc import Mapping
from typing import Final

from actors.agent import Agent
from actors.application import ApplicationSource
from actors.errors import UnknownRole
from actors.step_agent import StepAgent


class Specifier(StepAgent):
    """Says what is to be built, and how one will know that it is."""

    role = "specifier"


class Planner(StepAgent):
    """Turns a specification into steps, and a finished design into next actions."""

    role = "planner"


class Researcher(StepAgent):
    """Collects what is known about the problem."""

    role = "researcher"


class Architect(StepAgent):
    """Divides the solution into components."""

    role = "architect"


class Coder(StepAgent):
    """Writes the code."""

    role = "coder"


class Critic(StepAgent):
    """Finds what is wrong with it."""

    role = "critic"


class Tester(StepAgent):
    """Says how to test it, or tests it where it may run code."""

    role = "tester"
    begins_with_a_tool = True


class Judge(StepAgent):
    """Accepts a round of refinement, or asks for another."""

    role = "judge"


AGENTS: Final[Mapping[str, type[StepAgent]]] = {
    agent.role: agent
    for agent in (
        Specifier,
        Planner,
        Researcher,
        Architect,
        Coder,
        Critic,
        Tester,
        Judge,
    )
}


def agent_class(role: str, application: ApplicationSource | None = None) -> type[Agent]:
    """The class of agents of a role, built in or of an application.

    Raises:
        UnknownRole: neither has it.
        ApplicationNotUsable: the application cannot be made here.
    """
    own = None if application is None else application.load().agent_of(role)
    found = AGENTS.get(role) or own
    if found is None:
        raise UnknownRole(f"no agent has the role {role[:64]!r}")
    return found
