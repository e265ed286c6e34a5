"""When a credential is renewed, and when again after a failure; without a broker."""

import asyncio
from datetime import timedelta

import pytest

from actors.renewal import LONGEST_PAUSE_S, ended_by, pause_after, renewal_due
from bus.errors import IdentityError
from bus.nkey import AgentKey
from tests.sending import credential_of

CREDENTIAL = credential_of("coder", "coder-1", AgentKey.generate(), ttl_s=3600)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_a_credential_is_renewed_about_two_thirds_through_its_life(chance: float) -> None:
    after = renewal_due(CREDENTIAL, chance) - CREDENTIAL.issued_at
    life = CREDENTIAL.expires_at - CREDENTIAL.issued_at
    assert 0.6 * life < after < 0.75 * life


def test_members_that_began_together_do_not_come_together() -> None:
    assert renewal_due(CREDENTIAL, 0.1) < renewal_due(CREDENTIAL, 0.9)


def test_a_renewal_that_fails_is_tried_more_and_more_slowly() -> None:
    pauses = [pause_after(n, timedelta(hours=1)) for n in range(1, 40)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 1
    assert pauses[-1] == LONGEST_PAUSE_S


@pytest.mark.parametrize("left_s", [30.0, 4.0, 0.0, -100.0])
def test_it_is_tried_several_times_before_the_end_and_ever_after(left_s: float) -> None:
    assert 0.1 < pause_after(30, timedelta(seconds=left_s)) <= max(left_s / 4, 0.2)


async def test_a_block_ends_with_the_failure_of_what_is_done_beside_it() -> None:
    async def fail() -> None:
        raise IdentityError("over")

    with pytest.raises(IdentityError, match="over"):
        async with ended_by(fail()):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def endless() -> None:
        await asyncio.Event().wait()

    async def host() -> None:
        async with ended_by(endless()):
            await asyncio.Event().wait()

    task = asyncio.create_task(host())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_block_that_is_done_ends_what_is_done_beside_it() -> None:
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with ended_by(endless()):
        await asyncio.sleep(0)
    assert ended.is_set()
