"""Where a replay differs from the record, in words. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue
from pydantic_core import to_json

from bus.event import Draft, StoredEvent
from bus.payloads import Payload, StepPayload
from bus.subjects import subject_for

_VALUE_CHARS: Final = 80
_MISSING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first event of a run that differs.

    Attributes:
        event: its id, as far as it can be read.
        stream_sequence: its place in the log.
        type: for example ``swarm.step.assigned.v1``, as far as it can be read.
        code: ``unverified``, ``changed``, ``decision``, ``answer`` or ``order``.
        recorded: what the log holds.
        remade: what the replay makes of it.
    """

    event: str
    stream_sequence: int
    type: str
    code: str
    recorded: str
    remade: str


def decision_differs(stored: StoredEvent, said: Sequence[Draft]) -> Divergence:
    """A decision that cannot be made again from what was known.

    Args:
        stored: the decision.
        said: what there is to decide instead, from the state right before it.
    """
    event, payload = stored.event, stored.payload()
    same = next((draft for draft in said if draft.id == event.id), None)
    recorded, remade = what(payload), ", ".join(what(draft.payload) for draft in said) or "nothing"
    if same is not None:
        where, was, now = _difference(stored, payload, same)
        recorded, remade = f"{recorded}, {where} {was}", f"{what(same.payload)}, {where} {now}"
    return Divergence(
        event=event.id,
        stream_sequence=stored.stream_sequence,
        type=event.type,
        code="decision",
        recorded=recorded,
        remade=remade,
    )


def what(payload: Payload) -> str:
    """A payload in a few words: its kind, and the step that it speaks of."""
    kind = payload.TYPE.removeprefix("swarm.").rsplit(".", 1)[0]
    if not isinstance(payload, StepPayload):
        step = getattr(payload, "step", None)
        return f"{kind} of {step}" if step else kind
    item = f", item {payload.item}" if payload.item else ""
    return (
        f"{kind} of {payload.step}, iteration {payload.iteration}, attempt {payload.attempt}{item}"
    )


def first_difference(was: JsonValue, now: JsonValue, path: str = "") -> tuple[str, str, str] | None:
    """Where two JSON values first differ, and what stands there; None if they are equal."""
    return next(_differences(was, now, path), None)


def _difference(stored: StoredEvent, payload: Payload, draft: Draft) -> tuple[str, str, str]:
    event = stored.event
    subject = subject_for(draft.run, draft.payload.TYPE, *draft.suffix)
    for name, was, now in (
        ("subject", event.subject, subject),
        ("cause", event.cause, draft.cause),
    ):
        if was != now:
            return name, _short(was), _short(now)
    found = first_difference(payload.model_dump(mode="json"), draft.payload.model_dump(mode="json"))
    return found or ("payload", "in other bytes", "in bytes of its own")


def _differences(was: object, now: object, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(was, dict) and isinstance(now, dict):
        for name in {**was, **now}:
            inner = f"{path}.{name}" if path else str(name)
            yield from _differences(was.get(name, _MISSING), now.get(name, _MISSING), inner)
        if list(was) != list(now):
            yield f"{path or 'payload'} (order of its fields)", _short(list(was)), _short(list(now))
    elif isinstance(was, list) and isinstance(now, list):
        for index in range(max(len(was), len(now))):
            one, other = (part[index] if index < len(part) else _MISSING for part in (was, now))
            yield from _differences(one, other, f"{path}.{index}")
    elif type(was) is not type(now) or was != now:
        at = 0
        if isinstance(was, str) and isinstance(now, str):
            pairs = enumerate(zip(was, now, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(was), len(now)))
        yield path, _short(was, at), _short(now, at)


def _short(value: object, at: int = 0) -> str:
    """The value as JSON; of a long text, what stands around the place."""
    if value is _MISSING:
        return "missing"
    if isinstance(value, str) and len(value) > _VALUE_CHARS:
        begin = max(0, at - _VALUE_CHARS // 2)
        value = value[begin : begin + _VALUE_CHARS]
        return f"at {begin} {to_json(value).decode()}"
    text = to_json(value).decode()
    return text if len(text) <= _VALUE_CHARS else text[:_VALUE_CHARS] + "…"
