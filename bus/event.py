"""The event: CloudEvents 1.0 in the NATS protocol binding, binary mode.

Attributes travel as ``ce-`` headers, the payload as the message body. The bytes
as received are what is signed, digested and kept: nothing is ever re-encoded.

Sources: CloudEvents 1.0.2 and its NATS protocol binding; the pre-authentication
encoding follows the idea of DSSE (each field preceded by its length), so that no
two different events share the same signed bytes.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Final
from urllib.parse import unquote

from bus.attributes import MOST_CHARS, TRACE_HEADER, is_canonical, is_misspelt, is_plain, misnamed
from bus.errors import MalformedEvent
from bus.nkey import decode_base64url
from bus.payload import MAX_PAYLOAD_BYTES
from bus.payloads import Payload, most_bytes, payload_model
from bus.reference import DATAREF, ObjectReference
from bus.sealing import sealed_body, withheld_body

DOMAIN: Final = "vllm-swarm/event/v1"
FIRST_PREVIOUS: Final = "0" * 64
"""What ce-previous holds in the first event of a chain."""
KEY_HEADER: Final = "swarm-key"
SIGNATURE_HEADER: Final = "swarm-signature"
SEALED_FOR: Final = "ce-sealedfor"
"""The person whose key opens what is sealed in the payload."""
_REQUIRED: Final = (
    "ce-id",
    "ce-source",
    "ce-type",
    "ce-time",
    "ce-specversion",
    "ce-datacontenttype",
    "ce-dataschema",
    "ce-run",
    "ce-sequence",
    "ce-previous",
    "ce-policy",
    KEY_HEADER,
    SIGNATURE_HEADER,
)
_OF_THE_BYTES: Final = frozenset({"signed_bytes", "digest", "reference", "signature", "time"})
_SOURCE = re.compile(r"swarm://([a-z]+)/([A-Za-z0-9_-]{1,64})\Z")
_HEX_64 = re.compile(r"[0-9a-f]{64}\Z")
_PLAIN_INTEGER = re.compile(r"[1-9][0-9]{0,17}\Z")


def pre_authentication_encoding(*fields: bytes) -> bytes:
    """Join fields so that their boundaries cannot be moved: each is preceded by its length."""
    return b"".join((b"%d" % len(fields), *(b" %d %b" % (len(field), field) for field in fields)))


def derive_id(*parts: str) -> str:
    """A deterministic event id: the same parts give the same 32 hexadecimal digits."""
    encoded = pre_authentication_encoding(*(part.encode() for part in parts))
    return hashlib.sha256(encoded).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One signed message as it stands on the wire.

    Construct it with `Event.parse`; whether it may be acted on is for `bus.trust` to say.
    """

    subject: str
    headers: Mapping[str, str]
    data: bytes
    content: bytes | None = field(default=None, compare=False, repr=False)
    """The bytes that `reference` refers to, once they were fetched and found to be those."""
    opened: bytes | None = field(default=None, compare=False, repr=False)
    """The payload with nothing sealed any more, for who was given the key."""
    is_erased: bool = field(default=False, compare=False)
    """Whether what is sealed cannot be read any more, because the key was destroyed."""

    @classmethod
    def parse(cls, subject: str, headers: Mapping[str, str] | None, data: bytes) -> "Event":
        """Check the form of a received message and keep its bytes.

        Headers that are not part of the event (those of JetStream) are left out; an unknown
        ``ce-`` header is kept, because the signature covers it.

        Raises:
            MalformedEvent: a header is missing or has a form that no sender of ours produces.
        """
        kept = {
            name: value
            for name, value in (headers or {}).items()
            if name.startswith("ce-") or name in (TRACE_HEADER, KEY_HEADER, SIGNATURE_HEADER)
        }
        if missing := [name for name in _REQUIRED if not kept.get(name)]:
            raise MalformedEvent(f"event on {subject!r} lacks {', '.join(missing)}")
        strange = [name for name in headers or {} if is_misspelt(name)]
        values = "".join(kept.values())
        if len(values) > MOST_CHARS:
            strange.append(f"header, of over {MOST_CHARS:,} characters with the others")
        if not (all(kept.values()) and is_plain(values)):
            strange += [name for name, value in kept.items() if not is_canonical(value)]
        if strange:
            named = ascii(", ".join(strange)[:200])[1:-1]
            raise MalformedEvent(f"event on {subject!r} has a malformed {named}")
        event = cls(subject=subject, headers=kept, data=data)
        event.check_form()
        return event

    def check_form(self) -> None:
        """Raise MalformedEvent unless each attribute has the form that our senders give it."""
        headers = self.headers
        wrong = misnamed(headers) + [
            name
            for name, is_right in (
                ("ce-specversion", headers["ce-specversion"] == "1.0"),
                ("ce-datacontenttype", headers["ce-datacontenttype"] == "application/json"),
                ("ce-source", _SOURCE.match(self.source)),
                ("ce-sequence", _PLAIN_INTEGER.match(headers["ce-sequence"])),
                ("ce-previous", _HEX_64.match(self.previous)),
                ("data", len(self.data) <= (0 if DATAREF in headers else MAX_PAYLOAD_BYTES)),
            )
            if not is_right
        ]
        if wrong:
            raise MalformedEvent(f"event on {self.subject!r} has a malformed {', '.join(wrong)}")
        _ = self.time, self.signature, self.reference

    def with_content(self, content: bytes) -> "Event":
        """The same event, with what it refers to."""
        return self._knowing(replace(self, content=content))

    def with_opened(self, body: bytes | None) -> "Event":
        """The same event, with what was sealed in it; None marks that as erased."""
        return self._knowing(replace(self, opened=body, is_erased=body is None))

    def _knowing(self, same: "Event") -> "Event":
        """What was computed of the bytes need not be computed again."""
        for name in self.__dict__.keys() & _OF_THE_BYTES:
            same.__dict__[name] = self.__dict__[name]
        return same

    @cached_property
    def signed_bytes(self) -> bytes:
        """What the signature covers: domain, subject, signed headers in order, data digest."""
        return signing_input(self.subject, self.headers, self.data)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over the signed bytes and the signature; the next event's ce-previous."""
        return hashlib.sha256(self.signed_bytes + self.signature).digest()

    @cached_property
    def reference(self) -> ObjectReference | None:
        """The object that holds the payload, None where the event itself does.

        Raises:
            MalformedEvent: the attribute names no object, or too large a one for the type.
        """
        text = _optional(self.headers, DATAREF)
        return None if text is None else ObjectReference.parse(text, most_bytes(self.type))

    @property
    def sealed_for(self) -> str | None:
        """Whose key opens what is sealed in the payload, None where nothing is."""
        return _optional(self.headers, SEALED_FOR)

    @property
    def is_withheld(self) -> bool:
        """Whether what is personal in it is not to be read here, for now or for good."""
        return self.sealed_for is not None and self.opened is None

    @property
    def body(self) -> bytes:
        """The payload as JSON, with what is withheld in place of what is still sealed.

        Raises:
            MalformedEvent: it is in an object that was not fetched, or wrongly sealed.
        """
        if self.opened is not None:
            return self.opened
        if self.sealed_for is None:
            return self.stored_body
        return withheld_body(self.stored_body, payload_model(self.type))

    @property
    def stored_body(self) -> bytes:
        """The payload as it is stored, wherever that is.

        Raises:
            MalformedEvent: it is in an object that was not fetched.
        """
        if self.reference is None:
            return self.data
        if self.content is None:
            raise MalformedEvent(f"the object of {self.type} {self.id} was not fetched")
        return self.content

    @property
    def id(self) -> str:
        """Deterministic id, also sent as Nats-Msg-Id."""
        return unquote(self.headers["ce-id"])

    @property
    def source(self) -> str:
        """``swarm://<role>/<agent>``."""
        return unquote(self.headers["ce-source"])

    @property
    def role(self) -> str:
        """The sender's role as it claims; verification binds it to its credential."""
        return self.source.removeprefix("swarm://").split("/")[0]

    @property
    def agent(self) -> str:
        """The sender's name as it claims; verification binds it to its credential."""
        return self.source.removeprefix("swarm://").split("/")[-1]

    @property
    def type(self) -> str:
        """For example ``swarm.step.completed.v1``."""
        return unquote(self.headers["ce-type"])

    @cached_property
    def time(self) -> datetime:
        """When the sender says it signed, in UTC."""
        text = unquote(self.headers["ce-time"])
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise MalformedEvent(f"ce-time {text[:40]!r} is not RFC 3339") from error
        raise MalformedEvent(f"ce-time {text[:40]!r} has no UTC offset")

    @property
    def run(self) -> str:
        """The workflow run."""
        return unquote(self.headers["ce-run"])

    @property
    def cause(self) -> str | None:
        """Id of the event that this one answers."""
        return _optional(self.headers, "ce-cause")

    @property
    def sequence(self) -> int:
        """The sender's own counter, from 1."""
        return int(self.headers["ce-sequence"])

    @property
    def previous(self) -> str:
        """Hex digest of the sender's previous event."""
        return self.headers["ce-previous"]

    @property
    def policy(self) -> str:
        """Hex digest of the policy bundle that the sender obeyed."""
        return unquote(self.headers["ce-policy"])

    @property
    def on_behalf_of(self) -> str | None:
        """The user, where there is one."""
        return _optional(self.headers, "ce-onbehalfof")

    @property
    def traceparent(self) -> str | None:
        """W3C trace context of the sender's span."""
        return _optional(self.headers, TRACE_HEADER)

    @property
    def key(self) -> str:
        """The sender's public NKey."""
        return self.headers[KEY_HEADER]

    @cached_property
    def signature(self) -> bytes:
        """Ed25519 signature, 64 bytes.

        Raises:
            MalformedEvent: the header is not 64 bytes of unpadded base64url.
        """
        return decode_base64url(self.headers[SIGNATURE_HEADER], length=64)

    def payload(self) -> Payload:
        """The typed payload.

        Raises:
            MalformedEvent: the type is unknown, the data does not fit its model, or it is in
                an object that was not fetched.
        """
        return self._payload

    @cached_property
    def _payload(self) -> Payload:
        model, body = payload_model(self.type), self.body
        try:
            return model.model_validate_json(body)
        except ValueError as error:
            raise MalformedEvent(f"payload of {self.type} {self.id}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event and its place in the log."""

    event: Event
    stream_sequence: int
    stored_at: datetime
    receipt: str | None = None
    """When it was first stored, if it was put back since; to be checked (bus/receipt.py)."""

    @property
    def subject(self) -> str:
        """Where it was published."""
        return self.event.subject

    def payload(self) -> Payload:
        """The typed payload of the event."""
        return self.event.payload()


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a sender wants to say, before numbering and signing.

    `suffix` holds the subject tokens after the kind; `id` must be derived, so that a
    repeat of the same thing has the same id.
    """

    run: str
    payload: Payload
    id: str
    suffix: tuple[str, ...] = ()
    cause: str | None = None
    on_behalf_of: str | None = None
    sealed_for: str | None = None
    """Whom it is about, if not about the user: where a run branched off from somebody else's."""
    traceparent: str | None = None
    sealed: bytes | None = field(default=None, repr=False)
    """What is to be stored in place of the plain payload."""
    is_erased: bool = False
    """Whether nothing personal is kept of it: the person is forgotten."""

    @property
    def about(self) -> str | None:
        """The person whom the payload says something about, None for nobody."""
        return (self.sealed_for or self.on_behalf_of) if self.payload.PERSONAL else None

    @cached_property
    def plain(self) -> bytes:
        """The payload as JSON."""
        return self.payload.model_dump_json().encode()

    @property
    def body(self) -> bytes:
        """The payload as it is to be stored."""
        return self.plain if self.sealed is None else self.sealed

    def sealed_under(self, key: bytes | None) -> "Draft":
        """The same, to be stored with its personal fields sealed, or without them for None."""
        payload = self.payload
        binding = sealing_binding(self.run, payload.TYPE, self.id)
        sealed = sealed_body(payload, key, binding=binding)
        if key is None:
            payload = type(payload).model_validate_json(withheld_body(sealed, type(payload)))
        return replace(self, payload=payload, sealed=sealed, is_erased=key is None)

    @property
    def needs_object(self) -> bool:
        """Whether the payload is too large for an event, which then refers to an object."""
        return len(self.body) > MAX_PAYLOAD_BYTES


def sealing_binding(run: str, event_type: str, event_id: str) -> bytes:
    """What the sealed fields of an event are bound to."""
    return pre_authentication_encoding(run.encode(), event_type.encode(), event_id.encode())


def signing_input(subject: str, headers: Mapping[str, str], data: bytes) -> bytes:
    """The bytes that are signed; headers as sent, in sorted order, ``ce-`` and traceparent only."""
    signed = sorted(name for name in headers if name.startswith("ce-") or name == TRACE_HEADER)
    texts = [DOMAIN, subject]
    for name in signed:
        texts += (name, headers[name])
    digest = hashlib.sha256(data).digest()
    written = "".join([f" {len(text)} {text}" for text in texts])
    if written.isascii():  # characters are bytes: the same encoding, several times as fast
        return b"%d%b %d %b" % (len(texts) + 1, written.encode(), len(digest), digest)
    return pre_authentication_encoding(*(text.encode() for text in texts), digest)


def _optional(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    return None if value is None else unquote(value)
