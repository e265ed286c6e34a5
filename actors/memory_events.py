"""What an event of the audit log means to the memory. Pure.

Who may write where is judged by the policy that was in force at the event's place in the log,
so that the memory can be made again later and comes out the same.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from bus.event import Event
from bus.memory_payloads import (
    ItemReference,
    MemoryDeleted,
    MemoryQuarantined,
    MemoryReleased,
    MemoryWritten,
)
from bus.payloads import Payload, RunCompleted, RunFailed
from bus.subjects import DEFAULT_TENANT, is_token, tenant_of
from bus.trust_payloads import SubjectForgotten
from policies.capabilities import Capabilities
from storage.memory_change import (
    Cause,
    Deny,
    Forget,
    MemoryChange,
    Quarantine,
    Release,
    Version,
    Write,
)

EPISODES: Final = "episodes"
"""The last part of the namespaces that hold what happened in runs."""
_EPISODE_CHARS: Final = 8_000
_USER: Final = "user"
_NUL: Final = "\0"
"""Not taken by Postgres as text."""

PolicyOf = Callable[[str], Capabilities]
"""The policy with a digest."""


def change_of(
    event: Event,
    *,
    place: int,
    stored_at: datetime,
    policy_of: PolicyOf,
    objective: str = "",
) -> MemoryChange | None:
    """The change that an accepted event makes, None for one that makes none.

    Args:
        event: opened as far as it can be; what is erased stays without content.
        place: its sequence in the stream.
        stored_at: when the stream stored it.
        policy_of: finds the policy that is named in the event.
        objective: of the run that failed, if the event says that one did.
    """
    cause = Cause(
        event=event.id,
        place=place,
        stored_at=stored_at,
        author=f"{event.role}/{event.agent}",
        author_key=event.key,
        run=event.run,
        tenant=tenant_of(event.run) or DEFAULT_TENANT,
        subject=event.sealed_for or event.on_behalf_of,
    )
    match event.payload():
        case MemoryWritten() | MemoryDeleted() as wanted:
            return _wanted(cause, event, wanted, policy_of(event.policy))
        case RunCompleted() | RunFailed() as end:
            return _episode(cause, event, end, objective)
        case other:
            return _ruled(cause, other)


def _ruled(cause: Cause, payload: Payload) -> MemoryChange | None:
    """What the authority says of the memory as a whole."""
    match payload:
        case MemoryQuarantined(agent=agent, since=since):
            return Quarantine(cause=cause, agent=agent, since=since)
        case MemoryReleased(quarantine=quarantine):
            return Release(cause=cause, quarantine=quarantine)
        case SubjectForgotten(subject=person):
            return Forget(cause=cause, person=person)
    return None


def episodes_of(user: str | None, run: str) -> str:
    """The namespace of what happened in a run: its user's, or its own where it has no user."""
    owner = f"{_USER}/{user}" if user and is_token(user) else f"run/{run}"
    return f"{owner}/{EPISODES}"


def _is_refused(event: Event, namespace: str, policy: Capabilities) -> bool:
    """A person's namespace is written on behalf of that person only, whoever may write there."""
    first, whose, *_ = namespace.split("/")
    if first == _USER and whose != event.on_behalf_of:
        return True
    return policy.memory_refusal(event.role, "write", namespace, run=event.run) is not None


def _wanted(
    cause: Cause, event: Event, wanted: MemoryWritten | MemoryDeleted, policy: Capabilities
) -> MemoryChange:
    if _is_refused(event, wanted.namespace, policy):
        return Deny(cause=cause, namespace=wanted.namespace, item=wanted.item, base=wanted.base)
    return _write(cause, wanted, is_erased=event.is_erased)


def _write(cause: Cause, wanted: MemoryWritten | MemoryDeleted, *, is_erased: bool) -> Write:
    if isinstance(wanted, MemoryDeleted):
        return Write(
            cause=cause,
            namespace=wanted.namespace,
            item=wanted.item,
            base=wanted.base,
            is_deletion=True,
            reason="" if is_erased else wanted.reason,
        )
    life = None if wanted.ttl_s is None else cause.stored_at + timedelta(seconds=wanted.ttl_s)
    return Write(
        cause=cause,
        namespace=wanted.namespace,
        item=wanted.item,
        kind=wanted.kind,
        base=wanted.base,
        content=None if is_erased else wanted.content,
        metadata={} if is_erased else wanted.metadata,
        reason="" if is_erased else wanted.reason,
        step=wanted.step,
        sources=_versions(wanted.derived_from),
        expires_at=life,
    )


def _episode(cause: Cause, event: Event, end: RunCompleted | RunFailed, objective: str) -> Write:
    """What a run came to: later runs of the same user may read it."""
    done = isinstance(end, RunCompleted)
    if isinstance(end, RunCompleted):
        text = end.document
    else:
        text = f"{objective}\n\nThe run failed: {end.message} ({end.code})"
    return Write(
        cause=cause,
        namespace=episodes_of(event.on_behalf_of, event.run),
        item=event.run,
        kind="episodic",
        content=None if event.is_erased else text.replace(_NUL, "")[:_EPISODE_CHARS],
        metadata={"run": event.run, "outcome": "completed" if done else "failed"},
        reason="The run was completed." if done else "The run failed.",
        sources=_versions(end.recalled) if isinstance(end, RunCompleted) else (),
    )


def _versions(references: tuple[ItemReference, ...]) -> tuple[Version, ...]:
    return tuple(
        Version(namespace=each.namespace, item=each.item, version=each.version)
        for each in references
    )
