"""Passwords: argon2id at one cost for everybody."""

import asyncio
import threading
from typing import Literal

import pytest
from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import VerifyMismatchError

from policies.errors import PasswordRejected
from policies.passwords import MAX_BYTES, Passwords
from policies.roles import Allow, Deny

GOOD = "correct horse battery"
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


class Watched(PasswordHasher):
    """Notes which hashes were checked, in which threads, and how many at once."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=64, parallelism=1)
        self.checked: list[str] = []
        self.threads: set[int] = set()
        self.running = self.most = 0
        self.gate = threading.Lock()

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        with self.gate:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            self.checked.append(str(hash))
            self.threads.add(threading.get_ident())
            return super().verify(hash, password)
        finally:
            with self.gate:
                self.running -= 1


async def test_a_password_matches_its_own_hash_only() -> None:
    passwords = Passwords(CHEAP)
    stored = await passwords.hash(GOOD)
    assert stored.startswith("$argon2id$")
    assert await passwords.verify(GOOD, stored) == Allow()
    for wrong in ("", GOOD + " ", GOOD.upper(), "x" * (MAX_BYTES + 1), "\ud800"):
        assert isinstance(await passwords.verify(wrong, stored), Deny)


async def test_the_same_password_has_another_hash_each_time() -> None:
    passwords = Passwords(CHEAP)
    assert await passwords.hash(GOOD) != await passwords.hash(GOOD)


async def test_two_spellings_of_one_character_are_one_password() -> None:
    passwords = Passwords(CHEAP)
    stored = await passwords.hash("cafe\u0301 au lait")
    assert await passwords.verify("caf\u00e9 au lait", stored) == Allow()


async def test_an_unknown_user_costs_a_check_at_the_same_parameters() -> None:
    hasher = Watched()
    passwords = Passwords(hasher)
    denied = await passwords.verify(GOOD, None)
    wrong = await passwords.verify("wrong", await passwords.hash(GOOD))
    assert denied == wrong
    dummy, real = hasher.checked
    assert dummy.split("$")[:4] == real.split("$")[:4]
    assert [len(part) for part in dummy.split("$")] == [len(part) for part in real.split("$")]


async def test_an_unfit_password_costs_a_check_as_well() -> None:
    hasher = Watched()
    assert isinstance(await Passwords(hasher).verify("x" * 5000, None), Deny)
    assert len(hasher.checked) == 1


async def test_no_password_belongs_to_the_unknown_user() -> None:
    passwords = Passwords(CHEAP)
    for password in ("", GOOD, "x" * 5000):
        assert isinstance(await passwords.verify(password, None), Deny)
    with pytest.raises(VerifyMismatchError):
        CHEAP.verify(passwords._dummy, GOOD)


async def test_a_hash_that_is_none_is_denied_like_a_wrong_password() -> None:
    passwords = Passwords(CHEAP)
    assert await passwords.verify(GOOD, "not a hash") == await passwords.verify(GOOD, None)


async def test_hashing_happens_in_threads_and_a_few_at_a_time() -> None:
    hasher = Watched()
    passwords = Passwords(hasher, concurrency=2)
    await asyncio.gather(*(passwords.verify(GOOD, None) for _ in range(20)))
    assert threading.get_ident() not in hasher.threads
    assert hasher.most <= 2


@pytest.mark.parametrize("password", ["", "elevenchars", "x" * (MAX_BYTES + 1), "\ud800" * 12])
async def test_an_unfit_new_password_is_rejected(password: str) -> None:
    with pytest.raises(PasswordRejected):
        await Passwords(CHEAP).hash(password)


async def test_the_longest_password_is_accepted() -> None:
    passwords = Passwords(CHEAP)
    longest = "\u00e9" * (MAX_BYTES // 2)
    assert await passwords.verify(longest, await passwords.hash(longest)) == Allow()


async def test_hashes_of_other_parameters_are_to_be_renewed() -> None:
    passwords = Passwords(CHEAP)
    stored = await passwords.hash(GOOD)
    assert not passwords.needs_rehash(stored)
    assert Passwords().needs_rehash(stored)
    assert passwords.needs_rehash("not a hash")


def test_new_hashes_are_made_with_what_owasp_asks_for_or_more() -> None:
    """Least pairs of memory and passes, of the Password Storage Cheat Sheet."""
    parameters = extract_parameters(Passwords()._dummy)
    least = {1: 47_104, 2: 19_456, 3: 12_288, 4: 9_216, 5: 7_168}
    assert parameters.type is Type.ID
    assert parameters.memory_cost >= least[parameters.time_cost]
    assert parameters.salt_len >= 16
