"""A policy in plain English. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from policies.bundle import ANY, UNLIMITED, Capability, PeopleRule, Spend
from policies.capabilities import Capabilities

_SPENDS: Final = {
    "tokens_per_run": "tokens on one run",
    "requests_per_minute": "requests of a model in a minute",
    "cost_per_run": "millionths of the currency on one run",
}


def explain(policy: Capabilities, role: str) -> tuple[str, ...]:
    """What a role may do, a sentence each; that it may do nothing, if so."""
    capability = policy.capability(role)
    sentences = () if capability is None else tuple(_sentences(capability, role))
    return sentences or ("may do nothing.",)


def explain_people(rule: PeopleRule) -> tuple[str, ...]:
    """What people may use up, a sentence each."""
    named = (
        f"{name} may use up {_tokens(limit)} a day." for name, limit in sorted(rule.named.items())
    )
    return (f"each may use up {_tokens(rule.tokens_per_day)} a day.", *named)


def _tokens(limit: int | str) -> str:
    return f"{limit:,} tokens" if isinstance(limit, int) else "any number of tokens"


def _sentences(capability: Capability, role: str) -> Iterator[str]:
    own = (each.replace("{role}", role) for each in capability.publish)
    if capability.publish:
        yield f"may publish {_listed(own)}, and objects under its own key."
    flags = {
        "may take assignments of its own role.": capability.work,
        "may read every event of the log.": capability.read,
        "may read and say what is personal.": capability.unseal or capability.work,
        "may make the streams and queues, and purge runs that are over.": capability.provision,
        "listens on the default inbox of plain NATS clients.": not capability.personal_inbox,
    }
    yield from (sentence for sentence, is_so in flags.items() if is_so)
    yield from _calls(capability)
    spends = tuple(_limits(capability.spend))
    if spends:
        yield f"may spend {_listed(spends)}."
    memory = {"read": capability.memory.read, "write": capability.memory.write}
    for verb, names in memory.items():
        if names:
            yield f"may {verb} memory {_listed(each.replace('{role}', role) for each in names)}."


def _calls(capability: Capability) -> Iterator[str]:
    for names, what in ((capability.call.models, "model"), (capability.call.tools, "tool")):
        if ANY in names:
            yield f"may call any {what}."
        elif names:
            yield f"may call the {what}{'s' * (len(names) > 1)} {_listed(names)}."


def _limits(spend: Spend) -> Iterator[str]:
    for name, unit in _SPENDS.items():
        limit = getattr(spend, name)
        if limit == UNLIMITED:
            yield f"any number of {unit}"
        elif limit:
            yield f"{limit:,} {unit}"


def _listed(texts: Iterable[str]) -> str:
    *most, last = tuple(texts)
    return f"{', '.join(most)} and {last}" if most else last
