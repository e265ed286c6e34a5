"""Whatever a log shows a witness, in whatever order: never two branches are cosigned."""

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from structlog.testing import capture_logs

from storage.cosign_request import parse_request
from storage.cosignature import CosignerKey, cosign, join_signatures, read_answer
from storage.note import parse_note, parse_signatures
from swarm.witness.decide import Cosign, Decision, Known, Parties, decide
from swarm.witness.state import Watched, open_state
from swarm.witness.witness import Witness
from tests.branching import LOG_VKEY, ORIGIN, Branch

MOST = 24
OWN_KEY = SigningKey(b"w" * 32)
OWN = CosignerKey(name="witness.example/w1", public_key=OWN_KEY.verify_key.encode())
PARTIES = Parties(origin=ORIGIN, log_keys=(LOG_VKEY,), own_key=OWN)

FORKED_AT = st.integers(0, MOST - 1)
SIZE = st.integers(0, MOST)


@st.composite
def histories(draw: st.DrawFn) -> list[Branch]:
    """A log and some branches of it, each from another leaf on."""
    main = Branch.of(("a", MOST))
    forks = [
        Branch(main.leaves[:at] + Branch.of((f"fork{number}-", MOST - at)).leaves)
        for number, at in enumerate(draw(st.lists(FORKED_AT, min_size=1, max_size=3)))
    ]
    return [main, *forks]


@dataclass(frozen=True)
class Attempt:
    """A request: an old size, honest if None, a branch's checkpoint, and a branch's proof."""

    branch: int
    size: int
    old: int | None
    proof_of: int

    def body(self, branches: Sequence[Branch], held: int, note: str | None = None) -> bytes:
        branch = branches[self.branch % len(branches)]
        prover = branches[self.proof_of % len(branches)]
        old = held if self.old is None else self.old
        proof = prover.proof(old, self.size) if old <= self.size else []
        return branch.request(old, self.size, proof=proof, note=note)


ATTEMPTS = st.builds(
    Attempt,
    branch=st.integers(0, 3),
    size=SIZE,
    old=st.none() | SIZE,
    proof_of=st.integers(0, 3),
)


def consistent(one: tuple[Branch, int], other: tuple[Branch, int]) -> bool:
    size = min(one[1], other[1])
    return one[0].leaves[:size] == other[0].leaves[:size]


def next_known(known: Known, decision: Decision) -> Known:
    if not isinstance(decision, Cosign):
        return known
    return Known(size=decision.checkpoint.size, root=decision.checkpoint.root, time_s=1)


@settings(max_examples=150, deadline=None)
@given(histories(), st.lists(ATTEMPTS, max_size=30))
def test_never_are_two_branches_cosigned(branches: list[Branch], attempts: list[Attempt]) -> None:
    known, cosigned = Known(), list[tuple[Branch, int]]()
    for attempt in attempts:
        decision = decide(known, parse_request(attempt.body(branches, known.size)), PARTIES)
        if isinstance(decision, Cosign):
            assert decision.checkpoint.size >= known.size
            cosigned.append((branches[attempt.branch % len(branches)], attempt.size))
        known = next_known(known, decision)
    assert all(consistent(*pair) for pair in itertools.combinations(cosigned, 2))


@settings(max_examples=100, deadline=None)
@given(histories(), st.lists(ATTEMPTS, max_size=10), SIZE)
def test_an_honest_log_is_never_shut_out_by_its_branches(
    branches: list[Branch], attempts: list[Attempt], size: int
) -> None:
    """What was cosigned is of one branch: that one can go on."""
    known, last = Known(), branches[0]
    for attempt in attempts:
        decision = decide(known, parse_request(attempt.body(branches, known.size)), PARTIES)
        if isinstance(decision, Cosign):
            last = branches[attempt.branch % len(branches)]
        known = next_known(known, decision)
    new = max(size, known.size)
    assert isinstance(decide(known, parse_request(last.request(known.size, new)), PARTIES), Cosign)


@settings(max_examples=60, deadline=None)
@given(histories(), st.lists(ATTEMPTS | st.just("restart"), max_size=20))
def test_restarts_do_not_change_that(branches: list[Branch], steps: list[Attempt | str]) -> None:
    """The whole witness, on a disk; what it hands out verifies."""
    cosigned = list[tuple[Branch, int]]()
    watched = Watched(origin=ORIGIN, keys=(LOG_VKEY,))
    with tempfile.TemporaryDirectory() as folder, capture_logs():
        for lifetime in _between_restarts(steps):
            with open_state(Path(folder), watched, OWN.name) as state:
                witness = Witness(state, lambda: 1.0)
                for attempt in lifetime:
                    body = attempt.body(branches, state.known.size)
                    answer = witness.add_checkpoint(body)
                    if answer.status == 200:
                        text = parse_request(body).signed.note.text
                        assert read_answer(text, answer.body, state.parties.own_key)
                        cosigned.append((branches[attempt.branch % len(branches)], attempt.size))
    assert all(consistent(*pair) for pair in itertools.combinations(cosigned, 2))


@settings(max_examples=100, deadline=None)
@given(histories(), st.lists(ATTEMPTS, max_size=15), st.data())
def test_a_witness_set_back_and_shown_what_it_signed_cosigns_no_branch_of_it(
    branches: list[Branch], attempts: list[Attempt], data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, MOST))
    line = cosign(parse_note(branches[0].note(size)).text, OWN.name, OWN_KEY, 1)
    shown = join_signatures(branches[0].note(size), parse_signatures(f"{line}\n"))
    older = data.draw(st.integers(0, size - 1))
    known = Known(size=older, root=branches[0].root(older), time_s=1)
    decision = decide(known, parse_request(branches[0].request(older, size, note=shown)), PARTIES)
    assert not isinstance(decision, Cosign)
    known = Known(size=size, root=branches[0].root(size), time_s=1)
    for attempt in attempts:
        decision = decide(known, parse_request(attempt.body(branches, known.size)), PARTIES)
        if isinstance(decision, Cosign):
            branch = branches[attempt.branch % len(branches)]
            assert consistent((branch, attempt.size), (branches[0], size))
        known = next_known(known, decision)


def _between_restarts(steps: Sequence[Attempt | str]) -> list[list[Attempt]]:
    lifetimes: list[list[Attempt]] = [[]]
    for step in steps:
        if isinstance(step, str):
            lifetimes.append([])
        else:
            lifetimes[-1].append(step)
    return lifetimes
