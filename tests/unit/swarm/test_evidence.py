"""Evidence through the SDK."""

import pytest

from swarm.errors import NotFound, Refused
from swarm.verify import verify
from tests.evidence import small
from tests.unit.serve.fakes import Fakes
from tests.unit.swarm.gateways import connected


def fakes() -> Fakes:
    made = Fakes()
    made.have_audited(small(), [4, 10])
    return made


async def test_a_checkpoint_proofs_and_a_bundle_can_be_asked_for() -> None:
    made = fakes()
    ledger = made.audit.ledger
    async with await connected(made) as swarm:
        assert await swarm.checkpoint() == ledger.checkpoint().note
        assert await swarm.checkpoint(4) == ledger.checkpoint(4).note
        with pytest.raises(NotFound, match="No witness"):
            await swarm.checkpoint(cosigned=True)
        leaf = await swarm.inclusion(3, 4)
        assert (leaf.leaf, leaf.size) == (3, 4)
        assert leaf.proof == tuple(each.hex() for each in ledger.inclusion(3, 4))
        assert (await swarm.inclusion(3)).size == 10
        grown = await swarm.consistency(4)
        assert (grown.old, grown.new) == (4, 10)
        assert grown == await swarm.consistency(4, 10)
        bundle = await swarm.run("r1").evidence(since=4)
    held = ledger.checkpoint(4).note
    assert verify(bundle, ledger.operator.public, old_checkpoint=held).extends == 4


async def test_what_is_not_there_is_refused() -> None:
    async with await connected(fakes()) as swarm:
        with pytest.raises(NotFound):
            await swarm.checkpoint(5)
        with pytest.raises(Refused) as refused:
            await swarm.inclusion(10)
        assert refused.value.fields.keys() == {"leaf"}
        with pytest.raises(NotFound):
            await swarm.run("r9").evidence()
