"""What is different between two policies, and what a policy would have refused. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from bus.event import StoredEvent
from bus.payloads import StepCompleted
from bus.policy_history import FOUNDING_TYPES
from bus.subjects import parse
from policies.bundle import PeopleRule, Spend
from policies.capabilities import Capabilities

_NO_MODEL: Final = "none"
"""In the answer of an agent that asked none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a role may do under one policy and not, or otherwise, under another."""

    role: str
    kind: Literal["gained", "lost", "changed"]
    what: str


def compare(old: Capabilities, new: Capabilities) -> tuple[Change, ...]:
    """Every difference, in the order of the roles; nothing for policies that allow the same."""
    roles = dict.fromkeys((*old.roles, *new.roles))
    changes = [change for role in roles for change in _changes(old, new, role)]
    for model in sorted({*old.prices, *new.prices}):
        was, now = old.prices.get(model), new.prices.get(model)
        if was != now:
            changes.append(Change(role="", kind="changed", what=f"the price of model {model}"))
    return (*changes, *_people_changes(old.people, new.people))


def would_refuse(policy: Capabilities, stored: StoredEvent) -> str | None:
    """Why an event that was accepted would be refused under another policy; None if it would not.

    What makes identities and policies known is permitted under any.
    """
    event = stored.event
    if event.type in FOUNDING_TYPES:
        return None
    refusal = policy.refusal(event.role, parse(event.subject))
    payload = stored.payload()
    if refusal is None and isinstance(payload, StepCompleted) and payload.model != _NO_MODEL:
        return policy.call_refusal(event.role, "model", payload.model)
    return refusal


def _people_changes(old: PeopleRule, new: PeopleRule) -> Iterator[Change]:
    if old.tokens_per_day != new.tokens_per_day:
        what = f"tokens_per_day of each person {old.tokens_per_day} -> {new.tokens_per_day}"
        yield Change(role="people", kind="changed", what=what)
    for name in sorted({*old.named, *new.named}):
        was, now = old.named.get(name, "as others"), new.named.get(name, "as others")
        if was != now:
            what = f"tokens_per_day of {name} {was} -> {now}"
            yield Change(role="people", kind="changed", what=what)


def _changes(old: Capabilities, new: Capabilities, role: str) -> Iterator[Change]:
    was, now = old.capability(role), new.capability(role)
    if was is None or now is None:
        yield Change(role=role, kind="gained" if was is None else "lost", what="the whole role")
        return
    lists = {
        "publish": (was.publish, now.publish),
        "call model": (was.call.models, now.call.models),
        "call tool": (was.call.tools, now.call.tools),
        "memory read": (was.memory.read, now.memory.read),
        "memory write": (was.memory.write, now.memory.write),
    }
    for name, (before, after) in lists.items():
        for each in sorted(set(before) - set(after)):
            yield Change(role=role, kind="lost", what=f"{name} {each}")
        for each in sorted(set(after) - set(before)):
            yield Change(role=role, kind="gained", what=f"{name} {each}")
    for name in ("work", "read", "unseal", "provision"):
        if getattr(was, name) != getattr(now, name):
            yield Change(role=role, kind="gained" if getattr(now, name) else "lost", what=name)
    if was.personal_inbox != now.personal_inbox:
        yield Change(role=role, kind="changed", what="the inbox it listens on")
    for name in Spend.model_fields:
        limits = getattr(was.spend, name), getattr(now.spend, name)
        if limits[0] != limits[1]:
            yield Change(role=role, kind="changed", what=f"{name} {limits[0]} -> {limits[1]}")
