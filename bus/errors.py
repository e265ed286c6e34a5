"""Every error of the system descends from SwarmError.

    SwarmError
      BusError            bus/errors.py       events, identities, the log
      PolicyError         policies/errors.py  capabilities, passwords, tokens
      StorageError        storage/errors.py   Postgres, audit, users
      ActorError          actors/errors.py    roles, workflows, coordination
      ServeError          serve/errors.py     models, the gateway
      ClusterError        cluster/errors.py   settings, embedded servers, start and stop
      ClientError         swarm/errors.py     the SDK and the command line

Within this folder:

    BusError
      MalformedEvent      bytes that are not an event of ours
        SealBroken        what is sealed in it cannot be opened with its key
      UntrustedEvent      an event that must not be acted on
        BadSignature  UnknownKey  ExpiredKey  KeyRevoked  SubjectMismatch  NotPermitted
        SequenceError  ObjectMissing  ObjectMismatch
      PublishError        an event that could not be stored
        PublishDenied  PublishConflict  PublishUnconfirmed  PayloadTooLarge  LogFull
        SealingFailed
      ConsumptionDenied   a reader that the policy does not let read
      IdentityError       a key or credential that cannot be used
      ClaimsRefused       the broker did not take an account as it is now
      MalformedPolicy     a policy document that cannot be read
      RefillFailed        the stream did not take back what it had lost
      SubjectKeyRefused   a person's key that is not given out, or cannot be read
      BusUnreachable      no connection to the broker
        SubjectKeyUnavailable

An error crosses processes: it is rebuilt from its message, so a constructor
takes one string and optional keywords with defaults.
"""

from typing import ClassVar


class SwarmError(Exception):
    """Something in the swarm failed."""

    code: ClassVar[str] = "error"
    """Stable, machine-readable name; what HTTP and JSON output show."""
    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later without a change."""
    hint: ClassVar[str] = ""
    """What a person can do about it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or type(self).__name__).splitlines()[0])


class BusError(SwarmError):
    """The event bus failed."""

    code = "bus_error"


class MalformedEvent(BusError):
    """The bytes are not an event of this system."""

    code = "malformed_event"


class SealBroken(MalformedEvent):
    """What is sealed in the event cannot be opened with its key: it is of another event."""

    code = "seal_broken"


class UntrustedEvent(BusError):
    """The event must not be acted on."""

    code = "untrusted_event"


class BadSignature(UntrustedEvent):
    """The signature does not cover what was received."""

    code = "bad_signature"


class UnknownKey(UntrustedEvent):
    """No credential of this trust domain vouches for the key."""

    code = "unknown_key"


class ExpiredKey(UntrustedEvent):
    """The credential was not valid when the event was stored."""

    code = "expired_key"


class KeyRevoked(UntrustedEvent):
    """The key was revoked earlier in the log."""

    code = "key_revoked"


class SubjectMismatch(UntrustedEvent):
    """The event was published on a subject that it does not belong to."""

    code = "subject_mismatch"


class NotPermitted(UntrustedEvent):
    """The policy does not allow this sender to publish this event."""

    code = "not_permitted"


class SequenceError(UntrustedEvent):
    """The sender's chain has a gap, a fork, a repeat or a reordering here."""

    code = "sequence_error"


class ObjectMissing(UntrustedEvent):
    """The object that holds the payload is not in the store.

    A sender puts the object first: it was lost, or never there.
    """

    code = "object_missing"


class ObjectMismatch(UntrustedEvent):
    """The object that is stored is not the one that the event refers to."""

    code = "object_mismatch"


class PublishError(BusError):
    """The event was not stored."""

    code = "publish_error"


class PublishDenied(PublishError):
    """The policy or the broker refused the subject."""

    code = "publish_denied"
    hint = "See what the role may do: swarm policy show."


class PublishConflict(PublishError):
    """Another event was stored first; read it, then decide again."""

    code = "publish_conflict"
    retryable = True


class PublishUnconfirmed(PublishError):
    """The broker did not confirm in time; the same bytes may be sent again."""

    code = "publish_unconfirmed"
    retryable = True
    hint = "Check that the broker is up: swarm status."


class PayloadTooLarge(PublishError):
    """The payload is over the limit of 16 MiB."""

    code = "payload_too_large"
    hint = "Make the answer shorter, or declare fewer inputs."


class LogFull(PublishError):
    """The log has no room left; nothing was stored."""

    code = "log_full"
    retryable = True
    hint = "Set SWARM_JETSTREAM_MAX_BYTES higher: what is not audited yet is never dropped."


class SealingFailed(PublishError):
    """The key of the person whom it is about is not to be had; nothing was stored."""

    code = "sealing_failed"
    retryable = True
    hint = "Check that the swarm is up: swarm status."


class IdentityError(BusError):
    """The key or credential cannot be used."""

    code = "identity_error"


class ClaimsRefused(BusError):
    """The broker did not take the members' account as it is now."""

    code = "claims_refused"
    hint = "A broker of your own must trust the operator in SWARM_HOME/keys: see docs/keys.md."


class ConsumptionDenied(BusError):
    """The policy does not let this role read that."""

    code = "consumption_denied"
    hint = "See what the role may do: swarm policy show."


class MalformedPolicy(BusError):
    """The policy document cannot be read."""

    code = "malformed_policy"


class RefillFailed(BusError):
    """The stream did not take a message back on its place."""

    code = "refill_failed"
    hint = "See that nothing else publishes to the stream, then run again: swarm recover."


class SubjectKeyRefused(BusError):
    """The key of a person is not given to this member, or cannot be read."""

    code = "subject_key_refused"
    hint = "See that SWARM_HOME/keys/subjects can be read by the user of the swarm."


class BusUnreachable(BusError):
    """No connection to the broker."""

    code = "bus_unreachable"
    retryable = True
    hint = "Check that the broker is up: swarm status."


class SubjectKeyUnavailable(BusUnreachable):
    """The authority did not give the key of a person whom the log says something about."""

    code = "subject_key_unavailable"
    hint = "Check that the swarm is up: swarm status."
