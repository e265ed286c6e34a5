"""Whose a run is, for whom."""

from datetime import UTC, datetime

import pytest

from policies.caller import Caller, Owner, may_see, may_touch
from policies.roles import Allow, Deny, Permission, Role

MINE = Owner(user="u1", tenant="blue")
NEXT_DOOR = Owner(user="u2", tenant="blue")
ELSEWHERE = Owner(user="u3", tenant="red")
NOBODYS = Owner(user="", tenant="blue")


def caller(role: Role, scopes: frozenset[str] | None = None) -> Caller:
    return Caller(
        user="u1",
        username="ada",
        tenant="blue",
        role=role,
        scopes=scopes,
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("role", "owner", "sees", "touches"),
    [
        (Role.USER, MINE, True, True),
        (Role.USER, NEXT_DOOR, False, False),
        (Role.USER, ELSEWHERE, False, False),
        (Role.USER, NOBODYS, False, False),
        (Role.VIEWER, MINE, True, True),
        (Role.VIEWER, NEXT_DOOR, True, False),
        (Role.VIEWER, ELSEWHERE, False, False),
        (Role.VIEWER, NOBODYS, True, False),
        (Role.ADMIN, NEXT_DOOR, True, True),
        (Role.ADMIN, ELSEWHERE, True, True),
        (Role.ADMIN, NOBODYS, True, True),
    ],
)
def test_who_sees_and_touches_what(role: Role, owner: Owner, *, sees: bool, touches: bool) -> None:
    assert may_see(caller(role), owner) == sees
    assert may_touch(caller(role), owner) == touches


def test_a_user_without_an_id_owns_nothing() -> None:
    nobody = Caller(
        user="", username="", tenant="blue", role=Role.USER, expires_at=datetime.now(UTC)
    )
    assert not may_touch(nobody, NOBODYS)


def test_the_scopes_of_a_key_narrow_the_role_and_never_widen_it() -> None:
    key = caller(Role.USER, frozenset({"run.read", "user.manage"}))
    assert key.may(Permission.RUN_READ) == Allow()
    assert isinstance(key.may(Permission.RUN_SUBMIT), Deny)
    assert isinstance(key.may(Permission.USER_MANAGE), Deny)


def test_an_admins_key_reaches_other_peoples_runs_only_with_that_scope() -> None:
    assert not may_see(caller(Role.ADMIN, frozenset({"run.read"})), NEXT_DOOR)
    assert may_see(caller(Role.ADMIN, frozenset({"run.read", "run.any"})), NEXT_DOOR)


@pytest.mark.parametrize("permission", list(Permission))
def test_a_key_without_scopes_may_do_nothing(permission: Permission) -> None:
    assert isinstance(caller(Role.ADMIN, frozenset()).may(permission), Deny)
