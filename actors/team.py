"""The agents of the swarm: one class a role, so that each reads well in the Ray dashboard."""

from collections.abc import Mapping
from typing import Final

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
    """Says how to test it."""

    role = "tester"


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
