"""What the doctor finds in the log: the streams against the audit log, and that against itself."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from bus.errors import SwarmError
from cluster import state as states
from cluster.comparison import assess, check_audit_log
from cluster.findings import (
    Finding,
    judge_audit_log,
    judge_objects,
    judge_recovery,
    judge_stream,
)
from cluster.home import Home
from cluster.log_servers import LogServers, of_running, of_stopped, reading
from cluster.models import serving_weights
from cluster.object_recovery import lost_objects
from cluster.settings import Settings
from cluster.survivors import Survivors
from cluster.swaps import judge_weights_of_answers
from cluster.witness_status import witness_statuses
from storage.answers import latest_answers
from storage.audit_reader import AuditReader
from storage.cosignature import WitnessAddress
from storage.objects import AuditObjects
from storage.postgres import open_pool
from storage.witnessed import WitnessStore


async def log_findings(settings: Settings) -> list[Finding]:
    """Compare every event; nothing where no swarm has run yet."""
    home = settings.located_home()
    if not _has_log(settings, home):
        return []
    findings = [judge_recovery(unfinished=Survivors(home).exist)]
    try:
        return findings + await _compare(settings, home)
    except SwarmError as error:
        hint = error.hint or "Look again when the swarm has started or stopped."
        return [*findings, Finding(check="stream", ok=False, detail=str(error), hint=hint)]


async def _compare(settings: Settings, home: Home) -> list[Finding]:
    state = states.load(home)
    async with AsyncExitStack() as stack:
        if state is not None and state.alive():
            servers = of_running(settings, state)
        else:
            servers = await stack.enter_async_context(of_stopped(settings))
        serving = await asyncio.to_thread(serving_weights, settings)
        return await _findings(servers, settings.witness_addresses(), serving)


async def _findings(
    servers: LogServers, witnesses: Sequence[WitnessAddress], serving: Mapping[str, str]
) -> list[Finding]:
    async with open_pool(servers.database_url, max_size=2) as pool, reading(servers) as connection:
        audit = AuditReader(pool)
        if not await audit.exists():
            return [Finding(check="stream", ok=True, detail="nothing was audited yet")]
        found = await assess(connection, audit)
        objects = judge_objects(await lost_objects(connection, AuditObjects(pool)))
        states, reach = await WitnessStore(pool).states(), await audit.reach()
        return [
            judge_stream(found),
            objects,
            *judge_audit_log(await check_audit_log(audit)),
            judge_weights_of_answers(await latest_answers(pool), serving),
            *(status.finding() for status in witness_statuses(witnesses, states, reach.size)),
        ]


def _has_log(settings: Settings, home: Home) -> bool:
    made = settings.database_url is not None or (home.postgres / "data").exists()
    return made and (home.run / "lock").exists()
