"""Verification: whether a received event may be acted on, and the chains of its senders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bus.accounts import Account
from bus.errors import (
    ExpiredKey,
    IdentityError,
    KeyRevoked,
    NotPermitted,
    SequenceError,
    SubjectMismatch,
    UnknownKey,
)
from bus.event import Event
from bus.identity import Credential
from bus.nkey import verify_signature
from bus.payloads import Payload
from bus.ring import is_accepted, is_endorsed
from bus.signing import ChainHead, SubjectPolicy
from bus.subjects import ASSIGNED, Subject, kind_of, parse
from bus.trust_payloads import AuthorityRotated, IdentityRevoked, RootRotated


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A credential and where in the log it was first announced."""

    credential: Credential
    stream_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the log says of one key.

    Attributes:
        announced: its credentials, in the order of the log.
        revoked_at: where it was revoked; None if it was not.
    """

    announced: tuple[Admitted, ...] = ()
    revoked_at: int | None = None

    def is_revoked(self, place: int) -> bool:
        """Whether it was revoked before a place in the log."""
        return self.revoked_at is not None and self.revoked_at < place

    def known_at(self, place: int) -> tuple[Admitted, ...]:
        """What was announced up to a place: an announcement may be the first word of its key."""
        return tuple(each for each in self.announced if each.stream_sequence <= place)

    def credential_for(self, place: int, *moments: datetime) -> Credential | None:
        """The newest credential known at a place that covers all these moments."""
        for admitted in reversed(self.announced):
            credential = admitted.credential
            if admitted.stream_sequence <= place and all(map(credential.valid_at, moments)):
                return credential
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """Who may sign credentials, for what stands behind a place in the log."""

    since: int
    account: Account


class TrustStore:
    """Knows whom the log vouches for, at each place of it; believes nothing else.

    Built from the operator's public key alone: the account must be signed by it, each
    credential by a key of the account. Rotations and revocations are learnt in the order of
    the log; a credential counts by the account that was in force where it was announced.
    """

    def __init__(
        self, operator_public_key: str, account_jwt: str, roots: Sequence[RootRotated] = ()
    ) -> None:
        """Begin with the first account of the log.

        Args:
            operator_public_key: the root that is trusted.
            account_jwt: as it was before the first rotation in the log.
            roots: how operators followed each other, for who trusts a later root than the
                one that signed the account: each says itself whom it follows.

        Raises:
            IdentityError: no operator that is trusted signed the account.
        """
        account = Account.parse(account_jwt)
        if account.operator not in _trusted(operator_public_key, account.operator, roots):
            raise IdentityError("the account is not signed by the operator of this trust domain")
        self._reigns = [Reign(since=0, account=account)]
        self._announced: dict[str, tuple[Admitted, ...]] = {}
        self._revoked: dict[str, int] = {}

    def admit(self, token: str, stream_sequence: int) -> Admitted:
        """Accept a credential announced at a place in the log, up to which trust is learnt.

        Raises:
            IdentityError: it is malformed or another issuer signed it.
        """
        credential = Credential.parse(token)
        account = self._in_force(stream_sequence).account
        if credential.account != account.public_key or credential.issuer not in account.signers:
            raise IdentityError(
                f"the credential of {credential.public_key} was signed by {credential.issuer}, "
                f"not by the account of this trust domain"
            )
        known = self._announced.get(credential.public_key, ())
        same = next((each for each in known if each.credential.jwt == token), None)
        if same is not None and same.stream_sequence <= stream_sequence:
            return same
        admitted = Admitted(credential=credential, stream_sequence=stream_sequence)
        kept = [each for each in known if each is not same]
        ordered = sorted([*kept, admitted], key=lambda each: each.stream_sequence)
        self._announced[credential.public_key] = tuple(ordered)
        return admitted

    def learn(self, change: Payload, stream_sequence: int) -> None:
        """Take a verified change of trust; in the order of the log. Other payloads say nothing.

        Raises:
            IdentityError: the change is not the operator's.
        """
        match change:
            case IdentityRevoked(public_key=public_key):
                self._revoked.setdefault(public_key, stream_sequence)
            case AuthorityRotated(account_jwt=account_jwt):
                account = Account.parse(account_jwt)
                self._follow(account, self._reigns[-1].account.operator, stream_sequence)
            case RootRotated(account_jwt=account_jwt, operator=operator):
                if not is_endorsed(change, self._reigns[-1].account.operator):
                    raise IdentityError("the root before it does not endorse the new one")
                self._follow(Account.parse(account_jwt), operator, stream_sequence)

    @property
    def roots(self) -> tuple[str, ...]:
        """Every operator that vouched for the account, the latest that is known first."""
        return tuple(dict.fromkeys(reign.account.operator for reign in reversed(self._reigns)))

    def find(self, public_key: str) -> Standing | None:
        """What is known of a key."""
        announced = self._announced.get(public_key, ())
        revoked_at = self._revoked.get(public_key)
        if not announced and revoked_at is None:
            return None
        return Standing(announced=announced, revoked_at=revoked_at)

    def _in_force(self, place: int) -> Reign:
        return next(reign for reign in reversed(self._reigns) if reign.since < max(place, 1))

    def _follow(self, account: Account, operator: str, stream_sequence: int) -> None:
        before = self._reigns[-1]
        if stream_sequence <= before.since:
            return  # learnt already
        if (account.public_key, account.operator) != (before.account.public_key, operator):
            raise IdentityError("the new account is not this one as its operator vouches for it")
        if account.issued_at <= before.account.issued_at:
            raise IdentityError("the account was not issued later than the one before it")
        self._reigns.append(Reign(since=stream_sequence, account=account))


def verify(
    event: Event,
    known: Standing | None,
    policy: SubjectPolicy,
    *,
    stream_sequence: int,
    stored_at: datetime,
    is_signed: bool = False,
) -> None:
    """Decide whether an event may be acted on. Cheap checks come before the signature.

    Args:
        event: what was received.
        known: what the log says of its key.
        policy: in force at its place.
        stream_sequence: its place.
        stored_at: when the stream stored it.
        is_signed: whether its signature is known to be good.

    Raises:
        UnknownKey: nobody of this trust domain vouches for the key at this place in the log.
        KeyRevoked: the key was revoked before this place.
        ExpiredKey: no credential was valid when signed and when stored.
        SubjectMismatch: subject, type, run and sender do not belong together.
        NotPermitted: the policy does not let this role publish there.
        BadSignature: the signature does not cover what was received.
    """
    credential = _credential_of(event, known, stream_sequence, stored_at)
    if (event.role, event.agent) != (credential.role, credential.name):
        raise NotPermitted(
            f"{event.source} is not {credential.role}/{credential.name}, whose key signed it"
        )
    subject = _matching_subject(event)
    refusal = policy.refusal(credential.role, subject)
    if refusal is not None:
        raise NotPermitted(f"{event.source} may not publish on {event.subject}: {refusal}")
    if not is_signed:
        verify_signature(event.key, event.signed_bytes, event.signature)


def _credential_of(
    event: Event, known: Standing | None, place: int, stored_at: datetime
) -> Credential:
    """The credential that vouches for the event's sender at that place."""
    if known is not None and known.is_revoked(place):
        raise KeyRevoked(f"{event.key} was revoked at {known.revoked_at}, before {place}")
    announced = () if known is None else known.known_at(place)
    if known is None or not announced:
        raise UnknownKey(f"no credential in the log before {place} vouches for {event.key}")
    last = announced[-1].credential
    if last.public_key != event.key:
        raise UnknownKey(f"the credential is that of {last.public_key}, not of {event.key}")
    credential = known.credential_for(place, stored_at, event.time)
    if credential is None:
        raise ExpiredKey(
            f"the credential of {event.source} ran to {last.expires_at.isoformat()}; "
            f"the event was signed {event.time.isoformat()}, stored {stored_at.isoformat()}"
        )
    return credential


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


def _trusted(root: str, first: str, roots: Sequence[RootRotated]) -> set[str]:
    """The root that is trusted, and those before it that the later ones say they follow."""
    line = [first, *(rotated.operator for rotated in roots)]
    trusted = {root}
    for old, rotated in reversed(list(zip(line, roots, strict=False))):
        if rotated.operator in trusted and is_accepted(rotated, old):
            trusted.add(old)
    return trusted
