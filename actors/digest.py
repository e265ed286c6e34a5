"""What two replays of a run compare: the digest of a decision, and of all that is known. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Final

from pydantic_core import to_json
from rpds import HashTrieSet

from actors.record import RunState
from bus.event import Draft, Event, pre_authentication_encoding
from bus.payloads import Payload
from bus.subjects import subject_for

_LEFT_OUT: Final = frozenset({"workflows", "workflow", "seen"})
"""What follows from the rest: the workflow from the submission, the marks from the events."""
_FIELDS: Final = tuple(each.name for each in fields(RunState) if each.name not in _LEFT_OUT)


def recorded_digest(event: Event) -> str:
    """Hex SHA-256 of what an event says and answers, whoever sent it and when.

    Raises:
        MalformedEvent: its payload is in an object that was not fetched.
    """
    return _digest(event.subject, event.id, event.cause, event.body)


def remade_digest(draft: Draft, recorded: Payload, *, withheld: bool = False) -> str:
    """The same of a draft, written in the vocabulary of a recorded payload.

    Args:
        draft: made again.
        recorded: what the log holds of it.
        withheld: whether that was read without what is personal.

    Fields are only ever added to a payload, with a default: where the record has no such
    field yet, and the draft leaves it at its default, it is left out.
    """
    subject = subject_for(draft.run, draft.payload.TYPE, *draft.suffix)
    body, payload = draft.body, draft.payload
    if withheld:
        payload = type(payload).model_validate({**payload.model_dump(), **payload.PERSONAL})
        body = payload.model_dump_json().encode()
    if payload == recorded:
        body = payload.model_dump_json(include=recorded.model_fields_set).encode()
    return _digest(subject, draft.id, draft.cause, body)


class StateDigests:
    """Digests of the states of one run.

    States share what did not change between them, and that is digested once. The order of
    the mappings counts: it is that of the log.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, bytes]] = {}

    def of(self, state: RunState) -> str:
        """Hex SHA-256 of all that is known of the run."""
        parts = (self._value(getattr(state, name)) for name in _FIELDS)
        return hashlib.sha256(pre_authentication_encoding(*parts)).hexdigest()

    def _value(self, value: object) -> bytes:
        if value is None or isinstance(value, str | int | float):
            return to_json(value)
        known = self._known.get(id(value))
        if known is None:
            # The value is kept beside its digest: its identity must not be used again.
            known = self._known[id(value)] = value, self._made(value)
        return known[1]

    def _made(self, value: object) -> bytes:
        match value:
            case Mapping():
                parts = [part for k, v in value.items() for part in (to_json(k), self._value(v))]
            case HashTrieSet():
                parts = sorted(map(to_json, value))
            case tuple():
                parts = [self._value(each) for each in value]
            case _:
                parts = [to_json(value)]
        return hashlib.sha256(pre_authentication_encoding(*parts)).digest()


def _digest(subject: str, event_id: str, cause: str | None, body: bytes) -> str:
    cited = b"" if cause is None else cause.encode()
    encoded = pre_authentication_encoding(subject.encode(), event_id.encode(), cited, body)
    return hashlib.sha256(encoded).hexdigest()
