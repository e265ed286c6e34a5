"""The subject grammar: one spelling for each subject, and nothing else is one."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bus.errors import SubjectMismatch
from bus.payloads import PAYLOADS
from bus.subjects import (
    DEFAULT_TENANT,
    KEY_KINDS,
    PARTITIONS,
    ROLE_KINDS,
    Subject,
    is_token,
    kind_of,
    parse,
    partition_of,
    run_filter,
    run_of,
    subject_for,
    tenant_filter,
    tenant_of,
)

TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
TYPES = st.sampled_from(sorted(PAYLOADS))


def suffix_length(event_type: str) -> int:
    kind = kind_of(event_type)
    return 2 if kind == "step.assigned" else int(kind in ROLE_KINDS | KEY_KINDS)


@given(TOKENS, TYPES, st.lists(TOKENS, min_size=2, max_size=2))
def test_a_built_subject_is_parsed_back(run: str, event_type: str, tokens: list[str]) -> None:
    suffix = tokens[: suffix_length(event_type)]
    text = subject_for(run, event_type, *suffix)
    subject = parse(text)
    assert str(subject) == text
    assert (subject.run, subject.kind, subject.suffix) == (run, kind_of(event_type), tuple(suffix))
    tenant = tenant_of(run)
    assert subject.partition == (
        f"t-{tenant}" if tenant else f"{int(subject.partition) % PARTITIONS:02d}"
    )
    assert text.startswith(run_filter(run).removesuffix(">"))


@given(st.text() | st.from_regex(r"evt\.[0-9]{2}(\.[a-z*>]{1,9}){2,6}", fullmatch=True))
@example("evt.>")
@example("evt.*.r1.run.submitted")
@example("evt.00.r1.run.submitted\n")
def test_no_other_string_parses(text: str) -> None:
    try:
        subject = parse(text)
    except SubjectMismatch:
        return
    assert str(subject) == text
    assert not any(character in text for character in "*> \t\r\n")


@given(TOKENS, st.integers(min_value=0), st.characters(codec="utf-8"))
def test_a_changed_partition_run_or_kind_is_another_subject(
    run: str, position: int, other: str
) -> None:
    text = subject_for(run, "swarm.run.submitted.v1")
    place = position % len(text)
    assume(text[place] != other)
    mutated = text[:place] + other + text[place + 1 :]
    try:
        assert parse(mutated) != parse(text)
    except SubjectMismatch:
        return


@given(st.text(max_size=80))
@example("*")
@example(">")
@example("a.b")
@example("a b")
@example("a\n")
@example("")
@example("x" * 65)
@example("é")
def test_only_tokens_get_into_a_subject(text: str) -> None:
    if is_token(text):
        assert text.isascii()
        assert not set(text) & set("*>. \t\r\n")
        return
    with pytest.raises(SubjectMismatch):
        subject_for(text, "swarm.run.submitted.v1")
    with pytest.raises(SubjectMismatch):
        subject_for("r1", "swarm.step.claimed.v1", text)
    with pytest.raises(SubjectMismatch):
        run_filter(text)


@given(TYPES, st.lists(st.just("coder"), max_size=4))
def test_a_kind_takes_its_own_number_of_suffix_tokens(event_type: str, suffix: list[str]) -> None:
    if len(suffix) == suffix_length(event_type):
        subject_for("r1", event_type, *suffix)
        return
    with pytest.raises(SubjectMismatch, match="suffix"):
        subject_for("r1", event_type, *suffix)


@given(st.text(max_size=40))
@example("swarm.step.completed.v0")
@example("swarm.step.completed.v1\n")
@example("swarm.step.*.v1")
@example("swarm.step.v1")
def test_only_event_types_have_a_kind(text: str) -> None:
    try:
        kind = kind_of(text)
    except SubjectMismatch:
        return
    assert text.startswith(f"swarm.{kind}.v")
    assert all(part.isascii() and part.isalpha() for part in kind.split("."))


def test_a_run_keeps_its_partition_in_every_release() -> None:
    """Partition owners and stored subjects depend on it."""
    assert partition_of("r1") == f"{0x82 % 16:02d}"
    assert subject_for("r1", "swarm.run.failed.v1") == "evt.02.r1.run.failed"


@given(
    st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True),
    st.from_regex(r"r[0-9a-f]{20}", fullmatch=True),
)
def test_a_run_of_a_tenant_is_in_its_partition_and_in_no_other(tenant: str, own: str) -> None:
    run = run_of(tenant, own)
    if tenant == DEFAULT_TENANT:
        assert (run, tenant_of(run)) == (own, None)
        return
    assert tenant_of(run) == tenant
    assert run_filter(run).startswith(tenant_filter(tenant).removesuffix(">"))


@given(TOKENS)
def test_a_run_is_in_the_partition_of_the_tenant_that_its_id_names_alone(run: str) -> None:
    tenant = tenant_of(run)
    assert (tenant is None) == partition_of(run).isdecimal()
    assert tenant is None or run.startswith(f"{tenant}_")


@pytest.mark.parametrize("tenant", ["", "default", "Acme", "a_b", "a.b", "*", ">", "a" * 33, "07 "])
def test_what_names_no_tenant_has_no_filter(tenant: str) -> None:
    with pytest.raises(SubjectMismatch):
        tenant_filter(tenant)


def test_every_kind_of_event_has_two_words() -> None:
    """`parse` takes the first two tokens after the run for the kind."""
    assert all(kind_of(event_type).count(".") == 1 for event_type in PAYLOADS)


def test_the_role_of_a_subject_is_its_first_suffix_token() -> None:
    assert Subject(partition="00", run="r", kind="step.claimed", suffix=("coder",)).role == "coder"
    assert Subject(partition="00", run="r", kind="identity.issued", suffix=("U1",)).role is None
