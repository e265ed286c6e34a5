"""What a log takes from a witness's answer."""

import pytest
from nacl.signing import SigningKey

from actors.witness_answer import Asked, Cosigned, Failed, Holds, OtherBranch, meaning_of
from storage.cosignature import CosignerKey, cosign
from storage.note import parse_note
from tests.branching import Branch

OWN_KEY = SigningKey(b"w" * 32)
KEY = CosignerKey(name="witness.example/w1", public_key=OWN_KEY.verify_key.encode())
TEXT = parse_note(Branch.of(("a", 9)).note(9)).text
GREW = Asked(old=5, size=9, text=TEXT)
SAME = Asked(old=9, size=9, text=TEXT)


def test_a_cosignature_that_verifies_is_taken() -> None:
    line = cosign(TEXT, KEY.name, OWN_KEY, 7)
    meaning = meaning_of(GREW, 200, f"{line}\n", KEY)
    assert isinstance(meaning, Cosigned)
    assert (meaning.cosignature.time_s, meaning.cosignature.line) == (7, line)


@pytest.mark.parametrize(
    "line",
    [
        cosign("another text\n", KEY.name, OWN_KEY, 7),
        cosign(TEXT, KEY.name, SigningKey(b"x" * 32), 7),
        cosign(TEXT, "witness.example/w2", OWN_KEY, 7),
    ],
)
def test_what_does_not_verify_is_no_cosignature(line: object) -> None:
    assert isinstance(meaning_of(GREW, 200, f"{line}\n", KEY), Failed)


@pytest.mark.parametrize("body", ["12\n", "12"])
def test_a_conflict_names_the_size_that_the_witness_holds(body: str) -> None:
    assert meaning_of(GREW, 409, body, KEY) == Holds(size=12)


def test_another_root_for_the_same_size_is_another_branch() -> None:
    assert meaning_of(SAME, 409, "9\n", KEY) == OtherBranch()


def test_a_proof_that_does_not_hold_there_is_another_branch() -> None:
    assert meaning_of(GREW, 422, "The proof leads elsewhere.\n", KEY) == OtherBranch()


@pytest.mark.parametrize(
    ("status", "body"),
    [(409, ""), (409, "nine"), (409, "-1\n"), (409, "012\n"), (409, "5\n"), (409, "9" * 30),
     (200, ""), (403, "no"), (404, "who"), (500, "<html>"), (301, ""), (503, "later")],
)  # fmt: skip
def test_anything_else_says_nothing_of_the_log(status: int, body: str) -> None:
    assert isinstance(meaning_of(GREW, status, body, KEY), Failed)


def test_what_a_stranger_answers_is_shown_in_one_short_line() -> None:
    meaning = meaning_of(GREW, 500, "line\n" * 1000, KEY)
    assert isinstance(meaning, Failed)
    assert len(meaning.reason) < 250
    assert "\n" not in meaning.reason
