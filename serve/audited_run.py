"""Whose a run is that may be in the audit log only, because it has left the stream."""

from policies.caller import Caller, Owner, may_see
from serve.known_run import UNKNOWN_RUN, check_run_id, read_run
from serve.ports import GatewayParts
from serve.problems import NotFound


async def check_visible(parts: GatewayParts, run: str, caller: Caller) -> None:
    """Pass over a run that is the caller's to see, wherever it is known.

    Raises:
        NotFound: there is no such run, or it is not theirs.
    """
    check_run_id(run)
    owner = await parts.people.owners.of(run)
    if owner is None:  # the audit log has not reached it, or there is none
        await read_run(parts.log, run, caller)
    elif not may_see(caller, Owner(user=owner.user, tenant=owner.tenant)):
        raise NotFound(UNKNOWN_RUN)
