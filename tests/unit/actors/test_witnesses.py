"""The log's side of witnessing, against the real witness in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from actors.witnesses import AFRESH_S, Asking
from bus.errors import BusUnreachable
from bus.event import Draft
from bus.payloads import WitnessContradicted
from storage.audit_reader import StoredCheckpoint
from storage.cosignature import Cosignature, WitnessAddress, cosign, join_signatures
from storage.note import parse_note
from storage.witnessed import WitnessState
from swarm.witness.decide import Known
from swarm.witness.server import witness_app
from swarm.witness.state import StateDirectory, Watched, open_state
from swarm.witness.witness import Witness
from tests.branching import LOG_VKEY, ORIGIN, Branch

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MAIN = Branch.of(("a", 40))
FORK = Branch.of(("a", 5), ("b", 35))


@dataclass
class MemoryLedger:
    """A log in memory; the branch and the size can be changed under it."""

    branch: Branch = MAIN
    size: int = 0
    kept: dict[int, Cosignature] = field(default_factory=dict)
    reports: list[tuple[str, str]] = field(default_factory=list)
    state: WitnessState | None = None

    async def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        size = size or self.size
        if not size:
            return None
        return StoredCheckpoint(
            size=size,
            root=self.branch.root(size),
            note=self.branch.note(size),
            signed_at=NOON,
            cosignatures=[str(self.kept[size].line)] if size in self.kept else [],
        )

    async def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        return tuple(self.branch.proof(old, new))

    async def keep(self, size: int, _: WitnessAddress, cosignature: Cosignature) -> None:
        self.kept.setdefault(size, cosignature)

    async def report(self, _: WitnessAddress, problem: str, detail: str) -> None:
        self.reports.append((problem, detail))

    async def state_of(self, _: WitnessAddress) -> WitnessState | None:
        return self.state


@dataclass
class Told:
    """Where alarms go; may be out of reach."""

    payloads: list[WitnessContradicted] = field(default_factory=list)
    out_of_reach: bool = False

    async def __call__(self, draft: Draft) -> None:
        if self.out_of_reach:
            raise BusUnreachable
        assert isinstance(draft.payload, WitnessContradicted)
        self.payloads.append(draft.payload)

    @property
    def said(self) -> list[tuple[str, int, int]]:
        return [(payload.how, payload.size, payload.held) for payload in self.payloads]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    watched = Watched(origin=ORIGIN, keys=(LOG_VKEY,))
    with open_state(tmp_path, watched, "witness.example/w1") as opened, capture_logs():
        yield opened


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def told() -> Told:
    return Told()


@asynccontextmanager
async def asking(
    state: StateDirectory,
    ledger: MemoryLedger,
    told: Told,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Asking]:
    address = WitnessAddress(url="http://witness", key=state.parties.own_key)
    real = httpx.ASGITransport(witness_app(Witness(state, lambda: 1_764_000_000.0)))
    async with httpx.AsyncClient(transport=transport or real) as http:
        yield Asking(ledger, address, http, told)


async def test_each_new_checkpoint_is_cosigned(
    state: StateDirectory, ledger: MemoryLedger, told: Told
) -> None:
    async with asking(state, ledger, told) as witness:
        for size in (0, 1, 5, 6, 20):
            ledger.size = size
            assert await witness.once()
    assert sorted(ledger.kept) == [1, 5, 6, 20]
    assert (ledger.reports, told.said) == ([], [])


async def test_nothing_is_asked_while_the_log_does_not_grow(
    state: StateDirectory, ledger: MemoryLedger, told: Told
) -> None:
    ledger.size = 5
    async with asking(state, ledger, told) as witness:
        assert await witness.once()
        state.known = Known()  # it would have to say so, were it asked
        assert await witness.once()
    assert told.said == []


async def test_after_a_while_it_is_asked_again_all_the_same(
    state: StateDirectory, ledger: MemoryLedger, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that was set back to a cosigned checkpoint has nothing new to show."""
    monkeypatch.setattr("actors.witnesses.AFRESH_S", -1.0)
    assert AFRESH_S > 0
    ledger.size = 9
    async with asking(state, ledger, told) as witness:
        assert await witness.once()
        state.keep(cosigned_note(state, 20))
        assert not await witness.once()
    assert told.said == [("ahead", 9, 20)]


def cosigned_note(state: StateDirectory, size: int) -> str:
    note = MAIN.note(size)
    line = cosign(parse_note(note).text, state.parties.own_key.name, state.key, 1)
    return join_signatures(note, [line])


async def test_a_log_that_forgot_what_was_cosigned_learns_it_from_the_witness(
    state: StateDirectory, ledger: MemoryLedger, told: Told
) -> None:
    """As with a witness that cosigned for an earlier database of the same, longer log."""
    state.keep(cosigned_note(state, 7))
    ledger.size = 20
    async with asking(state, ledger, told) as witness:
        assert await witness.once()
    assert (sorted(ledger.kept), told.said) == ([20], [])


async def test_a_log_whose_tail_was_cut_is_told_by_its_witness(
    state: StateDirectory, ledger: MemoryLedger, told: Told
) -> None:
    ledger.size = 20
    async with asking(state, ledger, told) as witness:
        assert await witness.once()
    ledger.size = 12
    async with asking(state, ledger, told) as restarted:
        assert not await restarted.once()
        assert not await restarted.once()
    assert told.said == [("ahead", 12, 20)]
    assert ledger.reports[-1] == ("ahead", "It has cosigned 20 leaves; this log has only 12.")
    assert 12 not in ledger.kept


