"""Every permission of every role, each way: what the table says is allowed, the rest is not."""

from pathlib import Path
from typing import Final

import pytest
import yaml

from bus.payloads import PAYLOADS
from bus.subjects import ASSIGNED, KEY_KINDS, ROLE_KINDS, kind_of, subject_for
from policies.action import decide
from policies.capabilities import Capabilities
from policies.errors import InvalidAction
from tests.unit.policies.test_capabilities import broker_allows

POLICY = Capabilities.shipped()
KEY = "UKEY"
TABLE: Final[dict[str, list[str]]] = yaml.safe_load(
    Path(__file__).with_name("permissions.yaml").read_text()
)


def _kinds() -> list[str]:
    """Each kind of event; what is said of a step of the own role, and of another one."""
    found = []
    for kind in map(kind_of, PAYLOADS):
        if kind == ASSIGNED:
            found += [f"{kind}.{{own}}.normal", f"{kind}.stranger.high"]
        elif kind in ROLE_KINDS:
            found += [f"{kind}.{{own}}", f"{kind}.stranger"]
        else:
            found.append(f"{kind}.{KEY}" if kind in KEY_KINDS else kind)
    return found


ACTIONS: Final = (
    *(f"publish {kind}" for kind in _kinds()),
    "work",
    "read",
    "unseal",
    "provision",
    "call model:smollm2-135m",
    "call tool:shell",
    "call tool:run_python",
    "call tool:run_tests",
    "spend tokens:1",
    "spend tokens:1000000",
    "spend tokens:1000001",
    "spend tokens:4000000",
    "spend tokens:4000001",
    "spend requests:1",
    "spend requests:6000",
    "spend requests:6001",
    "spend cost:1",
    *(
        f"memory {access} {namespace}"
        for access in ("read", "write")
        for namespace in (
            "run/r1/plan",
            "run/r2/plan",
            "role/{own}/habits",
            "role/stranger/habits",
            "shared/facts",
            "user/ann/notes",
        )
    ),
)


def test_the_table_has_every_role() -> None:
    assert tuple(TABLE) == POLICY.roles


@pytest.mark.parametrize("role", POLICY.roles)
def test_a_role_may_do_what_the_table_says_and_nothing_else(role: str) -> None:
    allowed = TABLE[role] or []
    permissions = POLICY.permissions(role, KEY)
    tried = [action.replace("{own}", role) for action in ACTIONS]
    assert set(allowed) <= set(tried)
    for action in tried:
        decision = decide(POLICY, role, action, run="r1")
        assert decision.allowed == (action in allowed), action
        assert decision.rule.startswith(f"roles.{role}.")
        assert bool(decision.reason) != decision.allowed
        if action.startswith("publish "):
            kind, *suffix = _split(action.removeprefix("publish "))
            subject = subject_for("r1", f"swarm.{kind}.v1", *suffix)
            assert broker_allows(permissions, subject) == (action in allowed), action


def _split(text: str) -> list[str]:
    words = text.split(".")
    return [".".join(words[:2]), *words[2:]]


@pytest.mark.parametrize("role", ["stranger", "", "coder.x", "*"])
def test_nobody_else_may_do_anything(role: str) -> None:
    for action in ACTIONS:
        decision = decide(POLICY, role, action.replace("{own}", "coder"), run="r1")
        assert not decision.allowed
        assert "no capabilities" in decision.reason


@pytest.mark.parametrize(
    "action",
    [
        "",
        "fly",
        "publish",
        "publish step",
        "publish step.completed",  # of which role?
        "publish step.completed.coder.more",
        "publish step.completed.*",
        "publish >",
        "call smollm2",
        "call model:",
        "call person:ann",
        "memory burn shared/x",
        "spend tokens:many",
        "spend money:1",
        "work hard",
    ],
)
@pytest.mark.parametrize("role", ["coder", "stranger"])
def test_what_is_no_action_is_not_judged(action: str, role: str) -> None:
    with pytest.raises(InvalidAction):
        decide(POLICY, role, action)
