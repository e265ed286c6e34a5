"""What a witness answers to whom, status by status, as C2SP tlog-witness has it."""

import base64

import pytest
from nacl.signing import SigningKey

from storage.checkpoint import Checkpoint, checkpoint_signer
from storage.cosign_request import MAX_PROOF_LINES, parse_request, write_request
from storage.cosignature import CosignerKey, cosign, join_signatures
from storage.errors import BadCheckpoint
from storage.merkle import EMPTY_ROOT
from storage.note import VerifierKey, parse_note, sign_note
from swarm.witness.decide import Cosign, Decision, Known, Parties, Refuse, Remember, decide
from tests.branching import LOG_KEY, LOG_VKEY, ORIGIN, SIGN, Branch

OWN_KEY = SigningKey(b"w" * 32)
OWN = CosignerKey(name="witness.example/w1", public_key=OWN_KEY.verify_key.encode())
PARTIES = Parties(origin=ORIGIN, log_keys=(LOG_VKEY,), own_key=OWN)
MAIN = Branch.of(("a", 20))
FORK = Branch.of(("a", 5), ("b", 15))

# The example request of the specification.
EXAMPLE = (
    "old 20852014\n"
    "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
    "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
    "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n"
    "/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n"
    "\n"
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5"
    "/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\u2014 example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks"
    "+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n"
)


def known(branch: Branch, size: int) -> Known:
    return Known(size=size, root=branch.root(size), time_s=1)


def judge(seen: Known, body: bytes) -> Decision:
    return decide(seen, parse_request(body), PARTIES)


def refused(seen: Known, body: bytes) -> Refuse:
    decision = judge(seen, body)
    assert isinstance(decision, Refuse)
    return decision


def test_the_example_of_the_specification_is_read_and_written_back() -> None:
    request = parse_request(EXAMPLE.encode())
    assert request.old == 20852014
    assert request.signed.checkpoint.size == 20852163
    assert [len(step) for step in request.proof] == [32] * 4
    assert len(request.signed.note.signatures) == 2
    assert write_request(request.old, request.proof, request.note).decode() == EXAMPLE


@pytest.mark.parametrize("size", range(21))
def test_the_first_checkpoint_is_cosigned_without_a_proof(size: int) -> None:
    decision = judge(Known(), MAIN.request(0, size))
    assert isinstance(decision, Cosign)
    assert decision.checkpoint.size == size


@pytest.mark.parametrize("old", range(1, 20))
def test_a_checkpoint_that_grew_is_cosigned(old: int) -> None:
    assert isinstance(judge(known(MAIN, old), MAIN.request(old, 20)), Cosign)


def test_the_same_checkpoint_is_cosigned_again() -> None:
    """Its cosignature says that it still is the newest."""
    assert isinstance(judge(known(MAIN, 9), MAIN.request(9, 9)), Cosign)


def test_signatures_of_unknown_keys_are_ignored() -> None:
    stranger = cosign(parse_note(MAIN.note(9)).text, "other.example", SigningKey(b"o" * 32), 1)
    note = join_signatures(MAIN.note(9), [stranger])
    assert isinstance(judge(Known(), MAIN.request(0, 9, note=note)), Cosign)


def test_an_unknown_log_gets_404() -> None:
    note = checkpoint_signer("example.com/other", LOG_KEY)(9, MAIN.root(9))
    assert refused(Known(), write_request(0, [], note)).status == 404


def test_another_key_gets_403() -> None:
    note = checkpoint_signer(ORIGIN, SigningKey(b"x" * 32))(9, MAIN.root(9))
    assert refused(Known(), write_request(0, [], note)).status == 403


def test_a_signature_that_covers_something_else_gets_403() -> None:
    note = MAIN.note(9).replace("\n9\n", "\n8\n")
    assert refused(Known(), write_request(0, [], note)).status == 403


def test_a_cosignature_of_its_own_that_it_never_made_gets_403() -> None:
    line = cosign("another text\n", OWN.name, OWN_KEY, 1)
    note = join_signatures(MAIN.note(9), [line])
    assert refused(Known(), write_request(0, [], note)).status == 403


def test_an_old_size_beyond_the_checkpoint_gets_400() -> None:
    assert refused(known(MAIN, 9), MAIN.request(9, 8)).status == 400


@pytest.mark.parametrize("old", [0, 8, 10])
def test_another_old_size_than_the_known_one_gets_409(old: int) -> None:
    refusal = refused(known(MAIN, 9), MAIN.request(old, 20))
    assert (refusal.status, refusal.contradicts) == (409, False)


def test_another_root_of_the_same_size_gets_409_and_is_told_as_a_contradiction() -> None:
    refusal = refused(known(MAIN, 9), FORK.request(9, 9))
    assert (refusal.status, refusal.contradicts) == (409, True)


def test_another_empty_tree_gets_409() -> None:
    assert refused(Known(), write_request(0, [], SIGN(0, bytes(32)))).status == 409
    assert isinstance(judge(Known(), write_request(0, [], SIGN(0, EMPTY_ROOT))), Cosign)


@pytest.mark.parametrize("old", [0, 8, 9])
def test_another_root_of_the_same_size_is_a_contradiction_whatever_it_is_shown_with(
    old: int,
) -> None:
    refusal = refused(known(MAIN, 9), FORK.request(old, 9, proof=[bytes(32)]))
    assert (refusal.status, refusal.contradicts) == (409, True)


@pytest.mark.parametrize("size", range(7, 21))
def test_a_branch_that_grew_further_gets_422_and_is_not_proven_to_be_one(size: int) -> None:
    refusal = refused(known(MAIN, 6), FORK.request(6, size))
    assert (refusal.status, refusal.contradicts, refusal.unproven) == (422, False, True)


