"""Run by `python -P -m cluster.ray_node`: Ray's head node, and nothing else.

`ray start --head --block` would do the same, at a price: it starts a Ray Client server and an
autoscaler monitor (2 s of processor time each) that nobody here uses, it listens on the network
where a loopback address was asked for, and it waits for the dashboard before anything else may
start (8 s to ready instead of 3). What it does beside is done here with the same internal
classes, so this file is tied to the Ray version that pyproject.toml pins.
"""

import sys
import time
from dataclasses import asdict
from pathlib import Path

from ray._private.node import Node
from ray._private.parameter import RayParams

from cluster.ray_options import NodeOptions

_CHECK_INTERVAL_S = 0.5


class HeadNode(Node):
    """A head node whose dashboard comes last: neither actors nor jobs wait for it."""

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        """Skipped where Ray calls it, before the raylet; see `start_dashboard`."""

    def start_dashboard(self) -> None:
        """Start it, and wait for it."""
        super().start_api_server(include_dashboard=True, raise_on_failure=True)


def main(line: str) -> int:
    """Start the node, keep it until a signal ends this process; 1 if a part of it died."""
    options = NodeOptions.from_json(line)
    node = HeadNode(
        RayParams(
            node_ip_address=options.host,
            node_name=options.host,
            temp_dir=options.temp_dir,
            num_cpus=options.num_cpus,
            object_store_memory=options.object_store_bytes,
            min_worker_port=0,
            max_worker_port=0,
            include_dashboard=True,
            dashboard_host=options.host,
            no_monitor=True,
            include_log_monitor=False,  # type: ignore[arg-type]  # Ray's annotation is wrong
            **asdict(options.ports),
        ),
        head=True,
        shutdown_at_exit=True,
        spawn_reaper=True,
    )
    Path(options.ready_file).touch()
    node.start_dashboard()
    while not (dead := node.dead_processes()):  # type: ignore[no-untyped-call]
        time.sleep(_CHECK_INTERVAL_S)
    for name, process in dead:
        sys.stderr.write(f"Ray's {name} ended with status {process.returncode}.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
