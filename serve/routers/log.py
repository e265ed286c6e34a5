"""The log of a run as it is stored, for whoever checks it without trusting this gateway."""

import asyncio
import base64
from collections.abc import Iterable
from contextlib import aclosing

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from bus.event import StoredEvent
from bus.payloads import IdentityIssued
from bus.received import Received
from bus.subjects import SYSTEM_RUN, TRUST_RUN, run_filter, subject_for
from serve.access import Parts, Reader
from serve.known_run import check_run_id, read_run
from serve.ports import Log

router = APIRouter(tags=["runs"])

MEDIA_TYPE = "application/x-ndjson"


class RawEvent(BaseModel):
    """One message of the log, as received and not re-encoded."""

    model_config = ConfigDict(frozen=True)
    stream_sequence: int
    stored_at: str
    subject: str
    headers: dict[str, str]
    data: str = Field(description="Base64.")
    content: str | None = Field(None, description="Base64: the object that ce-dataref names.")


@router.get(
    "/v1/runs/{run}/log",
    response_class=Response,
    responses={200: {"content": {MEDIA_TYPE: {"schema": RawEvent.model_json_schema()}}}},
)
async def raw_log(run: str, parts: Parts, caller: Reader) -> Response:
    """Every message of a run, one JSON object a line: headers, data, place and time.

    First come the announcements of the credentials of all who speak in it, and every change
    of trust, so that the operator's public key and the first account are all that is needed
    to verify the rest. Nothing is left out:
    what this gateway refuses is here as well.
    """
    check_run_id(run)
    async with asyncio.timeout(parts.limits.call_timeout_s):
        events = await read_run(parts.log, run, caller)
        first = await _trust_before(parts.log, events)
    lines = (_raw(each).model_dump_json(exclude_none=True) for each in (*first, *events))
    return Response("\n".join(lines) + "\n", media_type=MEDIA_TYPE)


async def _trust_before(log: Log, events: Iterable[Received]) -> list[Received]:
    """Every change of trust, where the authority vouched for keys, and for those it spoke with."""
    async with aclosing(log.read(run_filter(TRUST_RUN))) as changes:
        found = {received.stream_sequence: received async for received in changes}
    wanted = _keys([*events, *found.values()])
    asked: set[str] = set()
    while wanted - asked:
        key = min(wanted - asked)
        asked.add(key)
        subject = subject_for(SYSTEM_RUN, IdentityIssued.TYPE, key)
        async with aclosing(log.read(subject)) as announcements:
            here = [received async for received in announcements]
        found.update({received.stream_sequence: received for received in here})
        wanted |= _keys(here)
    return [found[place] for place in sorted(found)]


def _keys(events: Iterable[Received]) -> set[str]:
    return {received.event.key for received in events if isinstance(received, StoredEvent)}


def _raw(received: Received) -> RawEvent:
    message = received.event if isinstance(received, StoredEvent) else received
    content = received.event.content if isinstance(received, StoredEvent) else None
    return RawEvent(
        stream_sequence=received.stream_sequence,
        stored_at=received.stored_at.isoformat(),
        subject=message.subject,
        headers=dict(message.headers),
        data=base64.b64encode(message.data).decode(),
        content=None if content is None else base64.b64encode(content).decode(),
    )
