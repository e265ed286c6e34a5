"""What the gateway needs to know people by: the ports, and the parts that belong together.

Each port is what one adapter in storage/ offers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from policies.passwords import Passwords
from policies.rate_limits import RateLimit
from policies.refresh_tokens import LIFE_S
from policies.token_keys import TokenKeys
from serve.attempts import Attempts
from serve.callers import Callers
from serve.client_address import Network
from serve.people_events import PeopleEvents
from serve.people_ports import ApiKeys, RunOwners, Sessions
from storage.cache import Allow, Deny
from storage.sessions_end import SessionsEnd
from storage.users import DEFAULT_TENANT, User, UserRole

Registration = Literal["closed", "open"]


class Users(Protocol):
    """Who may log in."""

    async def by_name(self, username: str) -> User | None:
        """The user of that name in whatever case, disabled ones included."""
        ...

    async def by_id(self, user_id: UUID) -> User | None:
        """The user with that id, disabled ones included."""
        ...

    async def all(self) -> tuple[User, ...]:
        """Every user, in the order in which they were made."""
        ...

    async def create(
        self,
        *,
        username: str,
        password_hash: str,
        role: UserRole,
        tenant: str = DEFAULT_TENANT,
        user_id: UUID | None = None,
        by: UUID | None = None,
    ) -> User:
        """Add a user, and note by whom; UserExists where the name is taken."""
        ...

    async def change(
        self,
        user_id: UUID,
        *,
        role: UserRole | None = None,
        disabled: bool | None = None,
        password_hash: str | None = None,
        by: UUID | None = None,
        ending: SessionsEnd | None = None,
    ) -> User:
        """Change role, standing or password, and note by whom; UserNotFound, LastAdmin.

        Sessions end with it, or neither is done.
        """
        ...

    async def set_password_hash(
        self, user_id: UUID, password_hash: str, *, instead_of: str
    ) -> bool:
        """Replace a hash of the same password; False where there is another one by now."""
        ...


class Throttle(Protocol):
    """Counts failed attempts to log in by user name; denies when it cannot count."""

    async def check(self, key: str) -> Allow | Deny:
        """Ask before the password is looked at; the attempt counts as failed from then on."""
        ...

    async def not_made(self, key: str) -> None:
        """Take back an attempt whose password nobody could look at."""
        ...

    async def succeeded(self, key: str) -> None:
        """Forget the failures."""
        ...


class Rates(Protocol):
    """Counts attempts; where it cannot, the limit says whether they go on."""

    async def hit(self, limit: RateLimit, who: str) -> Allow | Deny:
        """Take one of the places of a window."""
        ...

    async def give_back(self, limit: RateLimit, who: str) -> None:
        """Give one back."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleRules:
    """What may be set about people.

    Attributes:
        registration: whether strangers may make themselves a user.
        refresh_life_s: of a refresh token, from its making.
        proxies: whose X-Forwarded-For is believed.
    """

    registration: Registration = "closed"
    refresh_life_s: int = LIFE_S
    proxies: Sequence[Network] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Everything that the gateway knows people by."""

    users: Users
    passwords: Passwords
    sessions: Sessions
    api_keys: ApiKeys
    tokens: TokenKeys
    throttle: Throttle
    rates: Rates
    callers: Callers
    attempts: Attempts
    events: PeopleEvents
    """What was done with accounts, and noted by the stores."""
    owners: RunOwners
    rules: PeopleRules = PeopleRules()


def expires_at(now: datetime, life_s: int) -> datetime:
    """The end of a life that begins now."""
    return datetime.fromtimestamp(now.timestamp() + life_s, tz=now.tzinfo)
