"""People over the SDK: users, and the keys of programs that act in one's name."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from swarm.answer import parse
from swarm.http import Call, Gateway

UserRole = Literal["admin", "user", "viewer"]
DEFAULT_DAYS: Final = 90


class _View(BaseModel):
    """What a gateway answers; what a newer one adds is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class UserAccount(_View):
    """A user as an admin sees them."""

    id: str
    username: str
    role: UserRole
    tenant: str
    disabled: bool
    created_at: datetime


class ApiKey(_View):
    """A key that is in force; `key` is there only where it was just made."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None
    key: str | None = Field(None, repr=False)


class _Users(_View):
    users: tuple[UserAccount, ...]


class _ApiKeys(_View):
    api_keys: tuple[ApiKey, ...]


class AsyncPeople:
    """Users and API keys. Reach it as ``swarm.people``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def users(self) -> tuple[UserAccount, ...]:
        """Every user, in the order in which they were made.

        Raises:
            NotAllowed: only admins may ask.
        """
        return parse(_Users, await self._gateway.call(Call(method="GET", path="/v1/users"))).users

    async def create_user(
        self, username: str, password: str, *, role: UserRole = "user", tenant: str = "default"
    ) -> UserAccount:
        """Make a user.

        Raises:
            Conflict: the name is taken.
            Refused: the name or the password is not accepted.
            NotAllowed: only admins may.
        """
        body: dict[str, JsonValue] = {
            "username": username,
            "password": password,
            "role": role,
            "tenant": tenant,
        }
        call = Call(method="POST", path="/v1/users", json=body)
        return parse(UserAccount, await self._gateway.call(call, repeatable=False))

    async def change_user(
        self,
        user_id: str,
        *,
        role: UserRole | None = None,
        disabled: bool | None = None,
        password: str | None = None,
    ) -> UserAccount:
        """Change what a user is; what is left out stays.

        Raises:
            NotFound: there is no such user.
            Conflict: nobody would be left who may manage users.
            NotAllowed: only admins may.
        """
        wanted: dict[str, JsonValue] = {"role": role, "disabled": disabled, "password": password}
        body = {name: value for name, value in wanted.items() if value is not None}
        call = Call(method="PATCH", path=f"/v1/users/{quote(user_id, safe='')}", json=body)
        return parse(UserAccount, await self._gateway.call(call))

    async def api_keys(self) -> tuple[ApiKey, ...]:
        """One's own keys that are in force."""
        call = Call(method="GET", path="/auth/api-keys")
        return parse(_ApiKeys, await self._gateway.call(call)).api_keys

    async def create_api_key(
        self, name: str, scopes: Sequence[str], *, expires_in_days: int = DEFAULT_DAYS
    ) -> ApiKey:
        """Make a key; its `key` is not shown again.

        Raises:
            Refused: a scope is none, or not one that one's role has.
            TooManyRequests: ten a minute are enough.
        """
        body: dict[str, JsonValue] = {
            "name": name,
            "scopes": list(scopes),
            "expires_in_days": expires_in_days,
        }
        call = Call(method="POST", path="/auth/api-keys", json=body)
        return parse(ApiKey, await self._gateway.call(call, repeatable=False))

    async def revoke_api_key(self, key_id: str) -> None:
        """Put one of one's own keys out of force.

        Raises:
            NotFound: there is no such key in force.
        """
        path = f"/auth/api-keys/{quote(key_id, safe='')}"
        await self._gateway.call(Call(method="DELETE", path=path), repeatable=False)
