"""The events that change what is trusted."""

from typing import ClassVar

from pydantic import AwareDatetime, Field

from bus.payload import Name, Payload, Person, Reason


class TrustChange(Payload):
    """What every event has that changes what is trusted."""

    requested_by: Person
    reason: Reason = ""


class IdentityRevoked(TrustChange):
    """The authority vouches for a key no more, whatever time an event of it claims."""

    TYPE: ClassVar[str] = "swarm.identity.revoked.v1"
    role: Name
    name: Name
    public_key: str = Field(max_length=64)


class AuthorityRotated(TrustChange):
    """Other keys than before sign credentials from here on."""

    TYPE: ClassVar[str] = "swarm.authority.rotated.v1"
    account_jwt: str = Field(
        description="Signed by the operator; its signing keys may sign credentials.",
        max_length=16_384,
    )


class RootRotated(TrustChange):
    """Another operator than before vouches for the account from here on."""

    TYPE: ClassVar[str] = "swarm.root.rotated.v1"
    operator: str = Field(description="The new operator's public key.", max_length=64)
    endorsement: str = Field(
        description="The old operator's signature of both keys, base64url.", max_length=86
    )
    acceptance: str = Field(
        "", description="The new operator's signature of the same, base64url.", max_length=86
    )
    account_jwt: str = Field(description="Signed by the new operator.", max_length=16_384)
    log_key_jwt: str = Field(
        "", description="The new operator's word over the audit log's key.", max_length=4_096
    )


class RotationRequested(TrustChange):
    """The member that owns a key is to end its chain and go on under a new key."""

    TYPE: ClassVar[str] = "swarm.rotation.requested.v1"
    role: Name
    name: Name
    public_key: str = Field(max_length=64)


class SubjectForgotten(TrustChange):
    """The key of a person is destroyed: nobody reads again what was sealed under it."""

    TYPE: ClassVar[str] = "swarm.subject.forgotten.v1"
    subject: str = Field(description="The person, by user id.", min_length=1, max_length=128)
    forgotten_at: AwareDatetime
