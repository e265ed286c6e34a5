"""An audited event, and the leaf bytes that stand for it in the Merkle tree.

A leaf is the domain string followed by fields, each written as a space, its
length in decimal, a space and its bytes (after DSSE's pre-authentication
encoding), so no two records share a leaf:

    swarm-audit-leaf/v1
      stream sequence, decimal
      subject
      number of headers, decimal
      name and value of each header, in the order received
      SHA-256 of the data, 32 bytes
      verdict: accepted or refused
      reason code, empty for accepted

The part from subject to headers is the envelope, which the database keeps as
it is; a leaf is rebuilt from stored bytes without parsing any of them.
"""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

LEAF_DOMAIN = b"swarm-audit-leaf/v1"

Verdict = Literal["accepted", "refused"]
RawHeaders = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One event as it came out of the stream, and what was decided about it.

    Only the first six fields are part of the leaf. The rest is read out of
    them for queries, and is None where a refused event has no such value.

    Attributes:
        stream_sequence: position in the stream, from 1.
        subject: where it was published.
        raw_headers: every header as sent, in order; bytes that are not UTF-8
            are expected as surrogate escapes.
        data: the payload as received.
        verdict: accepted or refused.
        reason_code: why it was refused, a stable name; empty if accepted.
        reason: the same as a sentence.
        stored_at: when the stream stored it.
        digest: the event's own 32-byte digest.
        source_role: role in the event's source; source_agent its agent.
        sender_sequence: the sender's own counter.
        content: the object that a header refers to, kept beside the event; not
            among what is read back.
    """

    stream_sequence: int
    subject: str
    raw_headers: RawHeaders
    data: bytes
    verdict: Verdict
    reason_code: str = ""
    reason: str = ""
    stored_at: datetime
    digest: bytes | None = None
    event_id: str | None = None
    type: str | None = None
    source_role: str | None = None
    source_agent: str | None = None
    run: str | None = None
    cause: str | None = None
    sender_key: str | None = None
    sender_sequence: int | None = None
    event_time: datetime | None = None
    content: bytes | None = None

    def __post_init__(self) -> None:
        if self.stream_sequence < 1:
            raise ValueError("stream sequences count from 1")
        if (self.verdict == "refused") != bool(self.reason_code):
            raise ValueError("a refusal has a reason code, an acceptance has none")

    @property
    def leaf_bytes(self) -> bytes:
        """What the Merkle tree commits to for this record."""
        return leaf_bytes(self)


def leaf_bytes(record: AuditRecord) -> bytes:
    """The leaf of a record, as this module's docstring defines it."""
    return join_leaf(
        stream_sequence=record.stream_sequence,
        envelope=encode_envelope(record.subject, record.raw_headers),
        data=record.data,
        verdict=record.verdict,
        reason_code=record.reason_code,
    )


def join_leaf(
    *, stream_sequence: int, envelope: bytes, data: bytes, verdict: str, reason_code: str
) -> bytes:
    """The same leaf from stored columns."""
    tail = (hashlib.sha256(data).digest(), verdict.encode(), reason_code.encode())
    return b"".join(
        (LEAF_DOMAIN, _fields((str(stream_sequence).encode(),)), envelope, _fields(tail))
    )


def encode_envelope(subject: str, headers: RawHeaders) -> bytes:
    """Subject and headers as the fields that stand in the leaf."""
    texts = [subject, str(len(headers)), *itertools.chain.from_iterable(headers)]
    joined = "".join([f" {len(text)} {text}" for text in texts])
    if joined.isascii():  # characters are bytes: the rule, and three times as fast
        return joined.encode("ascii")
    return _fields([text.encode("utf-8", "surrogateescape") for text in texts])


def decode_envelope(envelope: bytes) -> tuple[str, RawHeaders]:
    """Subject and headers of a stored envelope.

    Raises:
        ValueError: the bytes are not an envelope.
    """
    texts: list[str] = []
    at = 0
    while at < len(envelope):
        length_end = envelope.index(b" ", at + 1)
        length = int(envelope[at + 1 : length_end])
        at = length_end + 1 + length
        texts.append(envelope[length_end + 1 : at].decode("utf-8", "surrogateescape"))
    subject, count, *flat = texts
    headers = tuple(zip(flat[::2], flat[1::2], strict=True))
    if int(count) != len(headers) or encode_envelope(subject, headers) != envelope:
        raise ValueError("the envelope's fields do not add up")
    return subject, headers


def _fields(values: Iterable[bytes]) -> bytes:
    return b"".join([b" %d %b" % (len(value), value) for value in values])
