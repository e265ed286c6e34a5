"""Who may look at which part of the memory, and who may write there."""

from datetime import UTC, datetime
from typing import Final

import pytest

from policies.caller import Caller
from policies.roles import Allow, Permission, Role
from serve.memory_access import IfSeen, everything, reading, writing

SEES, WRITES, IF_SEEN, NOTHING = "sees", "writes", "if its run is seen", "nothing"
TABLE: Final = [
    # namespace          user        viewer      admin
    ("shared", SEES, SEES, SEES),
    ("shared/notes", WRITES, SEES, WRITES),
    ("shared/a/b", WRITES, SEES, WRITES),
    ("role", SEES, SEES, SEES),
    ("role/coder/habits", SEES, SEES, SEES),
    ("user", NOTHING, NOTHING, SEES),
    ("user/me", SEES, SEES, SEES),
    ("user/me/notes", WRITES, SEES, WRITES),
    ("user/me/a/b", WRITES, SEES, WRITES),
    ("user/other/notes", NOTHING, NOTHING, SEES),
    ("user/mee/notes", NOTHING, NOTHING, SEES),
    ("run", NOTHING, NOTHING, NOTHING),
    ("run/r1", IF_SEEN, IF_SEEN, IF_SEEN),
    ("run/r1/notes", IF_SEEN, IF_SEEN, IF_SEEN),
    ("", NOTHING, NOTHING, NOTHING),
    ("nowhere/notes", NOTHING, NOTHING, NOTHING),
    ("Shared/notes", NOTHING, NOTHING, NOTHING),
    ("shared/../user/other", WRITES, SEES, WRITES),  # a name like any other; the pattern bars it
]


def caller(role: Role, scopes: frozenset[str] | None = None) -> Caller:
    return Caller(
        user="me",
        username="me",
        tenant="red",
        role=role,
        scopes=scopes,
        expires_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


@pytest.mark.parametrize(("namespace", "user", "viewer", "admin"), TABLE)
def test_the_table(namespace: str, user: str, viewer: str, admin: str) -> None:
    for role, expected in ((Role.USER, user), (Role.VIEWER, viewer), (Role.ADMIN, admin)):
        who = caller(role)
        seen = reading(who, namespace)
        may = isinstance(who.may(Permission.MEMORY_WRITE), Allow)
        if expected == IF_SEEN:
            assert seen == IfSeen(run="r1")
        else:
            assert isinstance(seen, Allow) == (expected != NOTHING), role
        may_write = may and isinstance(writing(who, namespace), Allow)
        assert may_write == (expected == WRITES), role


def test_all_that_one_may_look_at_is_only_that() -> None:
    assert everything(caller(Role.USER)) == ("shared", "role", "user/me")
    assert everything(caller(Role.VIEWER)) == ("shared", "role", "user/me")
    assert everything(caller(Role.ADMIN)) == ("shared", "role", "user")
    for role in Role:
        who = caller(role)
        assert all(isinstance(reading(who, each), Allow) for each in everything(who))


def test_a_key_of_an_admin_without_that_scope_does_not_see_other_people() -> None:
    key = caller(Role.ADMIN, frozenset({Permission.MEMORY_READ}))
    assert not isinstance(reading(key, "user/other/notes"), Allow)
    assert everything(key) == ("shared", "role", "user/me")
