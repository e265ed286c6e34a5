"""Qdrant: the vector index, embedded in a folder or a server by URL.

The index holds nothing that cannot be rebuilt from Postgres.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import (
    ApiException,
    ResponseHandlingException,
    UnexpectedResponse,
)
from qdrant_client.models import Distance, VectorParams

from storage.errors import (
    StorageError,
    StorageRefused,
    StorageUnavailable,
    VectorMismatch,
    VectorPathLocked,
)

_CONFLICT = 409
_SERVER_ERROR = 500
_LOCKED = "already accessed"


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turns what the client raises into the StorageError that it means.

    Raises:
        StorageUnavailable: no connection, no answer in time, or an error of the server's own.
        StorageRefused: the server refused the request.
    """
    try:
        yield
    except StorageError:
        raise
    except TimeoutError as error:
        message = f"Qdrant: could not {action} in time."
        raise StorageUnavailable(message) from error
    except (ResponseHandlingException, OSError) as error:
        message = f"Qdrant: could not {action}: no connection."
        raise StorageUnavailable(message) from error
    except UnexpectedResponse as error:
        message = f"Qdrant: could not {action}: status {error.status_code}."
        failed = (error.status_code or _SERVER_ERROR) >= _SERVER_ERROR
        raise (StorageUnavailable if failed else StorageRefused)(message) from error
    except (ApiException, ValueError, RuntimeError) as error:
        message = f"Qdrant: could not {action}: {error}."
        raise StorageRefused(message) from error


class Vectors:
    """The vector index.

    Args:
        client: an open client, for the callers that search and store.
        deadline_s: for each call made here.
        is_local: whether it is a folder, searched by this process.
    """

    def __init__(
        self, client: AsyncQdrantClient, *, deadline_s: float, is_local: bool = False
    ) -> None:
        self.client = client
        self.is_local = is_local
        self._deadline_s = deadline_s

    @classmethod
    @asynccontextmanager
    async def open_path(cls, path: Path, *, deadline_s: float = 10.0) -> AsyncIterator["Vectors"]:
        """The index in a folder, made if it is not there, closed at the end.

        One process, and one event loop in it, may have it open.

        Raises:
            VectorPathLocked: another one has it open.
        """
        try:
            with translated(f"open the index in {path}"):
                client = AsyncQdrantClient(path=str(path))
        except StorageRefused as error:
            if _LOCKED not in str(error):
                raise
            message = f"Another process has the vector index in {path} open."
            raise VectorPathLocked(message) from error
        try:
            yield cls(client, deadline_s=deadline_s, is_local=True)
        finally:
            await client.close()

    @classmethod
    @asynccontextmanager
    async def open_url(
        cls, url: str, *, api_key: str | None = None, deadline_s: float = 10.0
    ) -> AsyncIterator["Vectors"]:
        """The index on a server, closed at the end. Connects when first used."""
        with translated("open the index"):
            client = AsyncQdrantClient(
                url=url, api_key=api_key, timeout=round(deadline_s), check_compatibility=False
            )
        try:
            yield cls(client, deadline_s=deadline_s)
        finally:
            await client.close()

    async def ping(self) -> None:
        """Returns if the index answers.

        Raises:
            StorageUnavailable: it does not, within the deadline.
        """
        with translated("ping"):
            async with asyncio.timeout(self._deadline_s):
                await self.client.get_collections()

    async def ensure_collection(self, name: str, size: int) -> None:
        """Makes a collection for cosine similarity, unless there is one.

        Args:
            name: collection.
            size: dimensions of a vector.

        Raises:
            VectorMismatch: there is one, for vectors of another size or kind.
        """
        with translated(f"open the collection {name}"):
            async with asyncio.timeout(self._deadline_s):
                if not await self.client.collection_exists(name):
                    await self._create(name, size)
                info = await self.client.get_collection(name)
        vectors = info.config.params.vectors
        if not isinstance(vectors, VectorParams):
            message = f"The collection {name} holds several kinds of vectors."
            raise VectorMismatch(message)
        if (vectors.size, vectors.distance) != (size, Distance.COSINE):
            message = (
                f"The collection {name} holds {vectors.distance.value} vectors of"
                f" {vectors.size} dimensions, not Cosine vectors of {size}."
            )
            raise VectorMismatch(message)

    async def _create(self, name: str, size: int) -> None:
        """Makes the collection; another process that makes it at once is no error."""
        params = VectorParams(size=size, distance=Distance.COSINE)
        try:
            await self.client.create_collection(name, vectors_config=params)
        except UnexpectedResponse as error:
            if error.status_code != _CONFLICT:
                raise
