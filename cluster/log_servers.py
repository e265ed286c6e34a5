"""The stream and the audit log of a home, reached while its swarm runs or without it."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from actors.authority import vouch
from actors.member import Domain
from bus.connection import Connection, open_connection
from bus.identity import LAUNCHER_ROLE, Authority
from bus.nkey import AgentKey
from bus.refill import permissions
from cluster import state as states
from cluster import stragglers
from cluster.assembly import assemble_log, authority, trust_in
from cluster.errors import AlreadyRunning, ClusterError
from cluster.home import Home, open_home
from cluster.parts.part import Part
from cluster.parts.postgres import Postgres
from cluster.settings import Settings
from cluster.state import State
from policies.capabilities import Capabilities, inbox_prefix

READER_ROLE: Final = "observer"
INBOX: Final = "_INBOX"
"""Where a plain NATS client listens, which an observer is."""
_READER_LIFE: Final = timedelta(hours=1)
_KEEPER_LIFE: Final = timedelta(days=1)
_STRAGGLERS_LIMIT_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogServers:
    """Where the stream and the audit log are, and the keys to them."""

    nats_url: str
    database_url: str = field(repr=False)
    root: Authority = field(repr=False)

    def domain(self, workers: Sequence[str] = (), bundle: str = "") -> Domain:
        """What a member needs to know of the bus."""
        return Domain(
            nats_url=self.nats_url,
            operator_public_key=self.root.operator_public_key,
            account_jwt=self.root.account_jwt,
            workers=tuple(workers),
            bundle=bundle,
        )


def of_running(settings: Settings, state: State) -> LogServers:
    """Those of a swarm that runs.

    Raises:
        IdentityError: its keys cannot be read.
    """
    home = settings.located_home()
    if settings.database_url is not None:
        database = settings.database_url.get_secret_value()
    else:
        recipe = Postgres(home=home, environment={})
        database = recipe.url(urlsplit(state.addresses.postgres).port or 0)
    nats = state.addresses.nats
    if settings.nats_url is not None:
        nats = settings.nats_url.get_secret_value()
    return LogServers(nats_url=nats, database_url=database, root=authority(home))


@asynccontextmanager
async def of_stopped(settings: Settings) -> AsyncIterator[LogServers]:
    """Those of a home whose swarm does not run, started for the length of the block.

    The home is locked meanwhile: no swarm starts in it. NATS does not wait for the disk at
    each message here; who writes sees to that in the end.

    Raises:
        AlreadyRunning: a swarm runs there.
        HomeInUse: another command has the home.
        PartFailed: a server did not start.
        HomeNotUsable: the home cannot be written.
    """
    home = open_home(settings.home)
    root = authority(home)
    settings = settings.model_copy(update={"nats_sync": "default"})
    async with AsyncExitStack() as stack:
        stack.callback(os.close, states.lock(home))
        await asyncio.to_thread(_end_stragglers, home)
        (nats, nats_url), (postgres, database_url) = assemble_log(settings, home, trust_in(home))
        await stack.enter_async_context(_started((nats, postgres)))
        yield LogServers(nats_url=nats_url(), database_url=database_url(), root=root)


@asynccontextmanager
async def reading(servers: LogServers) -> AsyncIterator[Connection]:
    """A connection that may read every event and say nothing.

    Raises:
        BusUnreachable: no connection in time.
    """
    key = AgentKey.generate()
    policy = Capabilities.shipped()
    own = vouch(servers.root, policy, key.public, role=READER_ROLE, name="log", ttl=_READER_LIFE)
    async with open_connection(servers.nats_url, key, own, inbox=INBOX) as connection:
        yield connection


@asynccontextmanager
async def keeping(servers: LogServers) -> AsyncIterator[Connection]:
    """A connection of the log's own account that may make the stream anew.

    Raises:
        BusUnreachable: no connection in time.
    """
    key = AgentKey.generate()
    inbox = inbox_prefix(key.public)
    own = servers.root.issue(
        key.public,
        role=LAUNCHER_ROLE,
        name="recovery",
        permissions=permissions(inbox),
        ttl=_KEEPER_LIFE,
    )
    async with open_connection(servers.nats_url, key, own, inbox=inbox) as connection:
        yield connection


@asynccontextmanager
async def _started(parts: Sequence[Part]) -> AsyncIterator[None]:
    try:
        await asyncio.gather(*(part.start() for part in parts))
        yield
    finally:
        await asyncio.shield(asyncio.gather(*(part.stop() for part in parts)))


def _end_stragglers(home: Home) -> None:
    """A swarm that was killed may have left servers; only its own home is locked by us."""
    state = states.load(home)
    if state is not None and state.alive():
        raise AlreadyRunning(f"A swarm is running in {home.root}.")
    if stragglers.end(home, grace_s=2.0, limit_s=_STRAGGLERS_LIMIT_S):
        raise ClusterError(f"Processes of the swarm in {home.root} could not be killed.")
