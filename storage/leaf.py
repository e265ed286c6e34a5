"""An audited event, and the leaf bytes that stand for it in the Merkle tree.

A leaf is the domain string followed by fields, each written as a space, its
length in decimal, a space and its bytes (after DSSE's pre-authentication
encoding), so no two records share a leaf:

    swarm-audit-leaf/v2
      stream sequence, decimal
      run that the subject names; SYSTEM_RUN where it names none
      run index, decimal: how many leaves of the same run stand before this one
      trust count, decimal: how many leaves of TRUST_RUN stand before this one
      time at which the stream stored it, microseconds since 1970, decimal
      SHA-256 of the envelope, 32 bytes
      SHA-256 of the data, 32 bytes
      verdict: accepted or refused
      reason code, empty for accepted
      SHA-256 of the reason's sentence, 32 bytes; empty where there is none

The envelope is the subject, the number of headers, and name and value of each
header in the order received, written as such fields; the database keeps it as
it is, so a leaf is rebuilt from stored bytes without parsing any of them. A
leaf can be shown without its envelope and data: contiguous run indexes then
prove that nothing of a run was left out between two leaves.
"""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

from bus.subjects import SYSTEM_RUN, is_token

LEAF_DOMAIN = b"swarm-audit-leaf/v2"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Verdict = Literal["accepted", "refused"]
RawHeaders = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One event as it came out of the stream, and what was decided about it.

    Only the first eight fields are part of the leaf. The rest is read out of
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
        stored_at: when the stream stored it, to the microsecond.
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
    def run(self) -> str:
        """The run whose leaf this is."""
        return run_of(self.subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What the Merkle tree commits to for one event; shows nothing of what the event says.

    Attributes:
        stream_sequence: position in the stream, from 1.
        run: whose leaf it is.
        run_index: leaves of the same run before it.
        trust_count: leaves of the run of trust before it.
        stored_us: when the stream stored it, microseconds since 1970.
        envelope_digest: SHA-256 of the envelope, data_digest that of the data.
        verdict: accepted or refused, with its reason_code.
        reason_digest: SHA-256 of the sentence; empty where there is none.
    """

    stream_sequence: int
    run: str
    run_index: int
    trust_count: int
    stored_us: int
    envelope_digest: bytes
    data_digest: bytes
    verdict: str
    reason_code: str
    reason_digest: bytes

    def encode(self) -> bytes:
        """The leaf's bytes, as this module's docstring defines them."""
        return join_leaf(
            self.stream_sequence,
            self.run,
            self.run_index,
            self.trust_count,
            self.stored_us,
            (self.envelope_digest, self.data_digest),
            (self.verdict, self.reason_code),
            self.reason_digest,
        )


def leaf_of(record: AuditRecord, *, run_index: int, trust_count: int) -> Leaf:
    """The leaf of a record at its place."""
    envelope = encode_envelope(record.subject, record.raw_headers)
    return Leaf(
        stream_sequence=record.stream_sequence,
        run=record.run,
        run_index=run_index,
        trust_count=trust_count,
        stored_us=microseconds(record.stored_at),
        envelope_digest=hashlib.sha256(envelope).digest(),
        data_digest=hashlib.sha256(record.data).digest(),
        verdict=record.verdict,
        reason_code=record.reason_code,
        reason_digest=digest_of_reason(storable(record.reason)),
    )


def join_leaf(
    stream_sequence: int,
    run: str,
    run_index: int,
    trust_count: int,
    stored_us: int,
    digests: tuple[bytes, bytes],
    ruling: tuple[str, str],
    reason_digest: bytes,
) -> bytes:
    """A leaf's bytes; `digests` of envelope and data, `ruling` verdict and reason code."""
    numbers = (str(run_index), str(trust_count), str(stored_us))
    texts = (str(stream_sequence), run, *numbers)
    first = "".join([f" {len(text)} {text}" for text in texts])  # ASCII, all of them
    second = "".join([f" {len(text)} {text}" for text in ruling])
    return b"%b%b 32 %b 32 %b%b %d %b" % (
        LEAF_DOMAIN,
        first.encode(),
        *digests,
        second.encode(),
        len(reason_digest),
        reason_digest,
    )


@lru_cache(maxsize=4096)
def run_of(subject: str) -> str:
    """The run that a subject names; the system's own where it names none."""
    head, _, rest = subject.partition(".")
    run = rest.split(".", 2)[1:2]
    return run[0] if head == "evt" and run and is_token(run[0]) else SYSTEM_RUN


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def digest_of_reason(reason: str) -> bytes:
    """What a leaf holds of the sentence that a refusal was given."""
    return hashlib.sha256(reason.encode()).digest() if reason else b""


def storable(text: str) -> str:
    """The text without what Postgres cannot keep: NUL and lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


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
        digits = envelope[at + 1 : length_end]
        if not digits.isdigit():  # a negative length would lead back, for ever
            raise ValueError("an envelope's field has no length")
        length = int(digits)
        at = length_end + 1 + length
        texts.append(envelope[length_end + 1 : at].decode("utf-8", "surrogateescape"))
    subject, count, *flat = texts
    headers = tuple(zip(flat[::2], flat[1::2], strict=True))
    if int(count) != len(headers) or encode_envelope(subject, headers) != envelope:
        raise ValueError("the envelope's fields do not add up")
    return subject, headers


def _fields(values: Iterable[bytes]) -> bytes:
    return b"".join([b" %d %b" % (len(value), value) for value in values])
