"""The witness over HTTP, in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from nacl.signing import SigningKey
from structlog.testing import capture_logs

from storage.checkpoint import parse_checkpoint
from storage.cosign_request import MAX_REQUEST_BYTES
from storage.cosignature import cosign, join_signatures, read_answer
from storage.note import parse_note, parse_signatures
from swarm.witness.server import witness_app
from swarm.witness.state import MOST_CONTRADICTIONS, StateDirectory, Watched, open_state
from swarm.witness.witness import Witness
from tests.branching import LOG_VKEY, ORIGIN, Branch

WATCHED = Watched(origin=ORIGIN, keys=(LOG_VKEY,))
MAIN = Branch.of(("a", 20))
FORK = Branch.of(("a", 5), ("b", 15))
NOW_S = 1_764_000_000


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    with open_state(tmp_path, WATCHED, "witness.example/w1") as opened, capture_logs():
        yield opened


@pytest.fixture
def times() -> list[float]:
    """What the clock shows; the last one stays."""
    return [NOW_S + 0.9]


@pytest.fixture
async def http(state: StateDirectory, times: list[float]) -> AsyncIterator[httpx.AsyncClient]:
    def clock() -> float:
        return times.pop(0) if len(times) > 1 else times[0]

    app = witness_app(Witness(state, clock), request_s=0.2)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://witness") as client:
        yield client


async def add(http: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await http.post("/add-checkpoint", content=body)


async def test_the_answer_is_a_cosignature_that_joins_the_checkpoint(
    http: httpx.AsyncClient, state: StateDirectory
) -> None:
    answer = await add(http, MAIN.request(0, 9))
    assert answer.status_code == 200
    note = MAIN.note(9)
    own_key = state.parties.own_key
    assert read_answer(parse_note(note).text, answer.text, own_key).time_s == NOW_S
    joined = parse_checkpoint(join_signatures(note, parse_signatures(answer.text)))
    joined.verify(LOG_VKEY)
    joined.note.verify(own_key)


async def test_a_conflict_tells_the_size_as_the_specification_has_it(
    http: httpx.AsyncClient,
) -> None:
    await add(http, MAIN.request(0, 9))
    for body in (MAIN.request(0, 12), FORK.request(9, 9)):
        answer = await add(http, body)
        assert (answer.status_code, answer.text) == (409, "9\n")
        assert answer.headers["content-type"] == "text/x.tlog.size"


async def test_a_client_that_knows_nothing_asks_with_zero(http: httpx.AsyncClient) -> None:
    await add(http, MAIN.request(0, 9))
    size = int((await add(http, MAIN.request(0, 12))).text)
    assert (await add(http, MAIN.request(size, 12))).status_code == 200


async def test_a_malformed_request_gets_400_and_a_sentence(http: httpx.AsyncClient) -> None:
    answer = await add(http, b"old x\n\n" + MAIN.note(3).encode())
    assert answer.status_code == 400
    assert answer.text.startswith("The first line is not")


async def test_whoever_asks_gets_the_checkpoint_that_was_cosigned_last(
    http: httpx.AsyncClient, state: StateDirectory
) -> None:
    assert (await http.get("/checkpoint")).status_code == 404
    await add(http, MAIN.request(0, 9))
    answer = await http.get("/checkpoint")
    assert parse_checkpoint(answer.text).verify(LOG_VKEY).size == 9
    parse_note(answer.text).verify(state.parties.own_key)


def kept(state: StateDirectory, folder: str) -> list[str]:
    path = state.path / folder
    return [file.read_text() for file in path.iterdir()] if path.exists() else []


async def test_a_contradiction_is_kept_as_evidence(
    http: httpx.AsyncClient, state: StateDirectory
) -> None:
    await add(http, MAIN.request(0, 6))
    assert (await add(http, FORK.request(6, 6))).status_code == 409
    assert (await add(http, FORK.request(0, 6))).status_code == 409
    assert (await add(http, MAIN.request(0, 5))).status_code == 409
    assert kept(state, "contradictions") == [FORK.note(6)]
    assert kept(state, "unproven") == []


async def test_what_is_not_shown_to_have_grown_is_kept_apart(
    http: httpx.AsyncClient, state: StateDirectory
) -> None:
    await add(http, MAIN.request(0, 6))
    assert (await add(http, FORK.request(6, 12))).status_code == 422
    assert kept(state, "contradictions") == []
    assert kept(state, "unproven") == [FORK.note(12)]


def with_junk_line(note: str, number: int) -> str:
    """A line of a key that nobody knows: anybody can add one."""
    line = cosign(parse_note(note).text, f"junk.example/{number}", SigningKey(b"j" * 32), number)
    return join_signatures(note, [line])


async def test_a_stranger_cannot_fill_the_folder_of_evidence(
    http: httpx.AsyncClient, state: StateDirectory
) -> None:
    await add(http, MAIN.request(0, 6))
    public = (await http.get("/checkpoint")).text
    with capture_logs() as said:
        for number in range(MOST_CONTRADICTIONS + 6):
            for size, note in ((6, public), (12, MAIN.note(12)), (9, MAIN.note(9))):
                shown = with_junk_line(note, number)
                body = MAIN.request(6, size, proof=[bytes(32)], note=shown)
                assert (await add(http, body)).status_code == 422
    assert {entry["log_level"] for entry in said} <= {"info", "warning"}
    assert kept(state, "contradictions") == []
    assert sorted(kept(state, "unproven")) == [MAIN.note(12), MAIN.note(9)]
    for number in range(2):
        shown = with_junk_line(FORK.note(6), number)
        assert (await add(http, FORK.request(6, 6, note=shown))).status_code == 409
    assert kept(state, "contradictions") == [FORK.note(6)]


async def test_the_logs_line_said_again_and_again_is_kept_once(
    http: httpx.AsyncClient, state: StateDirectory
) -> None:
    await add(http, MAIN.request(0, 6))
    shown = FORK.note(6) + f"{parse_note(FORK.note(6)).signatures[0]}\n" * 8
    assert (await add(http, FORK.request(6, 6, note=shown))).status_code == 409
    assert kept(state, "contradictions") == [FORK.note(6)]


async def test_a_clock_that_goes_back_makes_no_earlier_cosignature(
    http: httpx.AsyncClient, state: StateDirectory, times: list[float]
) -> None:
    times[:] = [NOW_S, NOW_S - 3600]
    await add(http, MAIN.request(0, 9))
    answer = await add(http, MAIN.request(9, 12))
    own_key = state.parties.own_key
    assert read_answer(parse_note(MAIN.note(12)).text, answer.text, own_key).time_s == NOW_S


async def test_what_it_signed_shows_a_witness_that_it_forgot(
    http: httpx.AsyncClient, state: StateDirectory, tmp_path: Path
) -> None:
    """As after a snapshot of the machine was set back; no branch gets through."""
    first = await add(http, MAIN.request(0, 9))
    note = join_signatures(MAIN.note(9), parse_signatures(first.text))
    state.known, state.note = type(state.known)(), None
    answer = await add(http, MAIN.request(0, 9, note=note))
    assert (answer.status_code, answer.text) == (409, "9\n")
    assert (await add(http, FORK.request(0, 20))).status_code == 409
    assert (await add(http, MAIN.request(9, 12))).status_code == 200


async def test_after_the_disk_failed_nothing_is_cosigned_any_more(
    http: httpx.AsyncClient, state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(state, "keep", full)
        assert (await add(http, MAIN.request(0, 9))).status_code == 503
    answer = await add(http, MAIN.request(0, 9))
    assert answer.status_code == 503
    assert "start it again" in answer.text


async def test_a_request_beyond_its_size_is_refused(http: httpx.AsyncClient) -> None:
    assert (await add(http, b"x" * (MAX_REQUEST_BYTES + 1))).status_code == 413
    assert (await add(http, b"x" * MAX_REQUEST_BYTES)).status_code == 400


async def test_a_request_that_does_not_arrive_is_given_up(http: httpx.AsyncClient) -> None:
    forever = asyncio.Event()

    async def trickle() -> AsyncIterator[bytes]:
        yield b"old 0\n"
        await forever.wait()

    assert (await http.post("/add-checkpoint", content=trickle())).status_code == 408


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/add-checkpoint", 405), ("POST", "/checkpoint", 405), ("GET", "/", 404)],
)
async def test_nothing_else_is_served(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    assert (await http.request(method, path)).status_code == status


async def test_of_requests_at_once_one_branch_wins(http: httpx.AsyncClient) -> None:
    bodies = [branch.request(0, size) for size in range(6, 20) for branch in (MAIN, FORK)]
    answers = await asyncio.gather(*(add(http, body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 27
