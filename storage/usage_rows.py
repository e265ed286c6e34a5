"""What events say that was used up of the models, as rows of the table model_usage. Pure.

Numbers and names are in the clear in these events; what was asked and answered is sealed, and
not looked at.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Final

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bus.payloads import StepCompleted, StepFailed
from bus.usage import ModelUsed
from storage.leaf import AuditRecord, storable

log = structlog.get_logger()

USAGE_COLUMNS: Final = (
    "leaf_index",
    "event_id",
    "day",
    "user_id",
    "api_key",
    "run",
    "role",
    "agent",
    "task",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "outcome",
)
_MOST: Final = 2**63 - 1
_USER_CHARS: Final = 128
"""Of an index entry; nobody's id is longer."""
_FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(3000, 1, 1, tzinfo=UTC)
_Tokens = Annotated[int, Field(ge=0, le=_MOST)]
_OUTCOMES: Final = {StepCompleted.TYPE: "answered", StepFailed.TYPE: "failed"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Tally(_Part):
    prompt_tokens: _Tokens
    completion_tokens: _Tokens


class _Step(_Part):
    model: str = ""
    usage: _Tally | None = None


class _Question(_Tally):
    user: str
    api_key: str | None = None
    task: str
    model: str
    outcome: str
    asked_at: Annotated[AwareDatetime, Field(ge=_FIRST, lt=_LAST)]


def usage_rows(
    records: Sequence[AuditRecord], *, first_leaf: int
) -> list[tuple[int | str | date, ...]]:
    """A row for each accepted record that says what was used up, as USAGE_COLUMNS has them.

    Args:
        records: of a batch, in the order of the log.
        first_leaf: the leaf index of the first one.
    """
    rows = []
    for leaf_index, record in enumerate(records, start=first_leaf):
        if record.verdict != "accepted":
            continue
        try:
            rows += _rows(leaf_index, record)
        except ValidationError as error:  # what it says is kept by the log, whatever it is
            log.warning("usage.not_read", leaf_index=leaf_index, problems=error.error_count())
    return rows


def _rows(leaf_index: int, record: AuditRecord) -> list[tuple[int | str | date, ...]]:
    said = record.data if record.content is None else record.content
    key = (leaf_index, storable(record.event_id or ""))
    if record.type == ModelUsed.TYPE:
        asked = _Question.model_validate_json(said)
        whose = (_day(asked.asked_at), asked.user, asked.api_key or "")
        what = (asked.task, storable(asked.model), asked.prompt_tokens, asked.completion_tokens)
        return [(*key, *whose, "", "", "", *what, asked.outcome)]
    outcome = _OUTCOMES.get(record.type or "")
    step = None if outcome is None else _Step.model_validate_json(said)
    if outcome is None or step is None or step.usage is None:
        return []
    user = dict(record.raw_headers).get("ce-onbehalfof", "")
    where = (record.run, record.source_role or "", record.source_agent or "")
    what = ("step", storable(step.model), step.usage.prompt_tokens, step.usage.completion_tokens)
    return [
        (
            *key,
            _day(record.stored_at),
            storable(user[:_USER_CHARS]),
            "",
            *map(storable, where),
            *what,
            outcome,
        )
    ]


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
