"""Whose word over the log's key a bundle holds: that of the root in force at its checkpoint.

The gateway knows the word of its start; a root that came later gives its own in the log.
"""

import pytest

from bus.nkey import OPERATOR, AgentKey
from serve.evidence import Anchors, bundle_of
from swarm.verify import verify
from swarm.verify.note import log_key
from tests.evidence import RUN, Ledger, Member, begun, document_of, rotated_root

FIRST, SECOND, THIRD = (AgentKey.generate(OPERATOR) for _ in range(3))


def log() -> tuple[Ledger, Member, Member]:
    """A log whose gateway was started under the first root, with a run."""
    ledger, authority, gateway, _ = begun(FIRST)
    ledger.say(gateway, "run.submitted")
    return ledger, authority, gateway


def rotate(ledger: Ledger, by: Member, old: AgentKey, new: AgentKey, **more: str) -> None:
    accounts = sum(record.subject.endswith("root.rotated") for record in ledger.records) + 1
    account = ledger.account_claims(ledger.account, new, issued_at=accounts)
    ledger.trust(by, "root.rotated", rotated_root(old, new, account, **more))


def bundle(ledger: Ledger, *, size: int | None = None, start: AgentKey = FIRST) -> bytes:
    anchors = Anchors(
        operator=FIRST.public,
        account_jwt=ledger.account_jwt,
        log_key_jwt=ledger.log_key_by(start),
        policies=ledger.documents,
    )
    return bundle_of(ledger.evidence(size=size), anchors)


def voucher(of: bytes) -> str:
    return log_key(document_of(of)["log_key"]).voucher


def test_after_a_rotation_the_bundle_is_proven_to_who_trusts_either_root() -> None:
    ledger, authority, gateway = log()
    rotate(ledger, authority, FIRST, SECOND, log_key_jwt=ledger.log_key_by(SECOND))
    ledger.say(gateway, "run.submitted")
    for root in (FIRST, SECOND):
        assert verify(bundle(ledger), root.public).run == RUN
    rotate(ledger, authority, SECOND, THIRD, log_key_jwt=ledger.log_key_by(THIRD))
    for root in (FIRST, SECOND, THIRD):
        assert verify(bundle(ledger), root.public).run == RUN


def test_a_checkpoint_between_two_rotations_is_vouched_for_by_the_root_of_then() -> None:
    ledger, authority, _ = log()
    rotate(ledger, authority, FIRST, SECOND, log_key_jwt=ledger.log_key_by(SECOND))
    rotate(ledger, authority, SECOND, THIRD, log_key_jwt=ledger.log_key_by(THIRD))
    whole = len(ledger.records)
    for start in (FIRST, THIRD):
        earlier = bundle(ledger, size=whole - 1, start=start)
        assert verify(earlier, SECOND.public).size == whole - 1
    assert verify(bundle(ledger, size=whole - 2), FIRST.public).size == whole - 2


def test_without_a_rotation_or_with_one_of_an_earlier_version_the_word_of_the_start_stands() -> (
    None
):
    ledger, authority, _ = log()
    assert voucher(bundle(ledger)) == FIRST.public
    rotate(ledger, authority, FIRST, SECOND)
    assert voucher(bundle(ledger)) == FIRST.public
    restarted = bundle(ledger, start=SECOND)
    for root in (FIRST, SECOND):
        assert verify(restarted, root.public).run == RUN


def test_a_later_rotation_that_says_nothing_of_the_key_leaves_the_word_of_the_start() -> None:
    ledger, authority, _ = log()
    rotate(ledger, authority, FIRST, SECOND, log_key_jwt=ledger.log_key_by(SECOND))
    rotate(ledger, authority, SECOND, THIRD)
    assert voucher(bundle(ledger, start=THIRD)) == THIRD.public


@pytest.mark.parametrize("what", ["another key", "another root", "no token", "too long"])
def test_a_word_that_does_not_vouch_for_the_key_is_not_used(what: str) -> None:
    ledger, authority, _ = log()
    words = {
        "another key": Ledger().log_key_by(SECOND),
        "another root": ledger.log_key_by(THIRD),
        "no token": "x.y",
        "too long": "x" * 5_000,
    }
    rotate(ledger, authority, FIRST, SECOND, log_key_jwt=words[what])
    assert voucher(bundle(ledger)) == FIRST.public
    assert verify(bundle(ledger), FIRST.public).run == RUN


def test_a_rotation_that_is_told_once_more_does_not_set_the_word_back() -> None:
    ledger, authority, _ = log()
    rotate(ledger, authority, FIRST, SECOND, log_key_jwt=ledger.log_key_by(SECOND))
    again, event_id = ledger.records[-1].data, dict(ledger.records[-1].raw_headers)["ce-id"]
    rotate(ledger, authority, SECOND, THIRD, log_key_jwt=ledger.log_key_by(THIRD))
    named = {"ce-id": event_id}
    ledger.say(
        authority, "root.rotated", document_of(again), run="trust",
        change=lambda headers: headers.update(named),
    )  # fmt: skip
    assert ledger.records[-1].data == again
    assert verify(bundle(ledger), THIRD.public).run == RUN


def test_a_rotation_that_was_refused_says_nothing() -> None:
    ledger, authority, gateway = log()
    rotate(ledger, authority, FIRST, SECOND, log_key_jwt=ledger.log_key_by(SECOND))
    stranger = rotated_root(SECOND, THIRD, "", log_key_jwt=ledger.log_key_by(THIRD))
    ledger.say(gateway, "root.rotated", stranger, run="trust", refused="not_permitted")
    assert voucher(bundle(ledger)) == SECOND.public
    assert verify(bundle(ledger), SECOND.public).run == RUN
