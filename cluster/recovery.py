"""`swarm recover`: the streams of a stopped swarm made whole from its audit log."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from bus.provision import provision
from cluster import state as states
from cluster.application import bundle_of, workers_of
from cluster.errors import AlreadyRunning, NotRunning, RecoveryUnfinished
from cluster.home import Home
from cluster.log_servers import LogServers, keeping, of_stopped
from cluster.object_recovery import restore_objects
from cluster.recover import Recovered, recover_stream
from cluster.settings import Settings
from cluster.survivors import Survivors, flush_all
from policies.capabilities import queue_name
from storage.audit_reader import AuditReader
from storage.objects import AuditObjects
from storage.postgres import migrate, open_pool


async def recover(settings: Settings) -> Recovered:
    """Start the servers of the home, make the streams whole, stop them again.

    Killed at any moment, it can be run again.

    Raises:
        NotRunning: there is no swarm in this home.
        AlreadyRunning: its swarm runs.
        HomeInUse: another command has the home.
        ApplicationNotUsable: only the settings say whose queues there are, and cannot be loaded.
        AuditCorrupt: the audit log does not add up; nothing was changed.
        SwarmError: a server did not start or did not answer.
    """
    home = settings.located_home()
    if not (home.run / "lock").exists():
        raise NotRunning(f"No swarm has run in {home.root}.")
    state = states.load(home)
    if state is not None and state.alive():
        raise AlreadyRunning(f"A swarm is running in {home.root}; the log is made anew without it.")
    survivors = Survivors(home)
    workers = (state and state.workers) or workers_of(settings)
    bundle = state.bundle if state else bundle_of(settings)
    async with of_stopped(settings) as servers:
        roles = servers.domain(workers, bundle).policy().worker_roles
        done = await _recover(settings, servers, survivors, roles)
    if not done.was_whole:
        if settings.nats_url is None:
            await asyncio.to_thread(flush_all, home.nats / "store")
        if survivors.exist:
            survivors.discard()
    return done


def refuse_unfinished(home: Home) -> None:
    """See that the stream is not half filled.

    Raises:
        RecoveryUnfinished: it may be.
    """
    if Survivors(home).exist:
        raise RecoveryUnfinished(f"A recovery of the stream in {home.root} was interrupted.")


async def _recover(
    settings: Settings, servers: LogServers, survivors: Survivors, roles: Sequence[str]
) -> Recovered:
    async with open_pool(servers.database_url, max_size=2) as pool, keeping(servers) as connection:
        await migrate(pool)
        objects = AuditObjects(pool)
        done = await recover_stream(
            connection, AuditReader(pool), objects, survivors, root=servers.root.root_key
        )
        await provision(
            connection,
            queues={role: queue_name(role) for role in roles},
            lease_s=settings.lease_s,
            max_bytes=settings.jetstream_max_bytes,
            starts=None if done.starts is None else done.starts.of(roles),
        )
        restored = await restore_objects(connection, objects)
    return replace(done, objects=restored.objects, gone=restored.gone)