def test_a_bad_proof_for_what_is_known_says_nothing_about_the_log() -> None:
    """Whoever asks chooses the proof, and anybody may ask."""
    for seen, body in (
        (known(MAIN, 6), MAIN.request(6, 6, proof=[bytes(32)])),
        (Known(), MAIN.request(0, 6, proof=[bytes(32)])),
    ):
        refusal = refused(seen, body)
        assert (refusal.status, refusal.contradicts, refusal.unproven) == (422, False, False)


@pytest.mark.parametrize("size", range(7, 21))
def test_the_proof_of_the_true_log_does_not_help_a_branch(size: int) -> None:
    body = FORK.request(6, size, proof=MAIN.proof(6, size))
    assert refused(known(MAIN, 6), body).status == 422


def test_a_missing_or_superfluous_proof_gets_422() -> None:
    assert refused(known(MAIN, 6), MAIN.request(6, 20, proof=[])).status == 422
    assert refused(known(MAIN, 6), MAIN.request(6, 6, proof=[bytes(32)])).status == 422
    assert refused(Known(), MAIN.request(0, 6, proof=[bytes(32)])).status == 422


def test_its_own_cosignature_of_more_than_it_knows_makes_it_remember() -> None:
    line = cosign(parse_note(MAIN.note(9)).text, OWN.name, OWN_KEY, 1)
    note = join_signatures(MAIN.note(9), [line])
    decision = judge(known(MAIN, 6), write_request(6, MAIN.proof(6, 9), note))
    assert isinstance(decision, Remember)
    assert decision.checkpoint.size == 9


def test_its_own_cosignature_of_what_it_knows_changes_nothing() -> None:
    line = cosign(parse_note(MAIN.note(9)).text, OWN.name, OWN_KEY, 1)
    note = join_signatures(MAIN.note(9), [line])
    assert isinstance(judge(known(MAIN, 9), write_request(9, [], note)), Cosign)
    assert refused(known(MAIN, 12), write_request(9, [], note)).status == 409


def test_a_log_whose_key_is_not_called_as_the_log_is_may_be_watched() -> None:
    name = "example.com/key-2026"
    key = VerifierKey(name=name, public_key=LOG_KEY.verify_key.encode())
    text = Checkpoint(origin=ORIGIN, size=9, root=MAIN.root(9)).text()
    parties = Parties(origin=ORIGIN, log_keys=(key,), own_key=OWN)
    request = parse_request(write_request(0, [], sign_note(text, name, LOG_KEY)))
    assert isinstance(decide(Known(), request, parties), Cosign)


def test_while_a_key_takes_anothers_place_either_may_sign() -> None:
    next_key = SigningKey(b"n" * 32)
    following = VerifierKey(name=ORIGIN, public_key=next_key.verify_key.encode())
    both = Parties(origin=ORIGIN, log_keys=(LOG_VKEY, following), own_key=OWN)
    by_next = checkpoint_signer(ORIGIN, next_key)(9, MAIN.root(9))
    twice = join_signatures(by_next, parse_note(MAIN.note(9)).signatures)
    for note in (MAIN.note(9), by_next, twice):
        request = parse_request(write_request(6, MAIN.proof(6, 9), note))
        assert isinstance(decide(known(MAIN, 6), request, both), Cosign)
    spoilt = join_signatures(by_next, parse_note(MAIN.note(8)).signatures)
    decision = decide(Known(), parse_request(write_request(0, [], spoilt)), both)
    assert isinstance(decision, Refuse)
    assert decision.status == 403


_NOTE = MAIN.note(9)
_HASH = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "no empty line"),
        (b"old 0\n" + _NOTE.encode(), "A line of the consistency proof"),
        (f"\n\n{_NOTE}".encode(), "first line"),
        (f"old\n\n{_NOTE}".encode(), "first line"),
        (f"old 00\n\n{_NOTE}".encode(), "first line"),
        (f"old 01\n\n{_NOTE}".encode(), "first line"),
        (f"old -1\n\n{_NOTE}".encode(), "first line"),
        (f"old +1\n\n{_NOTE}".encode(), "first line"),
        (f"old 1 \n\n{_NOTE}".encode(), "first line"),
        (f"old  1\n\n{_NOTE}".encode(), "first line"),
        (f"Old 1\n\n{_NOTE}".encode(), "first line"),
        (f"old \u0661\n\n{_NOTE}".encode(), "first line"),
        (f"old {10**19}\n\n{_NOTE}".encode(), "first line"),
        (f"old 1\r\n\n{_NOTE}".encode(), "first line"),
        (f"old 1\n{_HASH[:-1]}\n\n{_NOTE}".encode(), "not base64"),
        (f"old 1\n{_HASH[:-2]}B=\n\n{_NOTE}".encode(), "not base64"),
        (f"old 1\n{base64.b64encode(bytes(31)).decode()}\n\n{_NOTE}".encode(), "32 bytes"),
        (b"old 1\n" + f"{_HASH}\n".encode() * 64 + f"\n{_NOTE}".encode(), "more than 63"),
        (b"old 1\n\n\xff" + _NOTE.encode(), "not UTF-8"),
        (f"old 1\n\n{ORIGIN}\n1\n".encode(), "no empty line"),
        (f"old 1\n\n{_NOTE[:-1]}".encode(), "does not end in a newline"),
    ],
)
def test_a_malformed_request_is_refused_with_its_own_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(BadCheckpoint, match=sentence):
        parse_request(body)


def test_as_many_proof_lines_as_a_client_may_send_are_read() -> None:
    body = write_request(1, [bytes(32)] * MAX_PROOF_LINES, _NOTE)
    assert len(parse_request(body).proof) == MAX_PROOF_LINES
