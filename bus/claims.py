"""Telling the broker of an account: whose credentials count from now on."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Final

from bus.connection import open_connection, reachable
from bus.errors import BusUnreachable, ClaimsRefused
from bus.identity import Authority, Permissions
from bus.nkey import AgentKey
from bus.tenants import tenant_inbox

ANSWER_TIMEOUT_S: Final = 5.0
_LIFE: Final = timedelta(minutes=1)
_DONE: Final = 200
_SKIPPED: Final = "jwt update skipped"
_LOADING_S: Final = 2.0


async def tell_broker(nats_url: str, authority: Authority, *, tenant: str | None = None) -> None:
    """Have the broker take the members' account as it is now, or that of a tenant.

    Connections of keys that do not count any more are cut before this returns. A broker that
    keeps accounts in memory only has to be given the same at its next start; it passes over
    those that it does not know.

    Raises:
        ClaimsRefused: the broker does not take it, or does not trust the operator.
        BusUnreachable: no connection, or no answer.
    """
    account, token = authority.account_public_key, authority.account_jwt_in_force
    if tenant is not None:
        account, token = authority.tenant_account(tenant)
    told = await _tell(nats_url, authority, account, token)
    if tenant is not None and told == _SKIPPED:
        # It keeps the account as it was at its start, and would load that at the next connection.
        await _have_it_loaded(nats_url, authority, tenant)
        await _tell(nats_url, authority, account, token)


async def _tell(nats_url: str, authority: Authority, account: str, token: str) -> str:
    """Tell it of one account; what it says of that."""
    key = AgentKey.generate()
    inbox = f"_INBOX_{key.public}"
    subject = f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.UPDATE"
    own = authority.issue_for_broker(
        key.public,
        permissions=Permissions(publish=(subject,), subscribe=(f"{inbox}.>",)),
        ttl=_LIFE,
    )
    async with open_connection(nats_url, key, own, inbox=inbox) as connection:
        with reachable():
            answer = await connection.client.request(
                subject, token.encode(), timeout=ANSWER_TIMEOUT_S
            )
    said = json.loads(answer.data)
    if said.get("data", {}).get("code") != _DONE:
        reason = said.get("error", {}).get("description", "it does not say why")
        raise ClaimsRefused(f"the broker does not take the account: {reason}")
    return str(said["data"].get("message", ""))


async def _have_it_loaded(nats_url: str, authority: Authority, tenant: str) -> None:
    """Connect once as the tenant; a broker that has never heard of it refuses, and may."""
    key = AgentKey.generate()
    inbox = tenant_inbox(tenant, key.public)
    own = authority.issue_for_tenant(
        key.public, tenant, name=f"{tenant}-loads", consumers=("none",), ttl=_LIFE
    )
    with suppress(BusUnreachable):
        async with open_connection(nats_url, key, own, inbox=inbox, deadline_s=_LOADING_S):
            pass
