"""Filters over the subjects of the log: what they match, and what they do not."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import SubjectMismatch
from bus.payloads import PAYLOADS
from bus.policy_history import FOUNDING_TYPES
from bus.subjects import (
    ALL_EVENTS,
    KEY_KINDS,
    ROLE_KINDS,
    SYSTEM_RUN,
    TRUST_RUN,
    collide,
    group_filter,
    kind_filter,
    kind_of,
    run_filter,
    subject_for,
)
from bus.trust_log import changes_beside, is_change
from tests.unit.serve.fakes import matches

SUFFIXES = ("coder", "normal")
FILTERS = st.builds(
    lambda tokens, rest: ".".join([*tokens, *rest]),
    st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3),
    st.sampled_from([(), (">",)]),
)
SUBJECTS = [".".join(each) for length in range(1, 6) for each in product("ab", repeat=length)]
"""Every one that such filters can tell apart."""


def subject_of(event_type: str, run: str = "r1") -> str:
    kind = kind_of(event_type)
    length = 2 if kind == "step.assigned" else int(kind in ROLE_KINDS | KEY_KINDS)
    return subject_for(run, event_type, *SUFFIXES[:length])


@pytest.mark.parametrize("event_type", sorted(PAYLOADS))
def test_a_kind_is_found_in_every_run_and_no_other_is(event_type: str) -> None:
    wanted = kind_filter(kind_of(event_type))
    for run in ("r1", "another", "swarm"):
        found = [each for each in PAYLOADS if matches(wanted, subject_of(each, run))]
        assert found == [event_type]


def test_a_group_of_kinds_is_found_in_one_run_only() -> None:
    wanted = group_filter("r1", "approval")
    found = {kind_of(each) for each in PAYLOADS if matches(wanted, subject_of(each))}
    assert found == {"approval.requested", "approval.given", "approval.denied"}
    assert not any(matches(wanted, subject_of(each, "r2")) for each in PAYLOADS)


@pytest.mark.parametrize("kind", ["", "run", "run.*", "run.>", "*.*", "a.b.c", "run.failed\n"])
def test_what_is_not_a_kind_makes_no_filter(kind: str) -> None:
    with pytest.raises(SubjectMismatch):
        kind_filter(kind)


@pytest.mark.parametrize(("run", "group"), [("*", "approval"), ("r1", ">"), ("r.1", "a")])
def test_what_is_not_a_token_makes_no_filter(run: str, group: str) -> None:
    with pytest.raises(SubjectMismatch):
        group_filter(run, group)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("evt.>", "evt.05.r1.run.completed", True),
        ("evt.05.r1.run.completed", "evt.05.r1.run.completed", True),
        ("evt.05.r1.run.completed", "evt.05.r1.run.failed", False),
        ("evt.*.*.run.completed", "evt.05.r1.run.completed", True),
        ("evt.*.*.run.completed", "evt.05.trust.identity.>", False),
        ("evt.*.*.identity.issued.>", "evt.05.trust.identity.>", True),
        ("evt.05.r1.run.completed", "evt.05.r1.run.completed.coder", False),
        ("evt.05.r1.run", "evt.05.r1.run.>", False),
    ],
)
def test_filters_collide_where_a_subject_can_match_both(
    one: str, other: str, *, expected: bool
) -> None:
    assert collide(one, other) is collide(other, one) is expected


@given(FILTERS, FILTERS)
def test_filters_collide_if_and_only_if_they_share_a_subject(one: str, other: str) -> None:
    shared = any(matches(one, each) and matches(other, each) for each in SUBJECTS)
    assert collide(one, other) is shared


def test_who_reads_a_part_of_the_log_is_given_every_change_of_trust_beside_it() -> None:
    beside = changes_beside(run_filter("r1"))
    changes = [subject_of(each, TRUST_RUN) for each in sorted(FOUNDING_TYPES)]
    for change in changes:
        assert is_change(change)
        assert sum(matches(each, change) for each in beside) == 1
    others = [subject_of(each, run) for each in PAYLOADS for run in ("r1", SYSTEM_RUN)]
    assert not any(is_change(each) for each in others)


def test_who_may_be_reading_changes_of_trust_anyway_is_given_none_beside() -> None:
    for read in (ALL_EVENTS, run_filter(TRUST_RUN), kind_filter("policy.adopted")):
        assert changes_beside(read) == ()
