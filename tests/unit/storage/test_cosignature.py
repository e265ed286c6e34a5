"""Cosignatures of witnesses, against the examples and the formulas of C2SP tlog-cosignature."""

import base64
import hashlib
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.signing import SigningKey

from storage.checkpoint import checkpoint_signer, parse_checkpoint
from storage.cosignature import (
    CosignerKey,
    WitnessAddress,
    cosign,
    cosigned_message,
    join_signatures,
    read_answer,
    time_of,
)
from storage.errors import BadCheckpoint
from storage.note import MAX_SIGNATURES, VerifierKey, parse_note, parse_signatures

# The example of tlog-cosignature; its keys are not published, so it shows the format only.
EXAMPLE_TEXT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
)
EXAMPLE = (
    f"{EXAMPLE_TEXT}\n"
    "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5"
    "/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJs"
    "X3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
EXAMPLE_TIME_S = 1679315147
# The example answer of tlog-witness.
EXAMPLE_ANSWER = (
    "\u2014 witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvV"
    "jyQLrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw==\n"
    "\u2014 witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64v"
    "WhO+DlkL0+UfzuOBMh9ChdMkP1vi/lCAsmlw==\n"
    "\u2014 witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbY"
    "KA7nC3HNJhm/kWl7oJlqU3rXXvpysAdyP3wQ==\n"
)

NAME = "witness.example/w1"
KEY = SigningKey(bytes(range(32)))
VKEY = CosignerKey(name=NAME, public_key=KEY.verify_key.encode())
LOG = "example.com/log"
LOG_KEY = SigningKey(bytes(32))
NOTE = checkpoint_signer(LOG, LOG_KEY)(7, hashlib.sha256(b"root").digest())
TEXT = parse_note(NOTE).text
TIME_S = 1_764_000_000
LINE = cosign(TEXT, NAME, KEY, TIME_S)
JOINED = join_signatures(NOTE, [LINE])
PINNED_KEY = "witness.example/w1+e75f6532+BAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
PINNED_LINE = (
    "\u2014 witness.example/w1 519lMgAAAABpJIEA1aQymmkVZ/C20IIkn4wUNCQZQ9uigGYFKUAzFx"
    "2Sz8G/u9X22Ikz7AxPTM2giehspRpny6PESv6lths3mb4yAg=="
)


def test_the_example_of_the_specification_is_read() -> None:
    signed = parse_checkpoint(EXAMPLE)
    log, witness = signed.note.signatures
    assert signed.checkpoint.size == 20852163
    assert (log.name, len(log.signature)) == ("example.com/behind-the-sofa", 64)
    assert (witness.name, witness.key_id.hex()) == ("witness.example.com/w1", "8d66cf3f")
    assert len(witness.signature) == 72
    assert time_of(witness.signature) == EXAMPLE_TIME_S


def test_the_signed_message_is_that_of_the_specification() -> None:
    expected = f"cosignature/v1\ntime 1679315147\n{EXAMPLE_TEXT}".encode()
    assert cosigned_message(parse_note(EXAMPLE).text, EXAMPLE_TIME_S) == expected


def test_the_example_answer_of_a_witness_is_read() -> None:
    lines = parse_signatures(EXAMPLE_ANSWER)
    assert [line.name for line in lines] == ["witness.example/w1"] * 2 + ["witness.example/w2"]
    assert "".join(f"{line}\n" for line in lines) == EXAMPLE_ANSWER


def test_a_cosignature_is_made_byte_for_byte_as_the_specification_says() -> None:
    """By its formulas, with another library's Ed25519."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = private.public_key().public_bytes_raw()
    key_id = hashlib.sha256(NAME.encode() + b"\n\x04" + public).digest()[:4]
    seconds = struct.pack(">Q", TIME_S)
    signed = private.sign(b"cosignature/v1\ntime 1764000000\n" + TEXT.encode())
    blob = base64.b64encode(key_id + seconds + signed).decode()
    assert str(LINE) == f"\u2014 {NAME} {blob}"
    assert str(VKEY) == f"{NAME}+{key_id.hex()}+{base64.b64encode(bytes([4]) + public).decode()}"


def test_a_cosignature_is_what_it_was_when_this_test_was_written() -> None:
    """Else what other programs have kept could no longer be checked."""
    assert str(VKEY) == PINNED_KEY
    assert str(LINE) == PINNED_LINE


def test_a_joined_note_verifies_under_the_log_and_under_the_witness() -> None:
    signed = parse_checkpoint(JOINED)
    assert signed.verify(VerifierKey(name=LOG, public_key=LOG_KEY.verify_key.encode())).size == 7
    signed.note.verify(VKEY)
    assert [c.time_s for c in VKEY.cosignatures(signed.note)] == [TIME_S]
    assert parse_note(NOTE).text == signed.note.text
    assert JOINED.removeprefix(NOTE) == f"{LINE}\n"


def test_joining_twice_changes_nothing() -> None:
    assert join_signatures(JOINED, [LINE, LINE]) == JOINED


def test_a_note_without_this_witness_has_no_cosignature_of_it() -> None:
    other = CosignerKey(name=NAME, public_key=LOG_KEY.verify_key.encode())
    assert other.cosignatures(parse_note(JOINED)) == ()
    with pytest.raises(BadCheckpoint, match="carries no signature"):
        parse_note(NOTE).verify(VKEY)


@pytest.mark.parametrize("at", range(72))
def test_a_cosignature_with_any_byte_changed_is_refused(at: int) -> None:
    """The time is covered too."""
    changed = bytearray(LINE.signature)
    changed[at] ^= 1
    with pytest.raises(BadCheckpoint, match=r"does not cover|from 0 to"):
        VKEY.check(TEXT, bytes(changed))


def test_a_time_beyond_the_format_is_refused() -> None:
    with pytest.raises(BadCheckpoint, match="from 0 to"):
        cosign(TEXT, NAME, KEY, 2**63)
    with pytest.raises(BadCheckpoint, match="from 0 to"):
        VKEY.check(TEXT, b"\xff" * 72)


@pytest.mark.parametrize("length", [0, 8, 64, 71, 73])
def test_a_cosignature_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(BadCheckpoint, match="72 bytes"):
        VKEY.check(TEXT, bytes(length))


def test_a_cosignature_does_not_cover_another_checkpoint() -> None:
    other = checkpoint_signer(LOG, LOG_KEY)(8, hashlib.sha256(b"root").digest())
    with pytest.raises(BadCheckpoint, match="does not cover"):
        VKEY.cosignatures(parse_note(join_signatures(other, [LINE])))


def test_a_signature_of_a_log_is_no_cosignature_under_the_same_key_and_name() -> None:
    """The kind of a key is part of its id: one never passes for the other."""
    note = checkpoint_signer(NAME, KEY)(7, bytes(32))
    assert VKEY.cosignatures(parse_note(note)) == ()
    as_log = VerifierKey(name=NAME, public_key=KEY.verify_key.encode())
    with pytest.raises(BadCheckpoint, match="carries no signature"):
        parse_note(JOINED).verify(as_log)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (CosignerKey, str(VerifierKey(name=NAME, public_key=VKEY.public_key))),
        (VerifierKey, str(VKEY)),
    ],
)
def test_a_verifier_key_of_the_other_kind_is_refused(kind: type[VerifierKey], text: str) -> None:
    with pytest.raises(BadCheckpoint, match="not of type 0x0"):
        kind.parse(text)


def test_a_witness_key_is_read_back_as_one() -> None:
    key = CosignerKey.parse(str(VKEY))
    assert type(key) is CosignerKey
    assert key == VKEY


def test_the_newest_cosignature_of_an_answer_is_taken() -> None:
    """Lines of other witnesses are ignored, even wrong ones."""
    newer = cosign(TEXT, NAME, KEY, TIME_S + 1)
    body = f"{EXAMPLE_ANSWER}{newer}\n{LINE}\n"
    assert read_answer(TEXT, body, VKEY).time_s == TIME_S + 1


@pytest.mark.parametrize(
    "body",
    ["", "\n", "7\n", EXAMPLE_ANSWER, f"{cosign(TEXT + 'x' + chr(10), NAME, KEY, TIME_S)}\n"],
)
def test_an_answer_without_a_cosignature_of_the_witness_is_refused(body: str) -> None:
    with pytest.raises(BadCheckpoint):
        read_answer(TEXT, body, VKEY)


def test_more_signatures_than_a_reader_takes_are_not_joined() -> None:
    many = [cosign(TEXT, NAME, KEY, TIME_S + at) for at in range(MAX_SIGNATURES)]
    with pytest.raises(BadCheckpoint, match="more than"):
        join_signatures(NOTE, many)


def test_an_address_is_read_and_written_back() -> None:
    address = WitnessAddress.parse(f" https://witness.example/w1/  {VKEY}\n")
    assert address == WitnessAddress(url="https://witness.example/w1", key=VKEY)
    assert WitnessAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", str(VKEY), f"ftp://witness.example {VKEY}", f"https:// {VKEY}", "https://witness.example",
     f"https://witness.example {VerifierKey(name=NAME, public_key=VKEY.public_key)}"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadCheckpoint):
        WitnessAddress.parse(text)
