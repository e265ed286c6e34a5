"""Checkpoints in signed notes."""

import base64
import hashlib

import pytest
from nacl.signing import SigningKey

from storage.checkpoint import Checkpoint, checkpoint_signer, parse_checkpoint
from storage.errors import BadCheckpoint
from storage.note import VerifierKey, sign_note

ORIGIN = "example.com/log"
KEY = SigningKey(bytes(32))
VKEY = VerifierKey(name=ORIGIN, public_key=KEY.verify_key.encode())
ROOT = hashlib.sha256(b"root").digest()
ROOT_TEXT = base64.b64encode(ROOT).decode()


def test_a_signed_checkpoint_is_read_back() -> None:
    note = checkpoint_signer(ORIGIN, KEY)(20852163, ROOT)
    assert note.startswith(f"{ORIGIN}\n20852163\n{ROOT_TEXT}\n\n\u2014 {ORIGIN} ")
    checkpoint = parse_checkpoint(note).verify(VKEY)
    assert checkpoint == Checkpoint(origin=ORIGIN, size=20852163, root=ROOT)
    assert note.startswith(checkpoint.text())


def test_an_empty_tree_can_be_signed() -> None:
    assert parse_checkpoint(checkpoint_signer(ORIGIN, KEY)(0, ROOT)).verify(VKEY).size == 0


def test_extension_lines_are_kept() -> None:
    checkpoint = Checkpoint(origin=ORIGIN, size=1, root=ROOT, extensions=("x 1", "y 2"))
    note = sign_note(checkpoint.text(), ORIGIN, KEY)
    assert parse_checkpoint(note).verify(VKEY) == checkpoint


def test_a_checkpoint_of_another_log_is_refused_although_the_key_signed_it() -> None:
    text = Checkpoint(origin="example.com/other", size=1, root=ROOT).text()
    signed = parse_checkpoint(sign_note(text, ORIGIN, KEY))
    with pytest.raises(BadCheckpoint, match="of example.com/other, not of example.com/log"):
        signed.verify(VKEY)
    assert signed.verify(VKEY, origin="example.com/other").size == 1


def test_a_checkpoint_with_another_size_is_refused() -> None:
    note = checkpoint_signer(ORIGIN, KEY)(7, ROOT).replace("\n7\n", "\n8\n")
    with pytest.raises(BadCheckpoint, match="does not cover"):
        parse_checkpoint(note).verify(VKEY)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{ORIGIN}\n1\n", "fewer than three lines"),
        (f"\n1\n{ROOT_TEXT}\n", "empty line"),
        (f"{ORIGIN}\n1\n{ROOT_TEXT}\n\nmore\n", "empty line"),
        (f"{ORIGIN}\n01\n{ROOT_TEXT}\n", "plain decimal"),
        (f"{ORIGIN}\n+1\n{ROOT_TEXT}\n", "plain decimal"),
        (f"{ORIGIN}\n-1\n{ROOT_TEXT}\n", "plain decimal"),
        (f"{ORIGIN}\n\u0661\n{ROOT_TEXT}\n", "plain decimal"),
        (f"{ORIGIN}\n{10**19}\n{ROOT_TEXT}\n", "plain decimal"),
        (f"{ORIGIN}\n1\n{ROOT_TEXT[:-1]}\n", "not base64"),
        (f"{ORIGIN}\n1\n{base64.b64encode(bytes(31)).decode()}\n", "32 bytes"),
    ],
)
def test_a_malformed_checkpoint_is_refused_with_its_own_sentence(text: str, sentence: str) -> None:
    with pytest.raises(BadCheckpoint, match=sentence):
        parse_checkpoint(sign_note(text, ORIGIN, KEY))


@pytest.mark.parametrize("origin", ["", "two words", "a+b"])
def test_an_origin_that_cannot_name_a_key_is_refused_at_once(origin: str) -> None:
    with pytest.raises(BadCheckpoint, match="key name"):
        checkpoint_signer(origin, KEY)
