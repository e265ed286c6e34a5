"""Senders with a credential, for tests without a broker."""

from datetime import timedelta

from bus.event import Draft, Event, derive_id
from bus.identity import Authority, Credential
from bus.nkey import AgentKey
from bus.payloads import RunSubmitted
from bus.signing import Sender
from bus.trust import Standing, TrustStore
from policies.capabilities import Capabilities

POLICY = Capabilities.shipped()
AUTHORITY = Authority.create()


def credential_of(role: str, name: str, key: AgentKey, ttl_s: float = 3600) -> Credential:
    return AUTHORITY.issue(
        key.public,
        role=role,
        name=name,
        permissions=POLICY.permissions(role, key.public),
        ttl=timedelta(seconds=ttl_s),
    )


def new_sender(role: str = "gateway", name: str = "gateway-1") -> Sender:
    key = AgentKey.generate()
    return Sender(key, credential_of(role, name, key), POLICY)


def submitted(run: str, objective: str = "Design a rate limiter", by: str = "admin") -> Draft:
    return Draft(
        run=run,
        payload=RunSubmitted(
            objective=objective, workflow="sparc", model="scripted", requested_by="admin"
        ),
        id=derive_id("run.submitted", run, objective),
        on_behalf_of=by,
    )


def admitted(sender: Sender, stream_sequence: int = 1) -> Standing:
    trust = TrustStore(AUTHORITY.operator_public_key, AUTHORITY.account_jwt)
    return Standing(announced=(trust.admit(sender.credential.jwt, stream_sequence),))


def appended(sender: Sender, run: str, objective: str = "x") -> Event:
    """An event as if it had been stored: the sender's chain moves on."""
    event = sender.sign(submitted(run, objective))
    sender.advance(event)
    return event
