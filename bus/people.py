"""What the gateway records of people: who got in, who did not, who may do what from here on.

Nothing here names anybody but by user id. Names that were typed and addresses stand as keyed
hashes, which tell whether two attempts were of the same one and nothing else. No password,
token or key is ever part of it.
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import AwareDatetime, Field

from bus.payload import Payload

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
KeyedHash = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Word = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9._-]+$")]


class LoginSucceeded(Payload):
    """A user gave the right password; a session begins."""

    TYPE: ClassVar[str] = "swarm.login.succeeded.v1"
    user: Id
    session: Id
    origin: KeyedHash


class LoginRefused(Payload):
    """A password was wrong, or the user is disabled, or there is none of that name."""

    TYPE: ClassVar[str] = "swarm.login.refused.v1"
    name: KeyedHash
    origin: KeyedHash


class AttemptsLimited(Payload):
    """Attempts were refused unseen, because there were too many; one event for many of them."""

    TYPE: ClassVar[str] = "swarm.attempts.limited.v1"
    limit: Word = Field(description="Of what there were too many.")
    count: int = Field(ge=1, description="Since the last such event.")
    origin: KeyedHash = Field(description="Of the last of them.")


class SessionRefreshed(Payload):
    """A refresh token was exchanged for the next one."""

    TYPE: ClassVar[str] = "swarm.session.refreshed.v1"
    user: Id
    session: Id


class RefreshRefused(Payload):
    """A refresh token was not accepted: unknown, expired, or of a session that had ended."""

    TYPE: ClassVar[str] = "swarm.refresh.refused.v1"
    origin: KeyedHash


class TokenReused(Payload):
    """A refresh token came a second time: it was stolen, and its session is revoked."""

    TYPE: ClassVar[str] = "swarm.token.reused.v1"
    user: Id
    session: Id
    origin: KeyedHash


class SessionEnded(Payload):
    """A session was ended before its time."""

    TYPE: ClassVar[str] = "swarm.session.ended.v1"
    user: Id
    session: Id
    because: Literal["logout", "revoked", "password", "disabled"]


class ApiKeyCreated(Payload):
    """A user made a key for a program."""

    TYPE: ClassVar[str] = "swarm.apikey.created.v1"
    user: Id
    key: Id
    scopes: tuple[Word, ...]
    expires_at: AwareDatetime


class ApiKeyUsed(Payload):
    """A key was used for the first time."""

    TYPE: ClassVar[str] = "swarm.apikey.used.v1"
    user: Id
    key: Id


class ApiKeyRevoked(Payload):
    """A user put a key out of force."""

    TYPE: ClassVar[str] = "swarm.apikey.revoked.v1"
    user: Id
    key: Id


class UserCreated(Payload):
    """A user was made, by an admin or, where `by` is the user, by registering."""

    TYPE: ClassVar[str] = "swarm.user.created.v1"
    user: Id
    role: Word
    tenant: Word
    by: Id


class UserChanged(Payload):
    """A user has another role, standing or password; what is None stayed as it was."""

    TYPE: ClassVar[str] = "swarm.user.changed.v1"
    user: Id
    by: Id
    role: Word | None = None
    disabled: bool | None = None
    password: bool = Field(False, description="Whether there is a new one.")


PEOPLE: Final[tuple[type[Payload], ...]] = (
    LoginSucceeded,
    LoginRefused,
    AttemptsLimited,
    SessionRefreshed,
    RefreshRefused,
    TokenReused,
    SessionEnded,
    ApiKeyCreated,
    ApiKeyUsed,
    ApiKeyRevoked,
    UserCreated,
    UserChanged,
)
