"""Who may vouch for the key that signs checkpoints: the root that is trusted, or a later one."""

from itertools import pairwise

import pytest

from bus.nkey import OPERATOR, AgentKey
from swarm.verify import NotProven, verify
from tests.evidence import Ledger, begun, bytes_of, document_of, rotated_root

ROOTS = [AgentKey.generate(OPERATOR) for _ in range(3)]


def ledger_of_three_roots() -> Ledger:
    ledger, authority, gateway, _ = begun(ROOTS[0])
    ledger.say(gateway, "run.submitted")
    for issued_at, (old, new) in enumerate(pairwise(ROOTS), start=1):
        account = ledger.account_claims(ledger.account, new, issued_at=issued_at)
        ledger.trust(authority, "root.rotated", rotated_root(old, new, account))
    return ledger


@pytest.mark.parametrize("trusted", range(3))
@pytest.mark.parametrize("voucher", range(3))
def test_the_trusted_root_or_a_later_one_vouches_for_the_logs_key(
    trusted: int, voucher: int
) -> None:
    ledger = ledger_of_three_roots()
    document = document_of(ledger.bundle())
    document["log_key"] = ledger.log_key_by(ROOTS[voucher])
    bundle, root = bytes_of(document), ROOTS[trusted].public
    if voucher >= trusted:
        assert verify(bundle, root).accepted == 1
    else:
        with pytest.raises(NotProven, match=f"signed by {ROOTS[voucher].public}, a root from befo"):
            verify(bundle, root)


@pytest.mark.parametrize("trusted", range(3))
def test_a_root_of_no_succession_vouches_for_nothing(trusted: int) -> None:
    ledger = ledger_of_three_roots()
    ledger.root = AgentKey.generate(OPERATOR)
    with pytest.raises(NotProven, match="which is no root here"):
        verify(ledger.bundle(), ROOTS[trusted].public)
