"""`swarm audit verify`: the audit log of a home, whether its swarm runs or not."""

from cluster import state as states
from cluster.errors import HomeNotUsable, NotRunning
from cluster.log_key import log_verifier_key
from cluster.log_servers import of_running, of_stopped
from cluster.people import audit_key_file
from cluster.settings import Settings
from storage.checkpoint import Checkpoint, parse_checkpoint
from storage.log_checker import LogCheck, LogChecker
from storage.note import VerifierKey
from storage.postgres import open_pool


async def verify_log(settings: Settings, kept: str | None = None) -> LogCheck:
    """Check the whole audit log; the servers of a stopped swarm are started meanwhile.

    Args:
        settings: say which home.
        kept: a checkpoint from earlier, which the log must continue.

    Raises:
        NotRunning: there is no swarm in this home.
        HomeNotUsable: the log's key is not there.
        BadCheckpoint: the kept one is not of this log.
        SwarmError: a server did not start or did not answer.
    """
    home = settings.located_home()
    if not (home.run / "lock").exists():
        raise NotRunning(f"No swarm has run in {home.root}.")
    if not audit_key_file(home).exists():
        raise HomeNotUsable(f"The key of the audit log is not at {audit_key_file(home)}.")
    key = log_verifier_key(home)
    earlier = None if kept is None else parse_checkpoint(kept).verify(key)
    state = states.load(home)
    if state is not None and state.alive():
        return await _check(of_running(settings, state).database_url, key, earlier)
    async with of_stopped(settings) as servers:
        return await _check(servers.database_url, key, earlier)


async def _check(database_url: str, key: VerifierKey, earlier: Checkpoint | None) -> LogCheck:
    async with open_pool(database_url, max_size=2) as pool:
        return await LogChecker(pool, key).check(earlier)
