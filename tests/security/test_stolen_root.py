"""A root that was replaced because it was stolen: what its thief writes convinces nobody any more.

The thief has the old root's private key and all that is public: bundles of the true log, with the
succession that both roots signed. The new root's key and the log's own stay out of reach.
"""

from collections.abc import Sequence

import pytest

from bus.nkey import ACCOUNT, OPERATOR, AgentKey
from swarm.verify import NotProven, verify
from tests.evidence import Ledger, Member, begun, bytes_of, document_of, rotated_root

STOLEN = AgentKey.generate(OPERATOR)


def honest(*roots: AgentKey) -> tuple[Ledger, list[dict[str, str]]]:
    """A log whose root was replaced by each of these in turn, and what it told of that."""
    ledger, authority, gateway, _ = begun(STOLEN)
    ledger.say(gateway, "run.submitted", {"objective": "what was asked"})
    told = []
    for issued_at, (old, new) in enumerate(zip((STOLEN, *roots), roots, strict=False), start=1):
        account = ledger.account_claims(ledger.account, new, issued_at=issued_at)
        word = ledger.log_key_by(new)
        told.append(rotated_root(old, new, account, log_key_jwt=word))
        ledger.trust(authority, "root.rotated", told[-1])
    ledger.say(gateway, "run.submitted", {"objective": "and after that"})
    return ledger, told


def by_the_thief(true: Ledger, told: Sequence[dict[str, str]]) -> Ledger:
    """Another history, which ends in the true succession."""
    own = AgentKey.generate(ACCOUNT)
    forged = Ledger(operator=STOLEN, account=true.account)
    forged.account_jwt = forged.account_claims(true.account, STOLEN, own)
    forged.issuer = own
    authority, gateway = Member("authority", "authority-1"), Member("gateway", "gateway-1")
    forged.announce(authority, authority)
    forged.announce(gateway, authority)
    forged.say(gateway, "run.submitted", {"objective": "what nobody asked"})
    for each in told:
        forged.trust(authority, "root.rotated", each)
    return forged


@pytest.mark.parametrize("rotations", [1, 2])
def test_a_log_that_a_thief_of_a_replaced_root_wrote_is_refused_by_who_trusts_a_later_one(
    rotations: int,
) -> None:
    roots = [AgentKey.generate(OPERATOR) for _ in range(rotations)]
    true, told = honest(*roots)
    forged = by_the_thief(true, told)
    bundle = forged.bundle()
    for root in roots:
        with pytest.raises(NotProven, match=f"{STOLEN.public}, a root from before the given key"):
            verify(bundle, root.public)


def test_the_new_roots_own_word_does_not_vouch_for_the_key_of_the_thief() -> None:
    new = AgentKey.generate(OPERATOR)
    true, told = honest(new)
    document = document_of(by_the_thief(true, told).bundle())
    document["log_key"] = told[0]["log_key_jwt"]
    with pytest.raises(NotProven, match="not signed by the log's key"):
        verify(bytes_of(document), new.public)


def test_who_still_trusts_the_stolen_root_believes_its_thief_as_well() -> None:
    """So the new key has to be passed on: nothing in a bundle can say that a root was stolen."""
    true, told = honest(AgentKey.generate(OPERATOR))
    assert verify(by_the_thief(true, told).bundle(), STOLEN.public).accepted == 1


def test_the_true_log_is_proven_to_who_trusts_any_of_its_roots() -> None:
    roots = [AgentKey.generate(OPERATOR) for _ in range(2)]
    true, _ = honest(*roots)
    for root in (STOLEN, *roots):
        assert verify(true.bundle(), root.public).accepted == 2
