"""What an agent was told of the memory, read again for who checks its answer."""

from collections.abc import Sequence

from actors.errors import CannotCheck
from actors.recollection import recollection
from bus.memory_payloads import ItemReference
from bus.subjects import DEFAULT_TENANT, tenant_of
from cluster import state as states
from cluster.log_servers import of_running
from cluster.settings import Settings
from storage.memory import MemoryReader
from storage.memory_change import Version
from storage.postgres import open_pool


async def recalled_text(settings: Settings, run: str, references: Sequence[ItemReference]) -> str:
    """The text that stood in the prompt for what was recalled; empty for nothing.

    Args:
        settings: of the swarm.
        run: for which it was recalled.
        references: what was, in the order in which it was found.

    Raises:
        CannotCheck: a version is not kept any more.
        NotRunning, StorageUnavailable: nobody can say just now.
    """
    if not references:
        return ""
    servers = of_running(settings, states.load_running(settings.located_home()))
    versions = [
        Version(namespace=each.namespace, item=each.item, version=each.version)
        for each in references
    ]
    async with open_pool(servers.database_url, max_size=1) as pool:
        items = await MemoryReader(pool).versions(tenant_of(run) or DEFAULT_TENANT, versions)
    if len(items) < len(versions):
        raise CannotCheck("what the agent was told of the memory is not kept any more")
    return recollection(items)
