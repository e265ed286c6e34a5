"""The swarm's Ray actors: authority, coordinator, auditor, and one class for each role.

The plain classes decide; what stands here joins them to the bus and gives them to Ray.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import ray
from nacl.signing import SigningKey
from ray.actor import ActorClass

from actors.auditor import Auditor
from actors.authority import Registrar, acting_authority
from actors.coordinator import Coordinator
from actors.member import Enrolment, joined
from actors.model import Model
from actors.shell import MemberActor, Membership, Ready, issue
from actors.step_agent import StepAgent
from actors.team import AGENTS
from bus.identity import Authority
from bus.trust import ChainTracker
from bus.work import WorkQueue
from policies.capabilities import queue_name
from storage.audit import AuditStore
from storage.checkpoint import checkpoint_signer
from storage.postgres import open_pool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityDesk:
    """Where the authority's keys are: its seeds, and the secret that grants enrolments."""

    keys: Path
    secret_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditDesk:
    """Where the auditor writes, and the file with the seed, in hex, that signs checkpoints."""

    database_url: str = field(repr=False)
    key_file: Path
    origin: str


class AuthorityActor(MemberActor):
    """Vouches for the keys of members that the launcher enrolled."""

    def __init__(self, membership: Membership, desk: AuthorityDesk) -> None:
        self._desk = desk
        self._registrar: asyncio.Future[Registrar] = asyncio.get_running_loop().create_future()
        super().__init__(membership)

    async def body(self, ready: Ready) -> None:
        """Act as the authority until cancelled."""
        authority = Authority.load(self._desk.keys)
        secret = self._desk.secret_file.read_bytes().strip()
        name = self.membership.enrolment.name
        domain = self.membership.domain
        async with acting_authority(authority, secret, domain, name) as registrar:
            self._registrar.set_result(registrar)
            ready()
            await self.serve_until_stopped()

    @ray.method
    async def issue(self, enrolment: Enrolment, public_key: str) -> str:
        """Vouch for a key; returns the user JWT once the log knows of it."""
        registrar = await self._registrar
        return await registrar.issue(enrolment, public_key)


class CoordinatorActor(MemberActor):
    """Drives runs to their end."""

    async def body(self, ready: Ready) -> None:
        """Coordinate until cancelled."""
        async with joined(self.membership.domain, self.membership.enrolment, issue) as log:
            ready()
            await Coordinator(log).run()


class AuditorActor(MemberActor):
    """Writes the audit log."""

    def __init__(self, membership: Membership, desk: AuditDesk) -> None:
        self._desk = desk
        super().__init__(membership)

    async def body(self, ready: Ready) -> None:
        """Audit until cancelled."""
        sign = checkpoint_signer(
            self._desk.origin, SigningKey(bytes.fromhex(self._desk.key_file.read_text()))
        )
        async with (
            open_pool(self._desk.database_url) as pool,
            joined(self.membership.domain, self.membership.enrolment, issue) as log,
        ):
            store = AuditStore(pool)
            chains = ChainTracker.resume(await store.chain_heads())
            ready()
            await Auditor(log, store, sign, chains).run()


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
