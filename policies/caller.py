"""Who is calling, and what of a run is theirs. Pure."""

from dataclasses import dataclass, field
from datetime import datetime

from policies.roles import Allow, Deny, Permission, Role, permit


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A person, or a program in a person's name, as they stand at this moment.

    Attributes:
        user: the user's id, which never changes.
        username: for people to read.
        tenant: whom the user belongs with.
        role: as it is now, whatever it was when a token was made.
        session: of the access token; None for an API key.
        api_key: the id of the key; None for an access token.
        scopes: what an API key has of its owner's permissions; None: no such bound.
        expires_at: when the token or the key ends.
    """

    user: str
    username: str
    tenant: str
    role: Role
    session: str | None = None
    api_key: str | None = None
    scopes: frozenset[str] | None = field(default=None)
    expires_at: datetime

    def may(self, permission: Permission) -> Allow | Deny:
        """Whether the role has the permission, and the API key, if it is one, as well."""
        if self.scopes is not None and permission not in self.scopes:
            return Deny(f"This API key's scopes do not include {str(permission)!r}.")
        return permit(self.role, permission)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose a run is; `user` is empty where its submission names nobody."""

    user: str
    tenant: str


def may_see(caller: Caller, owner: Owner) -> bool:
    """Whether a run is the caller's to look at: their own, their tenant's, or anybody's."""
    if may_touch(caller, owner):
        return True
    tenants = isinstance(caller.may(Permission.RUN_READ_TENANT), Allow)
    return tenants and owner.tenant == caller.tenant


def may_touch(caller: Caller, owner: Owner) -> bool:
    """Whether a run is the caller's to act on, as far as their permissions go."""
    return isinstance(caller.may(Permission.RUN_ANY), Allow) or (
        bool(owner.user) and owner.user == caller.user
    )
