"""An action in words, and whether a policy lets a role do it, by which rule. Pure.

publish KIND[.TOKEN...]     publish step.completed.coder
call model:NAME             call tool:NAME
memory read NAMESPACE       memory write NAMESPACE
spend tokens:NUMBER         on one run; likewise cost:NUMBER, and requests:NUMBER a minute
work                        take assignments of its own role
read                        read every event of the log
unseal                      read and say what is personal
provision                   make the streams and the queues
"""

from dataclasses import dataclass
from typing import Final

from bus.errors import SubjectMismatch
from bus.subjects import parse, partition_of
from policies.bundle import UNLIMITED, Capability
from policies.capabilities import Capabilities, MemoryAccess, call_rule, namespace_rule
from policies.errors import InvalidAction

_RUN: Final = "run"
_SPENDING: Final = {
    "tokens": "tokens_per_run",
    "requests": "requests_per_minute",
    "cost": "cost_per_run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether an action is allowed.

    Attributes:
        rule: the place in the bundle that says so, and what stands there.
        reason: why not; empty if it is allowed.
    """

    allowed: bool
    rule: str
    reason: str = ""


def decide(policy: Capabilities, role: str, action: str, *, run: str = "") -> Decision:
    """Whether a role may do what the words say, while it works for a run.

    Raises:
        InvalidAction: nobody knows what the words mean.
    """
    words = action.split()
    capability = policy.capability(role)
    if capability is None:
        _check(words)
        return Decision(
            allowed=False, rule="roles: nothing", reason=f"role {role!r} has no capabilities"
        )
    match words:
        case ["publish", kind]:
            return _publish(policy, role, kind)
        case ["call", target]:
            return _call(policy, capability, role, target)
        case ["memory", "read" | "write" as access, namespace]:
            return _memory(policy, capability, role, access, namespace, run)
        case ["spend", amount]:
            return _spend(capability, role, amount)
        case ["work" | "read" | "unseal" | "provision" as name]:
            return _flag(capability, role, name)
    raise InvalidAction(f"{action[:100]!r} is no action")


def _check(words: list[str]) -> None:
    """See that the words are an action, for a role of which nothing is said."""
    decide(_EVERYBODY, "nobody", " ".join(words))


def _flag(capability: Capability, role: str, name: str) -> Decision:
    if name == "unseal" and capability.work:
        name = "work"  # which implies it
    allowed: bool = getattr(capability, name)
    reason = "" if allowed else f"role {role!r} may not {name}"
    rule = f"roles.{role}.{name}: {str(allowed).lower()}"
    return Decision(allowed=allowed, rule=rule, reason=reason)


def _publish(policy: Capabilities, role: str, kind: str) -> Decision:
    try:
        subject = parse(f"evt.{partition_of(_RUN)}.{_RUN}.{kind}")
    except SubjectMismatch as error:
        raise InvalidAction(f"{kind[:100]!r} is no kind of event: {error}") from error
    return _decided(
        f"roles.{role}.publish", policy.publish_rule(role, subject), policy.refusal(role, subject)
    )


def _call(policy: Capabilities, capability: Capability, role: str, target: str) -> Decision:
    what, _, name = target.partition(":")
    if not name:
        raise InvalidAction(f"{target[:100]!r} is neither model:NAME nor tool:NAME")
    match what:
        case "model":
            rule = call_rule(capability.call.models, name)
            refusal = policy.call_refusal(role, "model", name)
        case "tool":
            rule = call_rule(capability.call.tools, name)
            refusal = policy.call_refusal(role, "tool", name)
        case _:
            raise InvalidAction(f"{target[:100]!r} is neither model:NAME nor tool:NAME")
    return _decided(f"roles.{role}.call.{what}s", rule, refusal)


def _memory(
    policy: Capabilities,
    capability: Capability,
    role: str,
    access: MemoryAccess,
    namespace: str,
    run: str,
) -> Decision:
    rules = capability.memory.read if access == "read" else capability.memory.write
    rule = namespace_rule(rules, role, namespace, run)
    refusal = policy.memory_refusal(role, access, namespace, run=run)
    return _decided(f"roles.{role}.memory.{access}", rule, refusal)


def _spend(capability: Capability, role: str, amount: str) -> Decision:
    what, _, number = amount.partition(":")
    if what not in _SPENDING or not number.isdecimal():
        raise InvalidAction(f"{amount[:100]!r} is none of {', '.join(_SPENDING)}:NUMBER")
    name = _SPENDING[what]
    limit: int | str = getattr(capability.spend, name)
    allowed = limit == UNLIMITED or (isinstance(limit, int) and int(number) <= limit)
    reason = "" if allowed else f"role {role!r} may spend {limit} at most"
    return Decision(allowed=allowed, rule=f"roles.{role}.spend.{name}: {limit}", reason=reason)


def _decided(place: str, rule: str | None, refusal: str | None) -> Decision:
    if refusal is None and rule is not None:
        return Decision(allowed=True, rule=f"{place}: {rule}")
    return Decision(allowed=False, rule=f"{place}: no rule", reason=refusal or "")


_EVERYBODY: Final = Capabilities(b"version: 1\nroles: {nobody: {}}")
