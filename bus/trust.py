"""Verification: whether a received event may be acted on, and the chains of its senders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bus.errors import (
    ExpiredKey,
    IdentityError,
    NotPermitted,
    SequenceError,
    SubjectMismatch,
    UnknownKey,
)
from bus.event import Event
from bus.identity import Credential, issuer_of
from bus.nkey import verify_signature
from bus.signing import ChainHead, SubjectPolicy
from bus.subjects import ASSIGNED, Subject, kind_of, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A credential and where in the log it was announced."""

    credential: Credential
    stream_sequence: int


class TrustStore:
    """Knows which keys the authority vouches for; believes nothing else.

    Built from the operator's public key alone: the account must be signed by it, and each
    credential by the account.
    """

    def __init__(self, operator_public_key: str, account_jwt: str) -> None:
        self._issuer = issuer_of(account_jwt, operator_public_key)
        self._admitted: dict[str, Admitted] = {}

    def admit(self, token: str, stream_sequence: int) -> Admitted:
        """Accept a credential announced at a place in the log.

        Raises:
            IdentityError: it is malformed or another issuer signed it.
        """
        credential = Credential.parse(token)
        if credential.issuer != self._issuer:
            raise IdentityError(
                f"the credential of {credential.public_key} was signed by {credential.issuer}, "
                f"not by the account of this trust domain"
            )
        known = self._admitted.get(credential.public_key)
        if known is None or stream_sequence < known.stream_sequence:
            known = Admitted(credential=credential, stream_sequence=stream_sequence)
            self._admitted[credential.public_key] = known
        return known

    def find(self, public_key: str) -> Admitted | None:
        """What is known of a key."""
        return self._admitted.get(public_key)


def verify(
    event: Event,
    admitted: Admitted | None,
    policy: SubjectPolicy,
    *,
    stream_sequence: int,
    stored_at: datetime,
) -> None:
    """Decide whether an event may be acted on. Cheap checks come before the signature.

    Raises:
        UnknownKey: nobody of this trust domain vouches for the key at this place in the log.
        ExpiredKey: the credential was not valid when signed or when stored.
        SubjectMismatch: subject, type, run and sender do not belong together.
        NotPermitted: the policy does not let this role publish there.
        BadSignature: the signature does not cover what was received.
    """
    if admitted is None or admitted.stream_sequence > stream_sequence:
        raise UnknownKey(
            f"no credential in the log before {stream_sequence} vouches for {event.key}"
        )
    credential = admitted.credential
    if credential.public_key != event.key:
        raise UnknownKey(f"the credential is that of {credential.public_key}, not of {event.key}")
    if not (credential.valid_at(stored_at) and credential.valid_at(event.time)):
        raise ExpiredKey(
            f"the credential of {event.source} ran to {credential.expires_at.isoformat()}; "
            f"the event was signed {event.time.isoformat()}, stored {stored_at.isoformat()}"
        )
    if (event.role, event.agent) != (credential.role, credential.name):
        raise NotPermitted(
            f"{event.source} is not {credential.role}/{credential.name}, whose key signed it"
        )
    subject = _matching_subject(event)
    refusal = policy.refusal(credential.role, subject)
    if refusal is not None:
        raise NotPermitted(f"{event.source} may not publish on {event.subject}: {refusal}")
    verify_signature(event.key, event.signed_bytes, event.signature)


def _matching_subject(event: Event) -> Subject:
    subject = parse(event.subject)
    if subject.run != event.run or subject.kind != kind_of(event.type):
        raise SubjectMismatch(f"{event.type} of run {event.run!r} was on {event.subject!r}")
    if subject.role not in (None, event.role) and subject.kind != ASSIGNED:
        raise SubjectMismatch(f"{event.source} published on the subject of {subject.role!r}")
    return subject


@dataclass(slots=True)
class ChainTracker:
    """Follows every sender's chain; events must come in the order of the log."""

    heads: dict[str, ChainHead] = field(default_factory=dict)

    @classmethod
    def resume(cls, heads: Mapping[str, ChainHead]) -> "ChainTracker":
        """Continue from heads that were recorded earlier."""
        return cls(heads=dict(heads))

    def follow(self, event: Event) -> None:
        """Take the sender's next event. The chain moves on even where it does not join.

        Raises:
            SequenceError: the event does not follow the last one seen under this key.
        """
        head = self.heads.get(event.key, ChainHead())
        joins = event.sequence == head.sequence + 1 and event.previous == head.digest
        if event.sequence > head.sequence:
            self.heads[event.key] = ChainHead(sequence=event.sequence, digest=event.digest.hex())
        if not joins:
            raise SequenceError(
                f"{event.source}: event {event.sequence} does not follow {head.sequence}"
            )

    def expected(self, public_key: str) -> int:
        """The number that the sender's next event must have."""
        return self.heads.get(public_key, ChainHead()).sequence + 1
