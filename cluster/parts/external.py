"""A server that someone else runs: only probed, never started or stopped."""

import asyncio
from urllib.parse import urlsplit

from cluster.errors import NotAnswering, PartFailed
from cluster.process import Probe

_ATTEMPTS = 3
_PAUSE_S = 1.0


class External:
    """A Part at a URL."""

    def __init__(self, name: str, url: str, probe: Probe, *, variable: str) -> None:
        self._name = name
        self._url = url
        self._probe = probe
        self._variable = variable

    @property
    def name(self) -> str:
        """The part's name."""
        return self._name

    async def start(self) -> str:
        """Check that it answers.

        Raises:
            PartFailed: it does not, naming the variable that points to it.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._probe()
                break
            except (OSError, NotAnswering, TimeoutError) as error:
                if attempt == _ATTEMPTS:
                    reason = str(error) or "no answer in time"
                    raise PartFailed(
                        f"{self._name} at {without_password(self._url)} ({self._variable}) "
                        f"does not answer: {reason}"
                    ) from error
            await asyncio.sleep(_PAUSE_S)
        return without_password(self._url)

    async def probe(self) -> str:
        """Ask it whether it is up."""
        return str(await self._probe())

    async def watch(self) -> None:
        """Nothing to keep up; wait to be cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """It is not ours to stop."""


def without_password(url: str) -> str:
    """The URL's scheme, host, port and path: fit for a log or a screen."""
    parts = urlsplit(url)
    if not parts.scheme or "//" not in url:
        return url
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"
