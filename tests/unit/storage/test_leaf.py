"""What the audit log's tree commits to."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.subjects import SYSTEM_RUN
from storage.leaf import AuditRecord, decode_envelope, encode_envelope, leaf_of, run_of

RECORD = AuditRecord(
    stream_sequence=7,
    subject="evt.3.r1.step.completed",
    raw_headers=(("ce-id", "a1"), ("ce-type", "t")),
    data=b"{}",
    verdict="refused",
    reason_code="bad_signature",
    reason="The signature does not cover what was received.",
    stored_at=datetime(2026, 1, 1, tzinfo=UTC),
)
RECEIVED_TEXT = st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
HEADERS = st.lists(st.tuples(RECEIVED_TEXT, RECEIVED_TEXT), max_size=5).map(tuple)


def leaf_bytes(record: AuditRecord, run_index: int = 2, trust_count: int = 1) -> bytes:
    return leaf_of(record, run_index=run_index, trust_count=trust_count).encode()


def test_a_leaf_is_written_as_documented() -> None:
    envelope = b" 23 evt.3.r1.step.completed 1 2 5 ce-id 2 a1 7 ce-type 1 t"
    reason = b"The signature does not cover what was received."
    assert leaf_bytes(RECORD) == (
        b"swarm-audit-leaf/v2 1 7 2 r1 1 2 1 1 16 1767225600000000 32 "
        + hashlib.sha256(envelope).digest()
        + b" 32 "
        + hashlib.sha256(b"{}").digest()
        + b" 7 refused 13 bad_signature 32 "
        + hashlib.sha256(reason).digest()
    )


def test_an_accepted_event_has_no_reason_in_its_leaf() -> None:
    accepted = replace(RECORD, verdict="accepted", reason_code="", reason="")
    assert leaf_bytes(accepted).endswith(b" 8 accepted 0  0 ")


@pytest.mark.parametrize(
    ("subject", "run"),
    [
        ("evt.03.r1.step.completed", "r1"),
        ("evt.03.r1", "r1"),
        ("evt.03", SYSTEM_RUN),
        ("evt.03..step", SYSTEM_RUN),
        ("evt.03.r 1.step", SYSTEM_RUN),
        ("obj.03.r1.step", SYSTEM_RUN),
        ("", SYSTEM_RUN),
        ("evt.\0.\udc80", SYSTEM_RUN),
    ],
)
def test_a_leaf_is_of_the_run_that_its_subject_names(subject: str, run: str) -> None:
    assert run_of(subject) == run
    assert replace(RECORD, subject=subject).run == run


def test_the_place_in_the_run_and_among_trust_changes_the_leaf() -> None:
    places = {leaf_bytes(RECORD, at, trust) for at in range(3) for trust in range(3)}
    assert len(places) == 9


@pytest.mark.parametrize(
    "changed",
    [
        replace(RECORD, stream_sequence=8),
        replace(RECORD, subject="evt.3.r2.step.completed"),
        replace(RECORD, raw_headers=RECORD.raw_headers[::-1]),
        replace(RECORD, raw_headers=(("ce-id", "a1 7 ce-type 1 t"),)),
        replace(RECORD, raw_headers=(*RECORD.raw_headers, ("", ""))),
        replace(RECORD, raw_headers=(("CE-ID", "a1"), ("ce-type", "t"))),
        replace(RECORD, data=b"{ }"),
        replace(RECORD, reason_code="unknown_key"),
        replace(RECORD, verdict="accepted", reason_code=""),
        replace(RECORD, reason="another"),
        replace(RECORD, reason=""),
        replace(RECORD, stored_at=RECORD.stored_at + timedelta(microseconds=1)),
    ],
)
def test_each_part_of_a_record_changes_its_leaf(changed: AuditRecord) -> None:
    assert leaf_bytes(changed) != leaf_bytes(RECORD)


def test_what_is_only_read_out_of_the_event_does_not_change_the_leaf() -> None:
    assert leaf_bytes(replace(RECORD, type="t", event_id="x")) == leaf_bytes(RECORD)


@settings(deadline=None)
@given(RECEIVED_TEXT, HEADERS)
def test_an_envelope_gives_back_every_byte(
    subject: str, headers: tuple[tuple[str, str], ...]
) -> None:
    assert decode_envelope(encode_envelope(subject, headers)) == (subject, headers)


@settings(deadline=None)
@given(RECEIVED_TEXT, HEADERS)
def test_lengths_count_bytes_also_beyond_ascii(
    subject: str, headers: tuple[tuple[str, str], ...]
) -> None:
    texts = [subject, str(len(headers)), *(text for pair in headers for text in pair)]
    raw = [text.encode("utf-8", "surrogateescape") for text in texts]
    expected = b"".join(b" " + str(len(r)).encode() + b" " + r for r in raw)
    assert encode_envelope(subject, headers) == expected


@settings(deadline=None)
@given(RECEIVED_TEXT, HEADERS, RECEIVED_TEXT, HEADERS)
def test_two_envelopes_are_equal_only_for_equal_parts(
    subject: str,
    headers: tuple[tuple[str, str], ...],
    other: str,
    others: tuple[tuple[str, str], ...],
) -> None:
    same = encode_envelope(subject, headers) == encode_envelope(other, others)
    assert same == ((subject, headers) == (other, others))


@pytest.mark.parametrize(
    "envelope",
    [b"", b" 1 a", b" 1 a 1 1", b" 1 a 1 0 1 b", b" 01 a 1 0", b" x a 1 0", b" 9 a", b" -3 a"],
)
def test_bytes_that_are_no_envelope_are_refused(envelope: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_envelope(envelope)


def test_a_refusal_without_a_reason_is_not_a_record() -> None:
    with pytest.raises(ValueError, match="reason code"):
        replace(RECORD, reason_code="")
    with pytest.raises(ValueError, match="reason code"):
        replace(RECORD, verdict="accepted")
    with pytest.raises(ValueError, match="count from 1"):
        replace(RECORD, stream_sequence=0)
