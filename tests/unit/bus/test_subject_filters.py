"""Filters over the subjects of the log: what they match, and what they do not."""

import pytest

from bus.errors import SubjectMismatch
from bus.payloads import PAYLOADS
from bus.subjects import (
    KEY_KINDS,
    ROLE_KINDS,
    group_filter,
    kind_filter,
    kind_of,
    subject_for,
)
from tests.unit.serve.fakes import matches

SUFFIXES = ("coder", "normal")


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
