"""Signed notes and verifier keys, against the examples of Go's note package."""

import base64

import pytest
from nacl.signing import SigningKey

from storage.errors import BadCheckpoint
from storage.note import MAX_SIGNATURES, Note, VerifierKey, key_id, parse_note, sign_note

# The key and note in the documentation of golang.org/x/mod/sumdb/note.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
PETER_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_NOTE = (
    PETER_TEXT + "\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuG"
    "UgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The verifier key of Go's checksum database.
SUMDB = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

KEY = SigningKey(bytes(32))
VKEY = VerifierKey(name="example.com/log", public_key=KEY.verify_key.encode())
GOOD = sign_note("one\ntwo\n", "example.com/log", KEY)
LINE = GOOD.splitlines()[-1]


@pytest.mark.parametrize("text", [PETER, SUMDB])
def test_published_verifier_keys_are_read_and_written_back(text: str) -> None:
    assert str(VerifierKey.parse(text)) == text
    assert VerifierKey.parse(text + "\n") == VerifierKey.parse(text)


def test_a_published_note_verifies() -> None:
    note = parse_note(PETER_NOTE)
    note.verify(VerifierKey.parse(PETER))
    assert note.text == PETER_TEXT


def test_signing_gives_the_published_note() -> None:
    assert sign_note(PETER_TEXT, "PeterNeumann", SigningKey(PETER_SEED)) == PETER_NOTE


def test_a_text_with_empty_lines_is_split_at_the_last_one() -> None:
    text = "one\n\ntwo\n"
    note = parse_note(sign_note(text, "example.com/log", KEY))
    assert note.text == text
    note.verify(VKEY)


def test_signatures_of_unknown_keys_are_ignored() -> None:
    other = sign_note("one\ntwo\n", "example.com/witness", SigningKey(b"w" * 32))
    note = parse_note(GOOD + other.splitlines()[-1] + "\n")
    note.verify(VKEY)
    assert [s.name for s in note.signatures] == ["example.com/log", "example.com/witness"]


def test_a_signature_of_another_key_of_the_same_name_does_not_count() -> None:
    note = parse_note(sign_note("one\n", "example.com/log", SigningKey(b"x" * 32)))
    with pytest.raises(BadCheckpoint, match="carries no signature of example.com/log"):
        note.verify(VKEY)


def test_a_changed_text_is_refused() -> None:
    with pytest.raises(BadCheckpoint, match="does not cover"):
        parse_note(GOOD.replace("two", "too")).verify(VKEY)


def test_one_wrong_signature_of_a_known_key_spoils_a_right_one() -> None:
    wrong = VKEY.id + bytes(64)
    line = f"\u2014 example.com/log {base64.b64encode(wrong).decode()}\n"
    for note in (GOOD + line, GOOD.replace(LINE, line + LINE)):
        with pytest.raises(BadCheckpoint, match="does not cover"):
            parse_note(note).verify(VKEY)


def test_a_signature_of_the_wrong_length_is_refused() -> None:
    short = base64.b64encode(VKEY.id + b"short").decode()
    with pytest.raises(BadCheckpoint, match="does not cover"):
        parse_note(f"one\n\n\u2014 example.com/log {short}\n").verify(VKEY)


def test_a_note_without_signatures_verifies_for_nobody() -> None:
    with pytest.raises(BadCheckpoint, match="no signature"):
        Note(text="one\n", signatures=()).verify(VKEY)


@pytest.mark.parametrize(
    ("note", "sentence"),
    [
        ("", "no empty line"),
        ("one\n", "no empty line"),
        ("one\n\n" + LINE, "does not end in a newline"),
        ("one\n\n", "does not end in a newline"),
        ("one\n\n- example.com/log AAAA\n", "em dash"),
        ("one\n\n\u2014example.com/log AAAAAAAA\n", "em dash"),
        ("one\n\n\u2014 example.com/log\n", "no signature after the key name"),
        ("one\n\n\u2014 example.com/log !!!!\n", "not base64"),
        ("one\n\n\u2014 example.com/log AAAAAAAA AAAA\n", "not base64"),
        ("one\n\n\u2014 example.com/log AAAAAAB=\n", "not base64"),
        ("one\n\n\u2014 example.com/log AAAA\n", "too short"),
        ("one\n\n\u2014  AAAAAAAA\n", "must not be empty"),
        ("one\n\n\u2014 a+b AAAAAAAA\n", "must not contain spaces"),
        ("one\n\n\u2014 a\u00a0b AAAAAAAA\n", "must not contain spaces"),
        ("one\ttwo\n\n" + LINE + "\n", "control characters"),
        ("one\r\n\n" + LINE + "\n", "control characters"),
        ("\ud800\n\n" + LINE + "\n", "valid UTF-8"),
        ("one\n\n" + (LINE + "\n") * (MAX_SIGNATURES + 1), "more than 64 signatures"),
        ("x" * 70_000, "longer than"),
    ],
)
def test_a_malformed_note_is_refused_with_its_own_sentence(note: str, sentence: str) -> None:
    with pytest.raises(BadCheckpoint, match=sentence):
        parse_note(note)


def test_sixteen_signatures_are_accepted() -> None:
    assert len(parse_note("one\n\n" + (LINE + "\n") * 16).signatures) == 16


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("example.com", "three parts"),
        ("a+00000000", "three parts"),
        ("a+00000000+!!", "not base64"),
        ("a+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode(), "not of type 0x01"),
        ("a+00000000+" + base64.b64encode(b"\x01" + bytes(31)).decode(), "32 bytes"),
        ("a+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(), "does not belong"),
        (PETER.replace("Peter", "Pieter"), "does not belong"),
        ("+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(), "must not be empty"),
    ],
)
def test_a_malformed_verifier_key_is_refused_with_its_own_sentence(
    text: str, sentence: str
) -> None:
    with pytest.raises(BadCheckpoint, match=sentence):
        VerifierKey.parse(text)


def test_the_key_id_binds_name_and_key() -> None:
    ids = {key_id("a", bytes(32)), key_id("b", bytes(32)), key_id("a", b"k" * 32)}
    assert len(ids) == 3
    assert key_id("PeterNeumann", VerifierKey.parse(PETER).public_key).hex() == "c74f20a3"


@pytest.mark.parametrize(
    ("text", "name", "sentence"),
    [
        ("one", "example.com/log", "must end in a newline"),
        ("one\x00\n", "example.com/log", "control characters"),
        ("\ud800\n", "example.com/log", "valid UTF-8"),
        ("one\n", "a b", "spaces"),
        ("one\n", "", "must not be empty"),
    ],
)
def test_what_cannot_stand_in_a_note_is_not_signed(text: str, name: str, sentence: str) -> None:
    with pytest.raises(BadCheckpoint, match=sentence):
        sign_note(text, name, KEY)
