"""The swarm's members as named Ray actors: made all at once, awaited, stopped in order."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import ray
from ray.actor import ActorProxy
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.application import ApplicationSource
from actors.crew import agent_actor
from actors.equipment import Equipment
from actors.member import Domain, Enrolment
from actors.memory_actor import MemoryActor, MemoryDesk
from actors.model import Model
from actors.policed_model import Asker
from actors.ray_memory import MEMORY
from actors.shell import AUTHORITY, NAMESPACE, Membership
from actors.staff import (
    AuditDesk,
    AuditorActor,
    AuthorityActor,
    AuthorityDesk,
    CoordinatorActor,
)

_LIFE: Final[dict[str, Any]] = {
    "namespace": NAMESPACE,
    "num_cpus": 0,  # they wait for messages most of the time
    "max_restarts": -1,
    "max_task_retries": -1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A model that agents ask, and what it is called."""

    model: Model
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Who is to be in the swarm.

    Attributes:
        domain: the bus they join.
        secret: grants their enrolments.
        agents: how many agents of each role.
        model: what the agents ask.
        role_models: what the agents of these roles ask instead.
        lease_s: how long an agent may be silent before its step goes to another one.
        application: where the agents of roles that are not built in come from.
        equipment: the tools that agents are given.
        barred: "role/name" of agents that were revoked: they are left out.
    """

    domain: Domain
    secret: bytes
    agents: dict[str, int]
    model: NamedModel
    lease_s: float
    authority: AuthorityDesk
    audit: AuditDesk
    memory: MemoryDesk
    role_models: Mapping[str, NamedModel] = field(default_factory=dict)
    application: ApplicationSource | None = None
    equipment: Equipment = field(default_factory=Equipment)
    barred: frozenset[str] = frozenset()

    @property
    def window(self) -> int:
        """Assignments of one role that may be out: each agent's, the next one's, and two more."""
        return 2 * max(self.agents.values(), default=0) + 2

    def asker(self, role: str) -> Asker:
        """What an agent of the role asks the model as."""
        return Asker(role=role, model=self.model_for(role).name, agents=self.agents[role])

    def model_for(self, role: str) -> NamedModel:
        """What an agent of the role asks."""
        return self.role_models.get(role, self.model)

    def membership(self, role: str, name: str) -> Membership:
        """What a member of that role and name needs to join."""
        enrolment = Enrolment.grant(self.secret, role, name)
        return Membership(domain=self.domain, enrolment=enrolment)


class Members:
    """The actors of a roster."""

    def __init__(self, roster: Roster) -> None:
        """Make the actors; they join on their own. The authority's name is known at once."""
        with_the_keys = NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._authority = (
            ray.remote(AuthorityActor)
            .options(name=AUTHORITY, scheduling_strategy=with_the_keys, **_LIFE)
            .remote(roster.membership("authority", AUTHORITY), roster.authority)
        )
        self._auditor = (
            ray.remote(AuditorActor)
            .options(name="auditor", scheduling_strategy=with_the_keys, **_LIFE)
            .remote(roster.membership("auditor", "auditor"), roster.audit)
        )
        self._coordinator = (
            ray.remote(CoordinatorActor)
            .options(name="coordinator", **_LIFE)
            .remote(roster.membership("coordinator", "coordinator"), roster.window)
        )
        self._memory = (
            ray.remote(MemoryActor)
            .options(name=MEMORY, scheduling_strategy=with_the_keys, **_LIFE)
            .remote(roster.membership(MEMORY, MEMORY), roster.memory)
        )
        self._agents = [
            agent_actor(role, roster.application)
            .options(name=name, **_LIFE)
            .remote(
                roster.membership(role, name),
                roster.model_for(role).model,
                roster.lease_s,
                roster.asker(role),
                roster.equipment,
            )
            for role, count in roster.agents.items()
            for name in (f"{role}-{number}" for number in range(1, count + 1))
            if f"{role}/{name}" not in roster.barred
        ]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._agents) + 4

    async def ready(self) -> None:
        """Return once every member serves."""
        staff = (self._authority, self._auditor, self._coordinator, self._memory)
        everyone = (*staff, *self._agents)
        await asyncio.gather(*(member.ready.remote() for member in everyone))

    async def stop(self) -> None:
        """First those who work, then who records it, last who vouches for them.

        Raises:
            RayError: a member could not be reached.
            TimeoutError: a member did not end in time.
        """
        await asyncio.gather(*(_leave(member) for member in (self._coordinator, *self._agents)))
        await _leave(self._memory)
        await _leave(self._auditor)
        await _leave(self._authority)


async def _leave(member: ActorProxy[Any]) -> None:
    """End a member, then its process, as a Python process ends rather than by a kill."""
    await member.stop.remote()
    member.__ray_terminate__.remote()
