"""kill -9 of a witness: at each instant of writing, and at any; no second branch gets through."""

import asyncio
import random
import signal
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from storage.checkpoint import parse_checkpoint
from storage.cosignature import join_signatures
from storage.note import parse_signatures
from swarm.witness.state import open_state
from swarm.witness.witness import Witness
from tests.branching import LOG_VKEY, Branch
from tests.faults.dying_witness import INSTANTS, WRITTEN_DOWN
from tests.witnessing import NAME, WATCHED, Running, running_witness

MAIN = Branch.of(("a", 600))
FORK = Branch.of(("a", 5), ("b", 595))
ROUNDS, ANSWERS = 4, 3


def answer(state: Path, *bodies: bytes) -> list[int]:
    """The statuses that a witness on this directory answers with."""
    with open_state(state, WATCHED, NAME) as opened, capture_logs():
        witness = Witness(opened, lambda: 1.0)
        return [witness.add_checkpoint(body).status for body in bodies]


@pytest.mark.parametrize("instant", INSTANTS)
async def test_killed_while_it_writes_it_has_signed_one_branch_at_most(
    tmp_path: Path, instant: str
) -> None:
    assert answer(tmp_path, MAIN.request(0, 5)) == [200]
    dying = ("tests.faults.dying_witness", instant)
    async with running_witness(tmp_path, module=dying) as witness:
        with pytest.raises(httpx.TransportError):  # it never answers
            await witness.add(MAIN.request(5, 9))
        assert await witness.process.wait() == -signal.SIGKILL
    if instant in WRITTEN_DOWN:  # as if it were handed out
        assert answer(tmp_path, FORK.request(5, 9), FORK.request(9, 9)) == [409, 409]
        assert answer(tmp_path, FORK.request(9, 12), MAIN.request(9, 9)) == [422, 200]
    else:  # never written down, so never handed out
        assert answer(tmp_path, FORK.request(5, 9), MAIN.request(9, 12)) == [200, 422]


async def test_killed_at_any_instant_it_goes_on_from_all_that_it_answered(tmp_path: Path) -> None:
    """The log grows as fast as it can, and shows a branch after each kill."""
    chance, held, answered = random.SystemRandom(), 0, list[int]()
    for _ in range(ROUNDS):
        async with running_witness(tmp_path, "--name", NAME) as witness:
            if held > 5:
                statuses = [(await witness.add(FORK.request(old, 600))).status_code
                            for old in (0, held, held + 1)]  # fmt: skip
                assert set(statuses) <= {409, 422}
            held = await written_down(witness, held)
            delay = chance.uniform(0.02, 0.2)
            async with asyncio.TaskGroup() as tasks:
                growing = tasks.create_task(grow(witness, held, answered))
                tasks.create_task(kill_after(witness, delay, answered))
            held = growing.result()
        assert witness.process.returncode == -signal.SIGKILL
    assert answered == sorted(answered)
    assert len(answered) >= ANSWERS * ROUNDS


async def written_down(witness: Running, held: int) -> int:
    """The size that it starts with: what it answered last, or one that it died over."""
    newest = await witness.http.get("/checkpoint")
    if newest.status_code == 404:
        assert held == 0
        return 0
    checkpoint = parse_checkpoint(newest.text).verify(LOG_VKEY)
    assert held <= checkpoint.size <= held + 1
    assert checkpoint.root == MAIN.root(checkpoint.size)
    return checkpoint.size


async def grow(witness: Running, held: int, answered: list[int]) -> int:
    """One leaf at a time until the witness is gone; the size that it answered last."""
    for size in range(held + 1, len(MAIN.leaves)):
        try:
            response = await witness.add(MAIN.request(held, size))
        except httpx.TransportError:
            return held
        assert response.status_code == 200, response.text
        join_signatures(MAIN.note(size), parse_signatures(response.text))
        answered.append(size)
        held = size
    return held


async def kill_after(witness: Running, delay_s: float, answered: list[int]) -> None:
    """Once it has given some answers, however slow the machine is, and then at any instant."""
    enough = len(answered) + ANSWERS
    while len(answered) < enough:  # noqa: ASYNC110 - the other task is at it
        await asyncio.sleep(0.001)
    await asyncio.sleep(delay_s)
    await witness.kill()


async def test_a_second_process_on_the_same_directory_does_not_start(tmp_path: Path) -> None:
    async with running_witness(tmp_path, "--name", NAME) as first:
        with pytest.raises(AssertionError):  # it says nothing on its standard output
            async with running_witness(tmp_path):
                pytest.fail("two processes sign with one key")
        assert (await first.add(MAIN.request(0, 5))).status_code == 200
        await first.kill()
    async with running_witness(tmp_path) as second:
        assert second.key == first.key
        assert (await second.add(MAIN.request(5, 9))).status_code == 200
