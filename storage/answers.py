"""The models' latest answers in the audit log: who gave them, by their receipts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from bus.answer_receipt import Receipt
from bus.payloads import StepCompleted, StepFailed
from storage.postgres import Pool, translated

LOOKED_THROUGH: Final = 20_000
"""Leaves from the end of the log; with it the question stays one of milliseconds."""
_TYPES: Final = (StepCompleted.TYPE, StepFailed.TYPE)
_LATEST: Final = """
select leaf_index, run, event_id, data from audit_event
where leaf_index > (select size from audit_head) - $1
      and verdict = 'accepted' and type = any($2::text[])
order by leaf_index desc limit $3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Who gave an answer.

    Attributes:
        event: id of the event that holds it.
        weights: hex SHA-256 of the model's weights.
    """

    event: str
    run: str
    model: str
    weights: str


class _Read(BaseModel):
    """What is read of a payload; the rest may be sealed."""

    model_config = ConfigDict(extra="ignore")
    model: str = ""
    receipt: Receipt | None = None


async def latest_answers(pool: Pool, most: int = 2_000) -> list[Answered]:
    """The latest answers of the swarm's own engines whose weights are known, newest first.

    Args:
        pool: of the database that holds the audit log.
        most: answers that are looked at.

    Raises:
        StorageUnavailable: the database does not answer.
    """
    with translated("read the latest answers"):
        rows = await pool.fetch(_LATEST, LOOKED_THROUGH, list(_TYPES), most)
    return [
        answered
        for row in rows
        for answered in _read(str(row["event_id"]), str(row["run"]), bytes(row["data"]))
    ]


def _read(event: str, run: str, data: bytes) -> Iterator[Answered]:
    try:
        payload = _Read.model_validate_json(data)
    except ValidationError:  # a large one is an object, and not here
        return
    receipt = payload.receipt
    if receipt is not None and receipt.weights and not receipt.provider:
        yield Answered(event=event, run=run, model=payload.model, weights=receipt.weights)
