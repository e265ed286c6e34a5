"""The embedded Ray head node."""

import shutil
import sys
from asyncio import to_thread
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

from cluster import ports, probe
from cluster.errors import NotAnswering, PartFailed
from cluster.home import Home, own, secret
from cluster.ports import LOOPBACK
from cluster.process import ChildSpec
from cluster.ray_options import NodeOptions, NodePorts

LEAST_CPUS = 4
"""Actors ask for fractions of a CPU; a small machine has too few whole ones."""

_SETTINGS = {
    # The actors have ended before: nothing is left to drain, and Ray would wait 30 s.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # Serve asks its proxy every ten seconds whether it lives; nobody is served meanwhile.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # On a busy machine a proxy needs longer than Serve's five seconds to start; Serve would kill
    # it meanwhile, and begin again.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
    # Ray gives its workers the lowest share but four of a core (15); whatever else the machine
    # does would starve agents, coordinator and gateway, and their leases with them.
    "RAY_worker_niceness": "0",
}

SHM = Path("/dev/shm")  # nosec B108 # noqa: S108  Linux's shared memory, where Ray puts its object store


@dataclass(slots=True, kw_only=True)
class RayHead:
    """How Ray is started: on loopback, with a token, its sockets in the home."""

    home: Home
    environment: Mapping[str, str] = field(repr=False)
    num_cpus: int
    object_store_bytes: int
    dashboard_port: int
    """0 for a free one."""
    name: str = "ray"
    _options: NodeOptions | None = None

    async def prepare(self, port: int) -> None:
        """Make the token, remove what earlier runs left, choose the other ports.

        Raises:
            PartFailed: shared memory is too small.
            HomeNotUsable: Ray's directory cannot be made.
        """
        secret(self.home.ray_token())
        own(self.home.ray)
        await to_thread(_remove_sessions, self.home.ray)
        self._ready_file.unlink(missing_ok=True)
        self._check_shared_memory()
        self.dashboard_port = self.dashboard_port or ports.free()
        self._options = NodeOptions(
            host=LOOPBACK,
            temp_dir=str(self.home.ray),
            ready_file=str(self._ready_file),
            num_cpus=self.num_cpus,
            object_store_bytes=self.object_store_bytes,
            ports=NodePorts(
                gcs_server_port=port,
                dashboard_port=self.dashboard_port,
                dashboard_agent_listen_port=ports.free(),
                metrics_agent_port=ports.free(),
                metrics_export_port=ports.free(),
                runtime_env_agent_port=ports.free(),
                node_manager_port=ports.free(),
                object_manager_port=ports.free(),
            ),
        )

    def command(self, port: int) -> ChildSpec:  # noqa: ARG002  the options name the port
        """The head node with those options."""
        if self._options is None:
            raise PartFailed("ray was not prepared.")
        return ChildSpec(
            name=self.name,
            command=[
                *(sys.executable, "-P", "-m", "cluster.ray_node"),
                self._options.to_json(),
            ],
            environment={**self.environment, **_SETTINGS},
            folder=self.home.ray,
            log=self.home.log(self.name),
            death_signal=Signals.SIGTERM,
        )

    async def ready(self, port: int) -> str:
        """The node has registered: actors can be started."""
        if not self._ready_file.exists():
            raise NotAnswering("The node has not registered yet.")
        return await probe.tcp(LOOPBACK, port)

    def address(self, port: int) -> str:
        """The GCS address for drivers."""
        return f"{LOOPBACK}:{port}"

    @property
    def dashboard(self) -> str:
        """The dashboard's URL; it comes up a few seconds after the node."""
        return f"http://{LOOPBACK}:{self.dashboard_port}"

    @property
    def _ready_file(self) -> Path:
        return self.home.run / "ray_ready"

    def _check_shared_memory(self) -> None:
        if SHM.is_dir():
            free = shutil.disk_usage(SHM).free
            if free < self.object_store_bytes:
                raise PartFailed(
                    f"ray needs {self.object_store_bytes} bytes of shared memory and {SHM} has "
                    f"{free}. Start the container with a larger one (--shm-size), or lower "
                    "SWARM_RAY_OBJECT_STORE_BYTES."
                )


def _remove_sessions(folder: Path) -> None:
    """Each start makes a session with its logs; only the last one before this is kept."""
    sessions = sorted(path for path in folder.glob("session_2*") if path.is_dir())
    for session in sessions[:-1]:
        shutil.rmtree(session, ignore_errors=True)
