"""Whose a run is, by the audit log, which knows runs that have left the stream."""

import asyncio
import json
from dataclasses import dataclass

from storage.postgres import Pool, translated

_SUBMISSION = """
select e.headers ->> 'ce-onbehalfof' as submitter, coalesce(o.content, e.data) as body
from audit_event e
left join audit_object o
    on o.digest = decode(substring(e.headers ->> 'ce-dataref' from '[0-9a-f]{64}'), 'hex')
where e.run = $1 and e.type = 'swarm.run.submitted.v1' and e.verdict = 'accepted'
order by e.leaf_index limit 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOwner:
    """Who submitted a run, by id, and their tenant; each is empty where nothing says so."""

    user: str
    tenant: str


class RunOwnerReader:
    """Reads whose runs are; may raise StorageUnavailable.

    Args:
        pool: the database, migrated.
        deadline_s: for each call, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def of(self, run: str) -> RunOwner | None:
        """The owner by the run's accepted submission; None where there is none."""
        with translated("read whose a run is"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(_SUBMISSION, run)
        if row is None:
            return None
        return RunOwner(user=row["submitter"] or "", tenant=_tenant(row["body"]))


def _tenant(body: bytes) -> str:
    """As the submission has it: none in one from before there were tenants, or one that is lost."""
    try:
        submission = json.loads(body)
    except ValueError:
        return ""
    tenant = submission.get("tenant", "default") if isinstance(submission, dict) else ""
    return tenant if isinstance(tenant, str) else ""
