"""The vector index in Qdrant's local mode."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from qdrant_client.models import Distance, PointStruct, VectorParams

from storage.errors import StorageUnavailable, VectorMismatch, VectorPathLocked
from storage.vectors import Vectors

HOLD = """
import asyncio, sys
from pathlib import Path
from storage.vectors import Vectors
async def hold():
    async with Vectors.open_path(Path(sys.argv[1])):
        print("open", flush=True)
        sys.stdin.readline()
asyncio.run(hold())
"""


async def test_a_collection_is_made_once_and_kept(vector_path: Path) -> None:
    async with Vectors.open_path(vector_path) as vectors:
        await vectors.ping()
        await vectors.ensure_collection("memory", 4)
        point = PointStruct(id=1, vector=[1.0, 0.0, 0.0, 0.0], payload={"n": 1})
        await vectors.client.upsert("memory", [point])
        await vectors.ensure_collection("memory", 4)
    async with Vectors.open_path(vector_path) as vectors:
        await vectors.ensure_collection("memory", 4)
        found = await vectors.client.query_points("memory", query=[1.0, 0.1, 0.0, 0.0])
    assert [hit.payload for hit in found.points] == [{"n": 1}]


@pytest.mark.parametrize(("size", "distance"), [(8, Distance.COSINE), (4, Distance.DOT)])
async def test_a_collection_of_other_vectors_is_refused(
    vector_path: Path, size: int, distance: Distance
) -> None:
    async with Vectors.open_path(vector_path) as vectors:
        params = VectorParams(size=size, distance=distance)
        await vectors.client.create_collection("memory", vectors_config=params)
        with pytest.raises(VectorMismatch, match="not Cosine vectors of 4"):
            await vectors.ensure_collection("memory", 4)


async def test_a_collection_of_several_kinds_is_refused(vector_path: Path) -> None:
    async with Vectors.open_path(vector_path) as vectors:
        params = {"a": VectorParams(size=4, distance=Distance.COSINE)}
        await vectors.client.create_collection("memory", vectors_config=params)
        with pytest.raises(VectorMismatch, match="several kinds"):
            await vectors.ensure_collection("memory", 4)


# The client leaves the lock file that it could not lock to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_folder_that_another_process_has_open_is_named(vector_path: Path) -> None:
    root = Path(__file__).parents[3]
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLD,
        str(vector_path),
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},  # noqa: TID251 - the child's environment
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"open\n"
    with pytest.raises(VectorPathLocked, match=str(vector_path)):
        async with Vectors.open_path(vector_path):
            pytest.fail("opened twice")
    await holder.communicate(b"\n")
    async with Vectors.open_path(vector_path) as vectors:
        await vectors.ping()


async def test_a_server_that_does_not_listen_is_unavailable() -> None:
    async with Vectors.open_url("http://127.0.0.1:1", deadline_s=2) as vectors:
        with pytest.raises(StorageUnavailable, match="could not ping"):
            await vectors.ping()


@pytest.mark.skipif("QDRANT_URL" not in os.environ, reason="QDRANT_URL is not set")  # noqa: TID251
async def test_a_server_is_used_like_a_folder() -> None:
    async with Vectors.open_url(os.environ["QDRANT_URL"]) as vectors:  # noqa: TID251
        await vectors.ping()
        await vectors.ensure_collection("swarm-test", 4)
        await vectors.ensure_collection("swarm-test", 4)
        await vectors.client.delete_collection("swarm-test")
