"""What people may do, by role. What is not listed is denied."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """The role of a person's account."""

    ADMIN = "admin"
    USER = "user"
    VIEWER = "viewer"


class Permission(StrEnum):
    """One thing that a person may be allowed to do."""

    RUN_READ = "run.read"
    """Look at runs: one's own, and those that one of the next two adds."""
    RUN_READ_TENANT = "run.read_tenant"
    """Look at the runs of everybody in one's tenant."""
    RUN_ANY = "run.any"
    """Treat anybody's run as one's own."""
    RUN_SUBMIT = "run.submit"
    RUN_CANCEL = "run.cancel"
    RUN_CONTROL = "run.control"
    """Pause a run, let it go on, try it again."""
    RUN_APPROVE = "run.approve"
    """Answer for a step that may not begin unasked."""
    CHAT_COMPLETE = "chat.complete"
    EMBEDDING_CREATE = "embedding.create"
    MODEL_READ = "model.read"
    MEMORY_READ = "memory.read"
    MEMORY_WRITE = "memory.write"
    MEMORY_MANAGE = "memory.manage"
    """Have the memory made anew from what it is made of."""
    AUDIT_READ = "audit.read"
    USAGE_READ = "usage.read"
    """See what one used up of the models; who manages users sees it of everybody."""
    USER_MANAGE = "user.manage"
    API_KEY_MANAGE = "api_key.manage"
    """Make, list and revoke one's own API keys."""
    ACCOUNT_MANAGE = "account.manage"
    """List and end one's own sessions, change one's password."""


_EVERYBODY = frozenset(
    {
        Permission.RUN_READ,
        Permission.MODEL_READ,
        Permission.MEMORY_READ,
        Permission.AUDIT_READ,
        Permission.USAGE_READ,
        Permission.ACCOUNT_MANAGE,
    }
)
_VIEWER = _EVERYBODY | {Permission.RUN_READ_TENANT}
_USER = _EVERYBODY | {
    Permission.RUN_SUBMIT,
    Permission.RUN_CANCEL,
    Permission.RUN_CONTROL,
    Permission.RUN_APPROVE,
    Permission.CHAT_COMPLETE,
    Permission.EMBEDDING_CREATE,
    Permission.MEMORY_WRITE,
    Permission.API_KEY_MANAGE,
}
_ADMIN = _USER | {
    Permission.RUN_READ_TENANT,
    Permission.RUN_ANY,
    Permission.MEMORY_MANAGE,
    Permission.USER_MANAGE,
}

PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {Role.VIEWER: _VIEWER, Role.USER: _USER, Role.ADMIN: _ADMIN}
)
"""Everything that is allowed. Each role is listed in full; a new permission
belongs to nobody until it is added here."""

SCOPES: frozenset[Permission] = frozenset(Permission) - {
    Permission.ACCOUNT_MANAGE,
    Permission.API_KEY_MANAGE,
}
"""What an API key may be given. A key that leaked can neither make another one nor
change the password or end the sessions of its owner."""


@dataclass(frozen=True, slots=True)
class Allow:
    """The policy allows it."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The policy does not allow it; `reason` is a sentence for the person."""

    reason: str


def permit(role: str, permission: str) -> Allow | Deny:
    """Whether someone of that role may do it; anything unknown is denied.

    Args:
        role: a Role, or its name as a token or a database row has it.
        permission: a Permission, or its name.
    """
    if role not in PERMISSIONS:
        return Deny(f"There is no role {role!r}.")
    if permission in PERMISSIONS[Role(role)]:
        return Allow()
    return Deny(f"The role {Role(role)} may not do {str(permission)!r}.")