@pytest.mark.parametrize("size", [20, 21, 40])
async def test_a_log_that_was_forked_is_told_by_its_witness(
    state: StateDirectory, ledger: MemoryLedger, told: Told, size: int
) -> None:
    ledger.size = 20
    async with asking(state, ledger, told) as witness:
        assert await witness.once()
        ledger.branch, ledger.size = FORK, size
        ledger.kept.clear()
        for _ in range(3):
            await witness.once()
    if size > 20:
        assert told.said == [("branch", size, 20)]
        assert ledger.reports[-1][0] == "branch"
    async with asking(state, ledger, told) as restarted:
        assert not await restarted.once()
    assert ("branch", size, 20) in told.said
    assert ledger.kept == {}


async def test_a_witness_that_forgot_is_shown_what_it_signed(
    state: StateDirectory, ledger: MemoryLedger, told: Told
) -> None:
    async with asking(state, ledger, told) as witness:
        ledger.size = 20
        assert await witness.once()
        state.known, state.note = Known(), None
        ledger.size = 30
        assert await witness.once()
        assert state.known.size == 20
        assert await witness.once()
    assert state.known.size == 30
    assert told.said == [("forgot", 30, 0)]


async def test_a_witness_that_is_down_holds_nothing_up_and_catches_up(
    state: StateDirectory, ledger: MemoryLedger, told: Told
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("All connection attempts failed")

    ledger.size = 20
    async with asking(state, ledger, told, httpx.MockTransport(refuse)) as witness:
        assert not await witness.once()
    assert ledger.reports == [("silent", "It does not answer: All connection attempts failed")]
    async with asking(state, ledger, told) as witness:
        assert await witness.once()
    assert (sorted(ledger.kept), told.said) == ([20], [])


async def test_a_contradiction_is_not_forgotten_when_the_witness_falls_silent(
    state: StateDirectory, ledger: MemoryLedger, told: Told
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("All connection attempts failed")

    state.keep(cosigned_note(state, 20))
    ledger.size = 12
    async with asking(state, ledger, told) as witness:
        assert not await witness.once()
    assert [problem for problem, _ in ledger.reports] == ["ahead"]
    ledger.state = WitnessState(
        witness=str(state.parties.own_key),
        url="http://witness",
        size=0,
        cosigned_at=None,
        asked_at=NOON,
        problem="ahead",
        detail="",
    )
    async with asking(state, ledger, told, httpx.MockTransport(refuse)) as restarted:
        assert not await restarted.once()
    assert [problem for problem, _ in ledger.reports] == ["ahead"]
    ledger.size = 30
    async with asking(state, ledger, told) as repaired:
        assert await repaired.once()
    assert sorted(ledger.kept) == [30]


async def test_an_alarm_that_could_not_be_told_is_told_later(
    state: StateDirectory, ledger: MemoryLedger, told: Told
) -> None:
    state.keep(cosigned_note(state, 20))
    ledger.size, told.out_of_reach = 12, True
    async with asking(state, ledger, told) as witness:
        with pytest.raises(BusUnreachable):
            await witness.once()
        told.out_of_reach = False
        assert not await witness.once()
    assert told.said == [("ahead", 12, 20)]


async def test_a_witness_that_changes_its_word_for_ever_is_given_up(
    state: StateDirectory, ledger: MemoryLedger, told: Told
) -> None:
    sizes = iter([3, 4, 5, 6, 7])

    def fickle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(409, text=f"{next(sizes)}\n")

    ledger.size = 20
    async with asking(state, ledger, told, httpx.MockTransport(fickle)) as witness:
        assert not await witness.once()
    assert ledger.reports[-1] == ("silent", "It does not say for certain what it holds.")


async def test_an_endless_answer_is_cut_off(
    state: StateDirectory, ledger: MemoryLedger, told: Told
) -> None:
    def endless(request: httpx.Request) -> httpx.Response:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536

        return httpx.Response(200, content=pieces())

    ledger.size = 20
    async with asking(state, ledger, told, httpx.MockTransport(endless)) as witness:
        assert not await witness.once()
    assert ledger.reports[-1][0] == "silent"


async def test_it_asks_once_a_second_at_most_and_more_slowly_while_that_fails(
    state: StateDirectory, ledger: MemoryLedger, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.size, pauses, down = 5, list[float](), [False] * 2 + [True] * 6 + [False] * 2
    real = httpx.ASGITransport(witness_app(Witness(state, lambda: 1.0)))

    class Flaky(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if down[len(pauses)]:
                raise httpx.ConnectError("All connection attempts failed")
            return await real.handle_async_request(request)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        ledger.size += 1
        if len(pauses) == len(down):
            raise asyncio.CancelledError

    monkeypatch.setattr("actors.witnesses.asyncio.sleep", sleep)
    async with asking(state, ledger, told, Flaky()) as witness:
        with pytest.raises(asyncio.CancelledError):
            await witness.run()
    assert pauses == [1, 1, 2, 4, 8, 16, 30, 30, 1, 1]
