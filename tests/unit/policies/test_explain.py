"""A policy in plain English, and what is different between two."""

import pytest

from policies.capabilities import Capabilities
from policies.difference import Change, compare
from policies.explain import explain

BUNDLE = b"""
version: 1
prices: {small: {prompt: 1, completion: 2}}
roles:
  writer:
    publish: ["step.completed.{role}", agent.started]
    work: true
    read: true
    call: {models: [small, big], tools: ["*"]}
    spend: {tokens_per_run: 1000, requests_per_minute: unlimited}
    memory: {read: ["shared/**"], write: ["role/{role}/*", "run/{run}/**"]}
  keeper: {provision: true, personal_inbox: false, call: {models: [small]}}
  mute: {}
"""
POLICY = Capabilities(BUNDLE)


def test_everything_that_a_role_may_do_is_a_sentence() -> None:
    assert explain(POLICY, "writer") == (
        "may publish agent.started and step.completed.writer, and objects under its own key.",
        "may take assignments of its own role.",
        "may read every event of the log.",
        "may read and say what is personal.",
        "may call the models big and small.",
        "may call any tool.",
        "may spend 1,000 tokens on one run and any number of requests of a model in a minute.",
        "may read memory shared/**.",
        "may write memory role/writer/* and run/{run}/**.",
    )
    assert explain(POLICY, "keeper") == (
        "may make the streams and queues, and purge runs that are over.",
        "listens on the default inbox of plain NATS clients.",
        "may call the model small.",
    )


@pytest.mark.parametrize("role", ["mute", "stranger"])
def test_of_whom_nothing_is_said_may_do_nothing(role: str) -> None:
    assert explain(POLICY, role) == ("may do nothing.",)


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        (b"work: true", b"work: false", Change(role="writer", kind="lost", what="work")),
        (b"agent.started", b"agent.stopped", None),
        (b"[small, big]", b"[small]", Change(role="writer", kind="lost", what="call model big")),
        (
            b"tokens_per_run: 1000",
            b"tokens_per_run: unlimited",
            Change(role="writer", kind="changed", what="tokens_per_run 1000 -> unlimited"),
        ),
        (
            b'read: ["shared/**"]',
            b'read: ["shared/**", "a/b"]',
            Change(role="writer", kind="gained", what="memory read a/b"),
        ),
        (
            b"personal_inbox: false",
            b"personal_inbox: true",
            Change(role="keeper", kind="changed", what="the inbox it listens on"),
        ),
        (b"  mute: {}", b"", Change(role="mute", kind="lost", what="the whole role")),
        (
            b"completion: 2",
            b"completion: 3",
            Change(role="", kind="changed", what="the price of model small"),
        ),
    ],
)
def test_each_change_is_named(old: bytes, new: bytes, change: Change | None) -> None:
    changed = Capabilities(BUNDLE.replace(old, new))
    found = compare(POLICY, changed)
    assert found == (change,) if change else len(found) == 2
    back = compare(changed, POLICY)
    turned = {"gained": "lost", "lost": "gained", "changed": "changed"}
    assert sorted(turned[each.kind] for each in back) == sorted(each.kind for each in found)
    assert compare(changed, changed) == ()
