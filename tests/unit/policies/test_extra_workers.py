"""More worker roles in the bundle: what they may do, and that everybody computes the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.nkey import AgentKey
from bus.payloads import PAYLOADS, StepClaimed
from bus.subjects import KEY_KINDS, ROLE_KINDS, kind_of, parse, subject_for
from policies.capabilities import Capabilities, queue_name, shipped_source
from policies.errors import PolicyNotUsable

KEY = AgentKey.generate().public
SHIPPED = Capabilities.shipped()
names = st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12).filter(
    lambda name: name not in SHIPPED.roles
)


@given(st.lists(names, max_size=6), st.randoms())
def test_the_same_roles_in_any_order_make_the_same_bundle(roles: list[str], order: object) -> None:
    shuffled = sorted(roles, key=lambda _: order.random())  # type: ignore[attr-defined]
    one, other = Capabilities.shipped(roles), Capabilities.shipped([*shuffled, *shuffled])
    assert one.digest == other.digest
    assert one.worker_roles == other.worker_roles


@given(st.lists(names, min_size=1, max_size=6))
def test_the_digest_tells_which_roles_there_are(roles: list[str]) -> None:
    extended = Capabilities.shipped(roles)
    assert extended.digest != SHIPPED.digest
    assert Capabilities.shipped([*roles, "zzzzzzzzzzzzzz"]).digest != extended.digest
    assert set(extended.worker_roles) == {*SHIPPED.worker_roles, *roles}


def test_without_more_roles_the_bundle_is_the_shipped_one() -> None:
    assert Capabilities.shipped([]).digest == SHIPPED.digest


@pytest.mark.parametrize("role", ["counter", "true", "null", "yes", "on", "n"])
def test_an_extra_role_may_do_what_an_agent_may(role: str) -> None:
    """Also where YAML would read its name as something else."""
    policy = Capabilities.shipped([role])
    for event_type in PAYLOADS:
        kind = kind_of(event_type)
        suffix: tuple[str, ...] = (role, "normal") if kind == "step.assigned" else (role,)
        suffix = suffix if kind in ROLE_KINDS else ()
        if kind in KEY_KINDS:
            suffix = (KEY,)
        as_coder = tuple("coder" if each == role else each for each in suffix)
        mine = policy.refusal(role, parse(subject_for("r", event_type, *suffix)))
        coders = SHIPPED.refusal("coder", parse(subject_for("r", event_type, *as_coder)))
        assert (mine is None) == (coders is None), kind
    assert SHIPPED.refusal(role, parse(subject_for("r", StepClaimed.TYPE, role)))


def test_nobody_else_may_take_from_the_queue_of_an_extra_role() -> None:
    policy = Capabilities.shipped(["counter"])
    next_message = f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{queue_name('counter')}"
    assert next_message in policy.permissions("counter", KEY).publish
    assert next_message in policy.permissions("coordinator", KEY).deny_publish
    assert next_message not in policy.permissions("coder", KEY).publish


@pytest.mark.parametrize("role", ["coder", "coordinator", "launcher"])
def test_a_role_of_the_bundle_is_not_extended(role: str) -> None:
    with pytest.raises(PolicyNotUsable, match=role):
        Capabilities.shipped([role])


@pytest.mark.parametrize("role", ["", "Counter", "a b", 'a": *agent\n  "b', "x" * 65, "poet\n"])
def test_what_is_no_role_name_is_refused(role: str) -> None:
    with pytest.raises(PolicyNotUsable):
        Capabilities.shipped([role])


def test_a_bundle_of_ones_own_may_have_a_rule_for_a_role_of_the_application() -> None:
    source = shipped_source().decode() + "  poet: {work: true, publish: [agent.started]}\n"
    policy = Capabilities.of(source, ["poet", "counter"])
    assert policy.worker_roles == (*SHIPPED.worker_roles, "poet", "counter")
    assert policy.call_refusal("poet", "model", "any")
    assert policy.call_refusal("counter", "model", "any") is None
    with pytest.raises(PolicyNotUsable, match="launcher"):
        Capabilities.of(source, ["launcher"])


def test_a_bundle_without_a_rule_for_them_takes_no_extra_roles() -> None:
    with pytest.raises(PolicyNotUsable, match="no rule `agent`"):
        Capabilities.of("version: 1\nroles: {}\n", ["poet"])
