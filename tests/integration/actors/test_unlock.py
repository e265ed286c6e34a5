"""Who is given the keys of people, and who is not; on a real broker with a real authority."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.authority import Registrar, acting_authority
from actors.errors import EnrolmentBarred, EnrolmentRefused, KeyRetired
from actors.member import Domain, Enrolment, joined
from actors.rotation import decide, revocation
from bus.custody import SubjectKeyDirectory
from bus.errors import ConsumptionDenied, IdentityError
from bus.event import Draft, StoredEvent, derive_id
from bus.identity import Authority
from bus.keyring import KeyDirectory
from bus.nkey import AgentKey
from bus.payloads import RunSubmitted
from bus.subjects import subject_for
from bus.trust_payloads import IdentityRevoked
from tests.broker import Broker

SECRET = b"secret of the enrolments"
CODER = Enrolment.grant(SECRET, "coder", "coder-1")


class Office:
    """An authority that acts, with the keys of people in a folder of its own."""

    def __init__(self, broker: Broker, keys: Path, registrar: Registrar) -> None:
        self.broker = broker
        self.directory = KeyDirectory(keys)
        self.subjects = SubjectKeyDirectory(keys / "subjects")
        self.registrar = registrar


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    keys = tmp_path / "keys"
    keys.mkdir()
    Authority.create().save(keys)
    broker = Broker(tmp_path, authority=Authority.load(keys))
    await broker.start()
    await broker.provision()
    async with acting_authority(
        broker.authority,
        SECRET,
        domain_of(broker),
        "authority-1",
        subjects=SubjectKeyDirectory(keys / "subjects"),
    ) as registrar:
        yield Office(broker, keys, registrar)
    await broker.stop()


def domain_of(broker: Broker) -> Domain:
    return Domain(
        nats_url=broker.url,
        operator_public_key=broker.authority.operator_public_key,
        account_jwt=broker.authority.account_jwt,
    )


async def test_only_the_holder_of_the_public_key_can_use_the_answer(office: Office) -> None:
    own, other = AgentKey.generate(), AgentKey.generate()
    box = await office.registrar.unlock(CODER, own.public, "ann", True)
    assert box is not None
    assert own.open_box(box) == office.subjects.find("ann")
    with pytest.raises(IdentityError):
        other.open_box(box)


async def test_a_key_is_made_only_to_seal_something(office: Office) -> None:
    own = AgentKey.generate()
    assert await office.registrar.unlock(CODER, own.public, "ann", False) is None
    assert office.subjects.find("ann") is None


async def test_who_was_not_enrolled_or_may_not_unseal_is_given_none(office: Office) -> None:
    own = AgentKey.generate()
    forged = Enrolment.grant(b"another secret", "coder", "coder-1")
    with pytest.raises(EnrolmentRefused):
        await office.registrar.unlock(forged, own.public, "ann", True)
    for role in ("auditor", "observer", "authority", "launcher", "stranger"):
        with pytest.raises(ConsumptionDenied):
            await office.registrar.unlock(
                Enrolment.grant(SECRET, role, "x"), own.public, "ann", True
            )
    assert office.subjects.find("ann") is None


async def test_who_was_revoked_is_given_none(office: Office) -> None:
    own = AgentKey.generate()
    revoked = IdentityRevoked(
        role="coder", name="coder-1", public_key=own.public, requested_by="vic"
    )
    decide(office.directory, revocation((revoked,)))
    with pytest.raises(EnrolmentBarred):
        await office.registrar.unlock(CODER, own.public, "ann", True)
    other = Enrolment.grant(SECRET, "coder", "coder-2")
    with pytest.raises(KeyRetired):
        await office.registrar.unlock(other, own.public, "ann", True)


async def test_a_member_seals_what_it_says_and_reads_what_others_said(office: Office) -> None:
    unlock, issue = office.registrar.unlock, office.registrar.issue
    domain = domain_of(office.broker)
    payload = RunSubmitted(objective="a secret", workflow="sparc", model="m", requested_by="Ann")
    draft = Draft(run="r1", payload=payload, id=derive_id("r1"), on_behalf_of="ann")
    subject = subject_for("r1", RunSubmitted.TYPE)
    gateway = Enrolment.grant(SECRET, "gateway", "gateway-1")
    async with joined(domain, gateway, issue, unlock=unlock) as log:
        await log.append(draft)
    coordinator = Enrolment.grant(SECRET, "coordinator", "coordinator")
    async with joined(domain, coordinator, issue, unlock=unlock) as log:
        read = await log.last_on(subject)
    async with joined(domain, Enrolment.grant(SECRET, "auditor", "auditor"), issue) as log:
        audited = await log.last_on(subject)
    assert isinstance(read, StoredEvent)
    assert read.payload() == payload
    assert isinstance(audited, StoredEvent)
    assert b"a secret" not in audited.event.data
    assert audited.payload() != payload
