"""What importing the SDK costs."""

import subprocess
import sys


def test_importing_the_sdk_imports_none_of_the_servers_libraries() -> None:
    heavy = ["ray", "vllm", "torch", "nats", "asyncpg", "redis", "qdrant_client", "fastapi"]
    script = f"import sys, swarm; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_witness_loads_neither_ray_nor_a_database_driver() -> None:
    """It runs where there is no swarm."""
    heavy = ["ray", "vllm", "torch", "nats", "asyncpg", "redis", "qdrant_client", "fastapi"]
    script = f"import sys, swarm.witness.command; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
