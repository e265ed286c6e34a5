"""The permissions of people."""

import pytest

from policies.roles import PERMISSIONS, SCOPES, Allow, Deny, Permission, Role, permit

WRITES = [
    Permission.RUN_SUBMIT,
    Permission.RUN_CANCEL,
    Permission.RUN_CONTROL,
    Permission.RUN_APPROVE,
    Permission.CHAT_COMPLETE,
    Permission.EMBEDDING_CREATE,
    Permission.MEMORY_WRITE,
    Permission.API_KEY_MANAGE,
]
OWN = [Permission.ACCOUNT_MANAGE]
READS = [
    Permission.RUN_READ,
    Permission.MODEL_READ,
    Permission.MEMORY_READ,
    Permission.AUDIT_READ,
    Permission.USAGE_READ,
]


@pytest.mark.parametrize("permission", list(Permission))
def test_an_admin_may_do_everything(permission: Permission) -> None:
    assert permit(Role.ADMIN, permission) == Allow()


@pytest.mark.parametrize("permission", [*READS, *WRITES, *OWN])
def test_a_user_may_read_and_work(permission: Permission) -> None:
    assert permit("user", permission) == Allow()


@pytest.mark.parametrize("permission", list(Permission))
def test_a_user_may_do_nothing_else(permission: Permission) -> None:
    allowed = isinstance(permit("user", permission), Allow)
    assert allowed == (permission in (*READS, *WRITES, *OWN))


def test_a_user_may_not_manage_users() -> None:
    assert permit("user", "user.manage") == Deny("The role user may not do 'user.manage'.")


@pytest.mark.parametrize("permission", list(Permission))
def test_a_viewer_may_only_read_and_see_to_their_own_account(permission: Permission) -> None:
    allowed = isinstance(permit("viewer", permission), Allow)
    assert allowed == (permission in (*READS, *OWN, Permission.RUN_READ_TENANT))


def test_an_api_key_can_neither_beget_another_nor_take_the_account_over() -> None:
    assert set(Permission) - SCOPES == {Permission.ACCOUNT_MANAGE, Permission.API_KEY_MANAGE}


@pytest.mark.parametrize("role", ["", "root", "Admin", "admin ", "viewer,admin"])
def test_an_unknown_role_may_do_nothing(role: str) -> None:
    for permission in Permission:
        assert isinstance(permit(role, permission), Deny)


@pytest.mark.parametrize("permission", ["", "run", "run.*", "RUN.READ", "run.read "])
def test_an_unknown_permission_is_given_to_nobody(permission: str) -> None:
    for role in Role:
        assert isinstance(permit(role, permission), Deny)


def test_every_permission_belongs_to_someone_and_every_role_is_listed() -> None:
    assert set(PERMISSIONS) == set(Role)
    assert frozenset().union(*PERMISSIONS.values()) == set(Permission)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PERMISSIONS[Role.VIEWER] = frozenset(Permission)  # type: ignore[index]
