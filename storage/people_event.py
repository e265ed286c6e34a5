"""What is done with accounts, as events: noted by the statement that does it.

Whoever ends a session, takes a key back or makes a user writes here what the log shall say of
it. Either both are in the database or neither is, so nothing takes effect unrecorded, though
the broker be away at that moment; storage/people_outbox.py passes it on.
"""

from typing import Final
from uuid import UUID

from bus.event import Draft, derive_id
from bus.payload import Payload
from bus.subjects import SYSTEM_RUN, kind_of

_INTO: Final = "insert into people_event (id, type, payload, user_id)"
NOTE: Final = f"{_INTO} values ($1, $2, $3, $4)"
"""By itself, within a transaction; its values are what `noted` gives."""
Noted = tuple[str, str, str, str]
"""Id, type, payload in JSON, and user."""


def people_event(payload: Payload, *, user: str | None, once: str) -> Draft:
    """What the log shall be told.

    Args:
        payload: what was done.
        user: on whose behalf, by id.
        once: what makes a repeat the same event.
    """
    return Draft(
        run=SYSTEM_RUN,
        payload=payload,
        id=event_id(payload.TYPE, once),
        on_behalf_of=user,
    )


def event_id(event_type: str, once: str) -> str:
    """The id of what may be said of that once."""
    return derive_id(kind_of(event_type), once)


def noted(payload: Payload, *, user: UUID, once: str) -> Noted:
    """The values for a statement that notes an event."""
    return (event_id(payload.TYPE, once), payload.TYPE, payload.model_dump_json(), str(user))


def noting(statement: str, first: int) -> str:
    """That statement, noting an event if it does anything.

    Args:
        statement: changes at most one row, and returns it.
        first: number of the first of the four parameters that `noted` gives.
    """
    return f"""
with done as ({statement}), noted as (
    {_INTO} select ${first}, ${first + 1}, ${first + 2}::jsonb, ${first + 3} from done
)
select * from done
"""  # noqa: S608 # nosec B608 - statements of ours only
