"""What the audit log's tree commits to."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.leaf import AuditRecord, decode_envelope, encode_envelope, join_leaf, leaf_bytes

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


def test_a_leaf_is_written_as_documented() -> None:
    digest = hashlib.sha256(b"{}").digest()
    assert RECORD.leaf_bytes == (
        b"swarm-audit-leaf/v1 1 7 23 evt.3.r1.step.completed 1 2 5 ce-id 2 a1 7 ce-type 1 t 32 "
        + digest
        + b" 7 refused 13 bad_signature"
    )


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
    ],
)
def test_each_part_of_a_record_changes_its_leaf(changed: AuditRecord) -> None:
    assert leaf_bytes(changed) != leaf_bytes(RECORD)


def test_what_is_only_read_out_of_the_event_does_not_change_the_leaf() -> None:
    assert leaf_bytes(replace(RECORD, run="r9", event_id="x")) == leaf_bytes(RECORD)


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


def test_a_leaf_is_rebuilt_from_stored_columns() -> None:
    rebuilt = join_leaf(
        stream_sequence=7,
        envelope=encode_envelope(RECORD.subject, RECORD.raw_headers),
        data=RECORD.data,
        verdict="refused",
        reason_code="bad_signature",
    )
    assert rebuilt == RECORD.leaf_bytes


@pytest.mark.parametrize(
    "envelope", [b"", b" 1 a", b" 1 a 1 1", b" 1 a 1 0 1 b", b" 01 a 1 0", b" x a 1 0", b" 9 a"]
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
