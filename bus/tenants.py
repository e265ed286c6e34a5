"""A tenant's account on the broker: it sees what is said in its own runs, and says nothing.

Its connections can make consumers of the log, but only for subjects of the tenant, and under
the names that their credential gives them: by any other name they could take what somebody
else's consumer is to be given. What consumers push comes to an inbox of their own.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from bus import jwt
from bus.accounts import FOR_GOOD
from bus.nkey import ACCOUNT, AgentKey
from bus.subjects import STREAM, SYSTEM_RUN, TRUST_RUN, partition_of, run_filter, tenant_filter

CONSUMERS: Final = 4
"""How many consumers one credential may have at a time."""
_API: Final = "$JS.API"
_ANNOUNCEMENTS: Final = f"evt.{partition_of(SYSTEM_RUN)}.{SYSTEM_RUN}.identity.issued.*"
_MARKS_A_STORE: Final = f"{_API}.INFO"
"""An account that does not import this is given the broker's own answers on `$JS.API.>`: that it
has no store. No credential may ask it."""
_PURPOSE: Final = "vllm-swarm/tenant-account/v1"


def tenant_key(log_key: AgentKey, tenant: str) -> AgentKey:
    """The key of a tenant's account: it follows from that of the log's, so none has to be kept."""
    return log_key.derive(f"{_PURPOSE} {tenant}", ACCOUNT)


def tenant_account(
    account: str,
    operator: AgentKey,
    *,
    log: str,
    tenant: str,
    revoked: Iterable[str] = (),
    issued_at: int = 0,
) -> str:
    """The JWT of a tenant's account.

    Args:
        account: its public key.
        operator: signs.
        log: public key of the account that holds the log.
        tenant: whose events it sees.
        revoked: keys that count no more.
        issued_at: seconds since 1970.

    Raises:
        SubjectMismatch: the tenant has no partition of its own.
    """
    imports = [jwt.stream_import(log, f"{_inbox(tenant)}.>")]
    requests = (_MARKS_A_STORE, *_requests(tenant, "*"))
    imports += [jwt.service_import(log, subject) for subject in requests]
    claims = jwt.account_claims(
        account, f"tenant-{tenant}", issued_at, jetstream=False, imports=imports
    )
    nats = claims["nats"]
    if isinstance(nats, dict) and (keys := sorted(revoked)):
        nats["revocations"] = dict.fromkeys(keys, FOR_GOOD)
    return jwt.encode(claims, operator)


def tenant_requests(tenant: str, consumers: Sequence[str]) -> tuple[str, ...]:
    """The subjects on which a connection may ask the log.

    Args:
        tenant: whose events it may read.
        consumers: the names under which it may have any.

    Raises:
        SubjectMismatch: the tenant has no partition of its own.
    """
    return tuple(dict.fromkeys(each for name in consumers for each in _requests(tenant, name)))


def tenant_inbox(tenant: str, public_key: str) -> str:
    """Where answers to one connection of the tenant go; no other credential may listen there."""
    return f"{_inbox(tenant)}.{public_key}"


def _inbox(tenant: str) -> str:
    return f"_INBOX.t-{tenant}"


def _requests(tenant: str, consumer: str) -> tuple[str, ...]:
    """What may be asked of the log; who vouches for whom is there for all to read."""
    own = tenant_filter(tenant)
    return (
        f"{_API}.CONSUMER.CREATE.{STREAM}.{consumer}.{own}",
        f"{_API}.CONSUMER.INFO.{STREAM}.{consumer}",
        f"{_API}.CONSUMER.MSG.NEXT.{STREAM}.{consumer}",
        f"$JS.ACK.{STREAM}.{consumer}.>",
        f"$JS.FC.{STREAM}.{consumer}.>",
        f"{_API}.DIRECT.GET.{STREAM}.{own}",
        f"{_API}.DIRECT.GET.{STREAM}.{run_filter(TRUST_RUN)}",
        f"{_API}.DIRECT.GET.{STREAM}.{_ANNOUNCEMENTS}",
    )
