"""How every command reaches the swarm of this machine."""

from cluster.settings import Settings
from swarm.client import AsyncSwarm


async def local_swarm() -> AsyncSwarm:
    """Connect to the swarm in the home that the settings name, those in `.env` included.

    Raises:
        ConfigurationError: a setting cannot be used.
        NotReachable: no swarm is running there.
        NotAuthenticated: its password cannot be read, or is not accepted.
    """
    return await AsyncSwarm.connect(home=Settings.load().located_home().root)
