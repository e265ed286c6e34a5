"""A Ray of a test's own, with Serve."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.serve.quiet_ray import TOKEN, serve


@contextmanager
def ray_environment() -> Iterator[Path]:
    """What Ray reads when it is imported or started; a folder of a short path for its sockets."""
    environment = pytest.MonkeyPatch()
    # Ray makes a token in the home directory unless it is given one.
    environment.setenv("RAY_AUTH_TOKEN", TOKEN)
    environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
    environment.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "30")
    environment.setenv("RAY_worker_niceness", "0")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(dir="/tmp") as folder:
        warnings.simplefilter("ignore")
        environment.setenv("RAY_TMPDIR", folder)
        try:
            yield Path(folder)
        finally:
            environment.undo()


@contextmanager
def serving_ray(*, num_cpus: int, http_port: int | None = None) -> Iterator[Path]:
    """Ray and Serve in this process; the folder holds what else the test makes.

    Args:
        num_cpus: that Ray believes in.
        http_port: of Serve's proxy; None for none.
    """
    with ray_environment() as folder:
        import ray  # noqa: PLC0415  # reads its environment when it is imported

        ray.init(
            address="local",
            _temp_dir=str(folder / "ray"),
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
        )
        try:
            if http_port is None:
                serve.start(proxy_location="Disabled")
            else:
                options = {"host": "127.0.0.1", "port": http_port}
                serve.start(proxy_location="HeadOnly", http_options=options)
            yield folder
        finally:
            serve.shutdown()
            ray.shutdown()
