"""Policies: canonical documents, rules that only ever allow, and three that agree."""

import json
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.policy import PublishRules
from bus.subjects import Subject
from policies.capabilities import Capabilities
from tests.unit.policies.test_capabilities import broker_allows

KEY = "UKEY"
ROLES = ("a", "b", "c")
WORDS = ("x", "y", "coder")
tokens = st.sampled_from([*WORDS, "*", "{role}"])
patterns = st.builds(
    lambda kind, suffix: ".".join((kind, *suffix)),
    st.sampled_from(["run.submitted", "step.completed", "step.claimed"]),
    st.lists(tokens, max_size=2),
)
names = st.sampled_from(["*", "small", "big"])
namespaces = st.sampled_from(["**", "shared/**", "run/{run}/**", "role/{role}/*", "a/b"])
limits = st.one_of(st.integers(0, 10**6), st.just("unlimited"))
capabilities = st.fixed_dictionaries(
    {},
    optional={
        "publish": st.lists(patterns, max_size=5),
        "work": st.booleans(),
        "read": st.booleans(),
        "provision": st.booleans(),
        "call": st.fixed_dictionaries({"models": st.lists(names, max_size=2)}),
        "spend": st.fixed_dictionaries({"tokens_per_run": limits, "requests_per_minute": limits}),
        "memory": st.fixed_dictionaries({"read": st.lists(namespaces, max_size=3)}),
    },
)
bundles = st.dictionaries(st.sampled_from(ROLES), capabilities)
subjects = st.builds(
    lambda kind, suffix: Subject(partition="00", run="r", kind=kind, suffix=tuple(suffix)),
    st.sampled_from(["run.submitted", "step.completed", "step.claimed", "step.failed"]),
    st.lists(st.sampled_from([*WORDS, *ROLES]), max_size=3),
)
roles = st.sampled_from([*ROLES, "stranger"])


def policy_of(bundle: dict[str, Any]) -> Capabilities:
    return Capabilities(yaml.safe_dump({"version": 1, "roles": bundle}).encode())


@given(bundles, roles, subjects)
def test_the_sender_the_broker_and_a_receiver_of_the_document_agree(
    bundle: dict[str, Any], role: str, subject: Subject
) -> None:
    policy = policy_of(bundle)
    allowed = policy.refusal(role, subject) is None
    assert broker_allows(policy.permissions(role, KEY), str(subject)) == allowed
    assert (PublishRules(policy.document).refusal(role, subject) is None) == allowed
    assert (policy.publish_rule(role, subject) is not None) == allowed


@given(bundles, st.data())
@settings(max_examples=50)
def test_a_bundle_only_ever_narrows_when_a_rule_is_removed(
    bundle: dict[str, Any], data: st.DataObject
) -> None:
    places = [
        (role, name, number)
        for role, rules in bundle.items()
        for name, listed in _lists(rules).items()
        for number in range(len(listed))
    ]
    if not places:
        return
    role, name, number = data.draw(st.sampled_from(places))
    wide, narrowed = policy_of(bundle), json.loads(json.dumps(bundle))
    del _lists(narrowed[role])[name][number]
    narrow = policy_of(narrowed)
    for _ in range(5):
        who, subject = data.draw(roles), data.draw(subjects)
        if narrow.refusal(who, subject) is None:
            assert wide.refusal(who, subject) is None
        for model in ("small", "big", "other"):
            if narrow.call_refusal(who, "model", model) is None:
                assert wide.call_refusal(who, "model", model) is None
        for namespace in ("shared/x", "run/r1/x", "run/r2/x", "role/a/x", "a/b"):
            if narrow.memory_refusal(who, "read", namespace, run="r1") is None:
                assert wide.memory_refusal(who, "read", namespace, run="r1") is None


@given(bundles, st.randoms(use_true_random=False))
def test_the_document_does_not_depend_on_how_the_bundle_was_written(
    bundle: dict[str, Any], order: Any
) -> None:
    shuffled = {
        role: {
            name: order.sample(rules[name], len(rules[name])) if name == "publish" else rules[name]
            for name in order.sample(sorted(rules), len(rules))
        }
        for role, rules in (
            (each, bundle[each]) for each in order.sample(sorted(bundle), len(bundle))
        )
    }
    one, other = policy_of(bundle), policy_of(shuffled)
    assert one.document == other.document
    assert one.digest == other.digest
    again = Capabilities(one.document.encode())
    assert again.document == one.document
    told = json.loads(one.document)
    assert one.document == json.dumps(
        told, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def _lists(rules: dict[str, Any]) -> dict[str, list[str]]:
    return {
        "publish": rules.get("publish", []),
        "models": rules.get("call", {}).get("models", []),
        "memory": rules.get("memory", {}).get("read", []),
    }
