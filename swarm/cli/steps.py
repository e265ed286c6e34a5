"""What a person who watches a run gets to read of its events, a line each."""

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from swarm.view import RunEvent

_STEP_WIDTH: Final = 16
_TEXT_CHARS: Final = 120
Payload = Mapping[str, JsonValue]


def step_line(event: RunEvent) -> str | None:
    """One line for an event that a watching person wants to know of, None for the others."""
    if event.refused:
        return f"  refused event {event.stream_sequence}: {event.code}"
    line = _LINES.get(event.type)
    return None if line is None else line(event, event.payload or {})


def _works(event: RunEvent, payload: Payload) -> str:
    return f"  {_step(payload)} {_agent(event)} works"


def _done(event: RunEvent, payload: Payload) -> str:
    usage, duration = payload.get("usage"), payload.get("duration_ms")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else "?"
    seconds = duration / 1000 if isinstance(duration, int) else 0.0
    return f"  {_step(payload)} {_agent(event)} done    {seconds:6.1f} s  {tokens:>5} tokens"


def _failed(event: RunEvent, payload: Payload) -> str:
    reason = f"{payload.get('code')}: {_text(payload, 'message')}"
    return f"  {_step(payload)} {_agent(event)} failed  {reason}"


def _dead(event: RunEvent, payload: Payload) -> str:
    reason = f"after {payload.get('deliveries')} deliveries: {_text(payload, 'reason')}"
    return f"  {_step(payload)} {_agent(event)} gave up {reason}"


def _calls(event: RunEvent, payload: Payload) -> str:
    return f"  {_step(payload)} {_agent(event)} calls   {_text(payload, 'tool')}"


def _was_told(event: RunEvent, payload: Payload) -> str:
    outcome, tool, reason = (_text(payload, name) for name in ("outcome", "tool", "message"))
    told = f"{tool}: {reason}" if outcome != "answered" else tool
    return f"  {_step(payload)} {_agent(event)} {outcome:<7} {told}"


def _asks(event: RunEvent, payload: Payload) -> str:
    how = f"swarm approve {event.id}   or: swarm deny {event.id} --reason ..."
    return f"  {_step(payload)} waits for approval: {how}"


def _given(_: RunEvent, payload: Payload) -> str:
    return f"  approved by {_by(payload)}"


def _denied(_: RunEvent, payload: Payload) -> str:
    return f"  denied by {_by(payload)}"


def _paused(event: RunEvent, payload: Payload) -> str:
    return f"  paused by {_by(payload)}; to go on: swarm resume {_run(event)}"


def _resumed(_: RunEvent, payload: Payload) -> str:
    return f"  resumed by {_by(payload)}"


def _retried(_: RunEvent, payload: Payload) -> str:
    return f"  retried by {_by(payload)}"


def _cancelling(_: RunEvent, payload: Payload) -> str:
    return f"  to be cancelled, says {_by(payload)}"


def _cancelled(_: RunEvent, payload: Payload) -> str:
    return f"  cancelled by {_by(payload)}"


def _stalled(_: RunEvent, payload: Payload) -> str:
    return f"  nothing moves: {_text(payload, 'waits_for')}"


_LINES: Final[Mapping[str, Callable[[RunEvent, Payload], str]]] = {
    "swarm.step.claimed.v1": _works,
    "swarm.step.completed.v1": _done,
    "swarm.step.failed.v1": _failed,
    "swarm.assignment.dead.v1": _dead,
    "swarm.tool.called.v1": _calls,
    "swarm.tool.answered.v1": _was_told,
    "swarm.approval.requested.v1": _asks,
    "swarm.approval.given.v1": _given,
    "swarm.approval.denied.v1": _denied,
    "swarm.pause.requested.v1": _paused,
    "swarm.resume.requested.v1": _resumed,
    "swarm.retry.requested.v1": _retried,
    "swarm.cancel.requested.v1": _cancelling,
    "swarm.run.cancelled.v1": _cancelled,
    "swarm.stall.noticed.v1": _stalled,
}


def _step(payload: Payload) -> str:
    step = f"{payload.get('step', '')}"
    if payload.get("iteration", 1) != 1:
        step += f" #{payload['iteration']}"
    if payload.get("item"):
        step += f" [{payload['item']}]"
    return f"{step:<{_STEP_WIDTH}}"


def _agent(event: RunEvent) -> str:
    return f"{(event.source or '').split('/')[-1]:<14}"


def _by(payload: Payload) -> str:
    reason = _text(payload, "reason")
    return f"{payload.get('requested_by')}" + (f": {reason}" if reason else "")


def _run(event: RunEvent) -> str:
    """The run, as the subject has it: evt.<partition>.<run>...."""
    return event.subject.split(".")[2]


def _text(payload: Payload, name: str) -> str:
    return str(payload.get(name, ""))[:_TEXT_CHARS]
