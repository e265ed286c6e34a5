"""The agents as Ray actors, one class for each role, whoever wrote it.

Apart from actors/staff.py, so that an agent's process does not import the database driver.
"""

from typing import ClassVar

import ray
from ray.actor import ActorClass

from actors.application import ApplicationSource
from actors.equipment import Equipment
from actors.member import joined
from actors.model import Model
from actors.policed_model import Asker, PolicedModel
from actors.ray_memory import RayMemory
from actors.shell import MemberActor, Membership, Ready, issue, unlock
from actors.step_agent import StepAgent
from actors.team import agent_class
from bus.work import WorkQueue
from policies.capabilities import queue_name


class AgentActor(MemberActor):
    """Serves one role; subclasses name it."""

    role: ClassVar[str]
    application: ClassVar[ApplicationSource | None] = None
    """Where the agent comes from, if it is not built in."""

    def __init__(
        self,
        membership: Membership,
        model: Model,
        lease_s: float,
        asker: Asker,
        equipment: Equipment | None = None,
    ) -> None:
        self._policy = membership.domain.policy()
        self._model = PolicedModel(model, asker, self._policy)
        self._equipment = equipment or Equipment()
        self._lease_s = lease_s
        super().__init__(membership)

    async def body(self, ready: Ready) -> None:
        """Take assignments until cancelled."""
        made_as = agent_class(self.role, self.application)
        if made_as.asks_model:
            await self._model.connect()
        domain, enrolment = self.membership.domain, self.membership.enrolment
        async with joined(domain, enrolment, issue, unlock=unlock) as log:
            agent = made_as.join(log, self._model)
            agent.memory_service = RayMemory()
            if isinstance(agent, StepAgent):
                agent.equip(await self._equipment.toolbox(agent, self._policy))
            queue = WorkQueue(log, queue_name(agent.role), lease_s=self._lease_s)
            ready()
            await agent.run(queue)


def agent_actor(role: str, application: ApplicationSource | None = None) -> ActorClass[AgentActor]:
    """A Ray actor class for the agents of a role, with their name, which the dashboard shows.

    It carries the application's text, not its classes: those are made in the actor's process.

    Raises:
        UnknownRole: no agent has the role.
        ApplicationNotUsable: the application cannot be used.
    """
    agent = agent_class(role, application)
    shell: type[AgentActor] = type(
        agent.__name__,
        (AgentActor,),
        {"role": role, "application": application, "__doc__": agent.__doc__},
    )
    return ray.remote(shell)
