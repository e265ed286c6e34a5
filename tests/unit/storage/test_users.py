"""User names and rows."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from storage.users import User, username_key


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ada", "ADA"), ("stra\u00dfe", "STRASSE"), ("\ufb01x", "FIX"), ("e\u0301", "\u00c9")],
)
def test_names_that_differ_in_case_or_encoding_only_are_the_same(one: str, other: str) -> None:
    assert username_key(one) == username_key(other)


def test_other_names_are_others() -> None:
    assert username_key("ada") != username_key("eda")


def test_the_password_hash_is_not_shown() -> None:
    user = User(
        id=UUID(int=1),
        username="ada",
        password_hash="$argon2id$secret",
        role="admin",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        disabled=False,
    )
    assert "secret" not in repr(user)
