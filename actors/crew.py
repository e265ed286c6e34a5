"""The agents as Ray actors, one class for each role.

Apart from actors/staff.py, so that an agent's process does not import the database driver.
"""

from collections.abc import Mapping
from typing import Final

import ray
from ray.actor import ActorClass

from actors.member import joined
from actors.model import Model
from actors.shell import MemberActor, Membership, Ready, issue
from actors.step_agent import StepAgent
from actors.team import AGENTS
from bus.work import WorkQueue
from policies.capabilities import queue_name


class AgentActor(MemberActor):
    """Serves one role; subclasses name it."""

    agent: type[StepAgent]

    def __init__(self, membership: Membership, model: Model, lease_s: float) -> None:
        self._model = model
        self._lease_s = lease_s
        super().__init__(membership)

    async def body(self, ready: Ready) -> None:
        """Take assignments until cancelled."""
        await self._model.connect()
        async with joined(self.membership.domain, self.membership.enrolment, issue) as log:
            agent = self.agent(log, self._model)
            queue = WorkQueue(log, queue_name(agent.role), lease_s=self._lease_s)
            ready()
            await agent.run(queue)


def _agent_actor(agent: type[StepAgent]) -> ActorClass[AgentActor]:
    """A Ray actor class with the agent's name, which is what the dashboard shows."""
    shell: type[AgentActor] = type(
        agent.__name__, (AgentActor,), {"agent": agent, "__doc__": agent.__doc__}
    )
    return ray.remote(shell)


AGENT_ACTORS: Final[Mapping[str, ActorClass[AgentActor]]] = {
    role: _agent_actor(agent) for role, agent in AGENTS.items()
}
