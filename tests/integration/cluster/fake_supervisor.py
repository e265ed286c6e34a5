"""The real supervisor around a launch of one's choice, in place of the actors.

With a second argument its log has no room.
"""

import asyncio
import os
import subprocess
import sys

from cluster import supervisor
from cluster.addresses import Addresses
from cluster.errors import PartFailed
from cluster.home import Home
from cluster.settings import Settings
from cluster.state import Progress, ProgressWriter

_SLEEP = "import time; time.sleep(600)"
_DETACHED = f"import os; os.fork() and os._exit(0); {_SLEEP}"


class Stopped:
    """Nothing to stop."""

    async def stop(self) -> None:
        """Return at once."""


async def ready(
    settings: Settings, home: Home, addresses: Addresses, progress: ProgressWriter
) -> Stopped:
    """Be ready at once, leaving a process behind that has left every group and session."""
    subprocess.Popen([sys.executable, "-c", _DETACHED], start_new_session=True).wait()  # noqa: ASYNC220
    progress.write(Progress(part="actors", phase="ready"))
    return Stopped()


async def actor(
    settings: Settings, home: Home, addresses: Addresses, progress: ProgressWriter
) -> Stopped:
    """Start one actor on the embedded Ray; it has a child process, as a model server has."""

    def start() -> str:
        import ray  # noqa: PLC0415

        class Worker:
            def home(self) -> str:
                subprocess.Popen([sys.executable, "-c", _SLEEP])
                import cluster.home  # noqa: PLC0415

                return cluster.home.__name__

        ray.init(address=addresses.ray, namespace="swarm", log_to_driver=False)
        worker = ray.remote(num_cpus=0.1)(Worker).options(name="worker", lifetime="detached")
        reply = worker.remote().home.remote()  # type: ignore[attr-defined]
        return str(ray.get(reply))

    progress.write(Progress(part="actors", phase="ready", detail=await asyncio.to_thread(start)))
    return Stopped()


async def hang(
    settings: Settings, home: Home, addresses: Addresses, progress: ProgressWriter
) -> Stopped:
    """Never be ready."""
    progress.write(Progress(part="actors", phase="starting"))
    await asyncio.Event().wait()
    return Stopped()


async def fail(
    settings: Settings, home: Home, addresses: Addresses, progress: ProgressWriter
) -> Stopped:
    """Fail as an actor group would."""
    raise PartFailed("The actors did not start.")


async def crash(
    settings: Settings, home: Home, addresses: Addresses, progress: ProgressWriter
) -> Stopped:
    """Fail as nobody expected."""
    raise ZeroDivisionError


if __name__ == "__main__":
    if sys.argv[2:]:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    sys.exit(supervisor.main(globals()[sys.argv[1]]))
