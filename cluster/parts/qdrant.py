"""Qdrant's local mode: a directory that one actor opens. There is no server to start."""

import asyncio

from cluster.home import Home


class LocalQdrant:
    """A Part without a process."""

    def __init__(self, home: Home) -> None:
        self._home = home

    @property
    def name(self) -> str:
        """The part's name."""
        return "qdrant"

    async def start(self) -> str:
        """The directory, which exists since the home was opened."""
        return str(self._home.qdrant)

    async def probe(self) -> str:
        """The directory can be listed; whether the actor answers is the gateway's to say."""
        entries = await asyncio.to_thread(lambda: sum(1 for _ in self._home.qdrant.iterdir()))
        return "local mode" if entries else "local mode, empty"

    async def watch(self) -> None:
        """Nothing to keep up; wait to be cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Nothing to stop."""
