"""A login beside a change of the password that it comes with."""

from dataclasses import replace

import pytest
from argon2 import PasswordHasher

from storage.users import User
from tests.unit.serve.fake_people import MemoryUsers
from tests.unit.serve.fakes import PASSWORD, Fakes

LOGIN_BODY = {"username": "uma", "password": PASSWORD}
CHEAPER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, hash_len=16)
"""Its hashes are made anew by the hasher of now."""
NOW = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Changing(MemoryUsers):
    """Users whose hash becomes another one just after it was read for a login."""

    becomes = ""

    async def by_name(self, username: str) -> User | None:
        found = await super().by_name(username)
        if found is not None:
            self.users[username] = replace(found, password_hash=self.becomes)
        return found


def changing(stored: str, becomes: str) -> Fakes:
    users = Changing()
    users.becomes = becomes
    fakes = Fakes(users=users)
    users.users["uma"] = replace(users.users["uma"], password_hash=stored)
    return fakes


async def log_in(fakes: Fakes) -> int:
    async with fakes.client(None) as client:
        return (await client.post("/auth/login", json=LOGIN_BODY)).status_code


async def test_a_hash_of_former_parameters_is_made_anew() -> None:
    fakes = Fakes()
    fakes.users.users["uma"] = replace(
        fakes.users.users["uma"], password_hash=CHEAPER.hash(PASSWORD)
    )
    assert await log_in(fakes) == 200
    made = fakes.users.users["uma"].password_hash
    assert NOW.verify(made, PASSWORD)
    assert not NOW.check_needs_rehash(made)


@pytest.mark.parametrize("hasher", [NOW, CHEAPER], ids=["hashed now", "hashed before"])
async def test_a_login_does_not_undo_a_change_and_opens_no_session_behind_it(
    hasher: PasswordHasher,
) -> None:
    changed = NOW.hash("an entirely new one")
    fakes = changing(hasher.hash(PASSWORD), changed)
    assert await log_in(fakes) == 401
    assert fakes.users.users["uma"].password_hash == changed
    assert fakes.sessions.sessions == {}
    assert fakes.record.of_kind("login.refused", "swarm")
    assert not fakes.record.of_kind("login.succeeded", "swarm")


async def test_a_hash_that_another_login_made_anew_refuses_nobody() -> None:
    again = NOW.hash(PASSWORD)
    fakes = changing(CHEAPER.hash(PASSWORD), again)
    assert await log_in(fakes) == 200
    assert fakes.users.users["uma"].password_hash == again
