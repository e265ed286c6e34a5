"""Evidence out of a swarm whose root was rotated while it ran, on a real broker and Postgres."""

import asyncio
from functools import partial

from actors.rotation import decide, new_root, settle
from bus.identity import Authority, vouch_for_log
from serve.evidence import Anchors, bundle_of
from storage.evidence import Evidence, EvidenceReader
from storage.note import VerifierKey
from storage.postgres import Pool
from swarm.verify import verify
from tests.auditing import LOG_KEY, ORIGIN, auditing, until_audited
from tests.integration.actors.test_trust_changes import ASKED, Office, office, said
from tests.integration.storage.conftest import dsn, pool, postgres, template

__all__ = ["dsn", "office", "pool", "postgres", "template"]
RUN = "r1"
KEY = VerifierKey(name=ORIGIN, public_key=LOG_KEY.verify_key.encode())
MOST_TAIL = 10_000


async def test_right_after_a_rotation_a_run_is_proven_to_who_trusts_either_root(
    office: Office, pool: Pool
) -> None:
    broker, first = office.broker, office.broker.authority
    vouch = partial(vouch_for_log, name=ORIGIN, verifier_key=str(KEY))
    gateway = Anchors(  # as it was configured when the swarm was started
        operator=first.operator_public_key,
        account_jwt=first.account_jwt,
        log_key_jwt=vouch(first.root_key),
        policies=(),
    )
    async with office.member("gateway", "gateway") as log:
        await log.append(said(RUN, 1))
        decide(office.directory, new_root(ASKED, vouch))
        broker.authority = Authority.load(office.directory.path)
        settling = asyncio.create_task(settle(office.directory, office.registrar.log, broker.url))
        await broker.stop()  # what the supervisor does
        await broker.start()
        await settling
        await log.append(said(RUN, 2))
    async with auditing(broker, pool) as auditor:
        await until_audited(auditor, pool)
    reader = EvidenceReader(pool)
    checkpoint = await reader.checkpoint()
    assert checkpoint is not None
    evidence = await reader.evidence(RUN, checkpoint, most_tail=MOST_TAIL)
    assert isinstance(evidence, Evidence)
    bundle = bundle_of(evidence, gateway)
    new = broker.authority.ring.operator
    assert new != first.operator_public_key
    for root in (first.operator_public_key, new):
        assert verify(bundle, root).accepted == 2
