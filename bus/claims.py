"""Telling the broker of an account: whose credentials count from now on."""

import json
from datetime import timedelta
from typing import Final

from bus.connection import open_connection, reachable
from bus.errors import ClaimsRefused
from bus.identity import Authority, Permissions
from bus.nkey import AgentKey

ANSWER_TIMEOUT_S: Final = 5.0
_LIFE: Final = timedelta(minutes=1)
_DONE: Final = 200


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
