"""What witnesses said of the log's checkpoints, in Postgres beside it."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from storage.audit_reader import AuditReader
from storage.cosignature import Cosignature, WitnessAddress
from storage.postgres import translated

_KEEP = """
insert into audit_cosignature (size, witness, time_s, line) values ($1, $2, $3, $4)
on conflict (size, witness) do nothing
"""
_COSIGNED = """
insert into audit_witness (witness, url, size, cosigned_at) values ($1, $2, $3, clock_timestamp())
on conflict (witness) do update set
    url = excluded.url,
    size = greatest(audit_witness.size, excluded.size),
    cosigned_at = excluded.cosigned_at,
    asked_at = clock_timestamp(),
    problem = '',
    detail = ''
"""
_REPORT = """
insert into audit_witness (witness, url, problem, detail) values ($1, $2, $3, $4)
on conflict (witness) do update set
    url = excluded.url,
    asked_at = clock_timestamp(),
    problem = excluded.problem,
    detail = excluded.detail
"""
_DETAIL_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessState:
    """How it stands with one witness.

    Attributes:
        witness: its verifier key.
        url: where it was asked.
        size: the largest checkpoint that it cosigned, 0 before the first.
        cosigned_at: when that was; None before the first.
        asked_at: when it was last asked.
        problem: why it did not cosign, in a word; empty if it did.
        detail: the same in a sentence.
    """

    witness: str
    url: str
    size: int
    cosigned_at: datetime | None
    asked_at: datetime
    problem: str
    detail: str

    @property
    def name(self) -> str:
        """The witness's key name."""
        return self.witness.partition("+")[0]


class WitnessStore(AuditReader):
    """Keeps cosignatures beside the checkpoints.

    Every method may raise StorageUnavailable or StorageRefused.
    """

    async def keep(self, size: int, witness: WitnessAddress, cosignature: Cosignature) -> None:
        """Store a cosignature that was verified, of a checkpoint that is stored.

        A second one of the same witness for the same checkpoint is not kept.
        """
        key = str(witness.key)
        with translated("store a cosignature"):
            async with (
                asyncio.timeout(self._deadline_s),
                self._pool.acquire() as connection,
                connection.transaction(),
            ):
                line = str(cosignature.line)
                await connection.execute(_KEEP, size, key, cosignature.time_s, line)
                await connection.execute(_COSIGNED, key, witness.url, size)

    async def report(self, witness: WitnessAddress, problem: str, detail: str) -> None:
        """Note why a witness did not cosign."""
        with translated("note how it stands with a witness"):
            async with asyncio.timeout(self._deadline_s):
                await self._pool.execute(
                    _REPORT, str(witness.key), witness.url, problem, detail[:_DETAIL_CHARS]
                )

    async def state_of(self, witness: WitnessAddress) -> WitnessState | None:
        """How it stands with this witness; None if it was never asked."""
        states = await self.states()
        return next((state for state in states if state.witness == str(witness.key)), None)

    async def states(self) -> list[WitnessState]:
        """How it stands with every witness that was ever asked, by name."""
        with translated("read how it stands with the witnesses"):
            async with asyncio.timeout(self._deadline_s):
                if not await self._pool.fetchval("select to_regclass('audit_witness') is not null"):
                    return []  # a database that this version has not opened yet
                rows = await self._pool.fetch("select * from audit_witness order by witness")
        return [WitnessState(**dict(row)) for row in rows]
