"""A leaf of the log, and the event that its bytes are.

The leaf is re-made from the envelope and the data as they were received: nothing that a bundle
says about an event is believed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Final
from urllib.parse import unquote

from swarm.verify.key import SIGNATURE_BYTES, USER, check_signature, encode_fields, sha256
from swarm.verify.text import NotProven, base64url_bytes

LEAF_DOMAIN: Final = b"swarm-audit-leaf/v2"
EVENT_DOMAIN: Final = b"vllm-swarm/event/v1"
SYSTEM_RUN: Final = "swarm"
TRUST_RUN: Final = "trust"
ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
_LENGTH_DIGITS: Final = 9
_MOST_CHARS: Final = 8_192
_PARTITIONS: Final = 16
_OWNED: Final = re.compile(r"([a-z0-9-]{1,32})_[A-Za-z0-9-]*")
_REQUIRED: Final = frozenset(
    {
        *("ce-id", "ce-source", "ce-type", "ce-time", "ce-specversion", "ce-datacontenttype"),
        *("ce-run", "ce-sequence", "ce-previous", "ce-policy", "swarm-key", "swarm-signature"),
    }
)
_TRACE: Final = "traceparent"
_UNSIGNED: Final = frozenset({"swarm-key", "swarm-signature"})
_OWN_ROLE_KINDS: Final = frozenset(
    {
        *("step.claimed", "step.completed", "step.failed", "assignment.dead"),
        *("tool.called", "tool.answered"),
    }
)
_ID = re.compile(r"[!-~]{1,64}")
_PERSON = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_NAMES: Final = {"ce-id": _ID, "ce-cause": _ID, "ce-onbehalfof": _PERSON, "ce-sealedfor": _PERSON}
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SOURCE = re.compile(r"swarm://([a-z]+)/([A-Za-z0-9_-]{1,64})", re.ASCII)
_TYPE = re.compile(r"swarm\.([a-z]+\.[a-z]+)\.v[1-9][0-9]*", re.ASCII)
_COUNT = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_DATAREF = re.compile(r"swarm-object:sha256:([0-9a-f]{64}):([1-9][0-9]{0,17})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What the tree commits to for one event."""

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
        """The leaf's bytes: the domain, then each field behind its length."""
        fields = (
            b"%d" % self.stream_sequence,
            self.run.encode(),
            b"%d" % self.run_index,
            b"%d" % self.trust_count,
            b"%d" % self.stored_us,
            self.envelope_digest,
            self.data_digest,
            self.verdict.encode(),
            self.reason_code.encode(),
            self.reason_digest,
        )
        return LEAF_DOMAIN + b"".join(b" %d %b" % (len(field), field) for field in fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A leaf with everything that it stands for."""

    index: int
    leaf: Leaf
    envelope: bytes
    data: bytes
    content: bytes | None
    proof: Sequence[bytes]

    def __str__(self) -> str:
        return f"leaf {self.index} (stream sequence {self.leaf.stream_sequence})"

    @property
    def is_accepted(self) -> bool:
        """Whether the auditor took it for an event that may be acted on."""
        return self.leaf.verdict == ACCEPTED


@dataclass(frozen=True, kw_only=True)
class Event:
    """A signed event, its form checked."""

    subject: str
    headers: Mapping[str, str]
    data: bytes
    role: str
    name: str
    tokens: Sequence[str]
    """Of the subject: the kind's two words, then its suffix."""
    time: datetime

    @property
    def kind(self) -> str:
        """For example ``step.completed``."""
        return ".".join(self.tokens[:2])

    @property
    def run(self) -> str:
        """The run of its subject, which is its own."""
        return self.subject.split(".")[2]

    @property
    def id(self) -> str:
        """Of the event, as others name it as their cause."""
        return self.headers["ce-id"]

    @property
    def cause(self) -> str | None:
        """Id of the event that this one answers."""
        return self.headers.get("ce-cause")

    @property
    def key(self) -> str:
        """The sender's public key."""
        return self.headers["swarm-key"]

    @property
    def sequence(self) -> int:
        """The sender's own counter."""
        return int(self.headers["ce-sequence"])

    @property
    def previous(self) -> str:
        """Digest of the sender's event before it, as the sender says."""
        return self.headers["ce-previous"]

    @property
    def policy(self) -> str:
        """Digest of the policy that the sender obeyed."""
        return self.headers["ce-policy"]

    @cached_property
    def signature(self) -> bytes:
        """64 bytes."""
        raw = base64url_bytes(self.headers["swarm-signature"], "the signature")
        if len(raw) != SIGNATURE_BYTES:
            raise NotProven("the signature does not have 64 bytes")
        return raw

    @cached_property
    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        texts = [self.subject]
        for name in sorted(self.headers.keys() - _UNSIGNED):
            texts += (name, self.headers[name])
        return encode_fields(EVENT_DOMAIN, *(text.encode() for text in texts), sha256(self.data))

    @cached_property
    def digest(self) -> str:
        """What the sender's next event calls its previous one."""
        return sha256(self.signed_bytes + self.signature).hex()

    def check_signature(self) -> None:
        """Raise NotProven unless the key signed exactly this."""
        check_signature(self.key, USER, self.signed_bytes, self.signature)


def decode_envelope(envelope: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Subject and headers of an envelope; bytes that are not UTF-8 as surrogate escapes.

    Raises:
        NotProven: it is not written as envelopes are.
    """
    fields: list[bytes] = []
    at = 0
    try:
        while at < len(envelope):
            end = envelope.index(b" ", at + 1)
            digits = envelope[at + 1 : end]
            if not digits.isdigit() or len(digits) > _LENGTH_DIGITS:
                raise NotProven("the envelope's fields have no lengths")
            length = int(digits)
            fields.append(envelope[end + 1 : end + 1 + length])
            at = end + 1 + length
    except ValueError as error:
        raise NotProven("the envelope's fields have no lengths") from error
    written = b"".join(b" %d %b" % (len(field), field) for field in fields)
    pairs, odd = divmod(len(fields), 2)
    if written != envelope or odd or fields[1:2] != [b"%d" % (pairs - 1)]:
        raise NotProven("the envelope's fields do not add up")
    texts = [field.decode("utf-8", "surrogateescape") for field in fields]
    return texts[0], tuple(zip(texts[2::2], texts[3::2], strict=True))


def run_of(subject: str) -> str:
    """The run that a subject names; the system's own where it names none."""
    head, _, rest = subject.partition(".")
    run = rest.split(".", 2)[1:2]
    return run[0] if head == "evt" and run and _TOKEN.fullmatch(run[0]) else SYSTEM_RUN


def read_event(envelope: bytes, data: bytes) -> Event:
    """The event of an accepted leaf.

    Raises:
        NotProven: subject, run, type and sender do not belong together, or a header is missing.
    """
    subject, pairs = decode_envelope(envelope)
    headers = dict(pairs)
    strange = [n for n in headers if not n.startswith("ce-") and n not in (*_UNSIGNED, _TRACE)]
    if len(headers) != len(pairs) or strange or not all(map(headers.get, _REQUIRED)):
        raise NotProven("the event has a header too many or too few")
    if not all(text.isascii() and text.isprintable() for pair in pairs for text in pair):
        raise NotProven("a header is not printable ASCII")
    if sum(map(len, headers.values())) > _MOST_CHARS:
        raise NotProven("the event's headers are too long")
    for name, form in _NAMES.items():
        if name in headers and not form.fullmatch(unquote(headers[name])):
            raise NotProven(f"the event's {name} is not a name")
    source = _SOURCE.fullmatch(unquote(headers["ce-source"]))
    if source is None or not _COUNT.fullmatch(headers["ce-sequence"]):
        raise NotProven("the event has no sender or no number of its own")
    tokens = _matching_tokens(subject, headers)
    if ".".join(tokens[:2]) in _OWN_ROLE_KINDS and tokens[2:3] != [source[1]]:
        raise NotProven("the event stands on the subject of another role")
    return Event(
        subject=subject,
        headers=headers,
        data=data,
        role=source[1],
        name=source[2],
        tokens=tokens,
        time=_moment(unquote(headers["ce-time"])),
    )


def check_object(event: Event, content: bytes | None) -> None:
    """Raise NotProven unless the content is what the event refers to, None where it does not."""
    reference = event.headers.get("ce-dataref")
    if reference is None:
        if content is not None:
            raise NotProven("there is an object that the event does not refer to")
        return
    named = _DATAREF.fullmatch(unquote(reference))
    if named is None or content is None or event.data:
        raise NotProven("the object that the event refers to is missing")
    if (sha256(content).hex(), len(content)) != (named[1], int(named[2])):
        raise NotProven("the object is not the one that the event refers to")


def _matching_tokens(subject: str, headers: Mapping[str, str]) -> list[str]:
    """The subject's tokens behind the run, if partition, run and type are those of the event."""
    head, *rest = subject.split(".")
    kind = _TYPE.fullmatch(unquote(headers["ce-type"]))
    if head != "evt" or len(rest) < 4 or not _all_tokens(rest):  # noqa: PLR2004 - up to the kind
        raise NotProven(f"the subject {subject[:120]!r} is not one of an event")
    partition, run, *tokens = rest
    if partition != _partition(run):
        raise NotProven("the subject names another partition than that of its run")
    if run != unquote(headers["ce-run"]) or kind is None or kind[1] != ".".join(tokens[:2]):
        raise NotProven("the subject is not that of the event's run and type")
    return tokens


def _partition(run: str) -> str:
    """Its tenant's, if its id begins with one and an underscore; else by hash."""
    owned = _OWNED.fullmatch(run)
    return f"t-{owned[1]}" if owned else f"{sha256(run.encode())[0] % _PARTITIONS:02d}"


def _all_tokens(tokens: Iterable[str]) -> bool:
    return all(_TOKEN.fullmatch(token) for token in tokens)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise NotProven(f"the event's time {text[:40]!r} is not one") from error
    raise NotProven(f"the event's time {text[:40]!r} has no offset from UTC")
