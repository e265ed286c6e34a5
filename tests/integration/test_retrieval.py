# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""How well the memory finds what answers a question: a small labelled set, the real encoder."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from actors.memory_search import LEAST_COSINE, MemorySearch
from serve.embedder import load_encoder
from serve.encoder import Encoder
from serve.profile import load_profile
from serve.weights import ensure_weights
from storage.memory_item import Scope
from storage.postgres import Pool
from storage.vector_index import Point, VectorIndex
from storage.vectors import Vectors
from tests.integration.storage.conftest import (  # noqa: F401 - fixtures
    PostgresServer,
    dsn,
    pool,
    postgres,
    template,
)
from tests.integration.storage.remembering import TENANT, Remembering

pytestmark = pytest.mark.timeout(120)
PROFILE = load_profile("all-minilm-l6-v2")
SET = yaml.safe_load(Path(__file__).with_name("retrieval.yaml").read_text())
SHARED = Scope(tenant=TENANT, namespaces=("shared",))
AT = 5


@dataclass
class NearEncoder:
    """The encoder without Serve; implements Embedder."""

    encoder: Encoder

    async def embed(
        self,
        texts: Sequence[str],
        *,
        deadline_s: float,  # noqa: ARG002 - the port has it
    ) -> list[tuple[float, ...]]:
        encoded = await asyncio.to_thread(self.encoder.encode, texts)
        return [tuple(vector) for vector, _ in encoded]


@pytest.fixture
async def search(pool: Pool, tmp_path: Path) -> AsyncIterator[tuple[Remembering, MemorySearch]]:
    encoder = load_encoder(PROFILE, await ensure_weights(PROFILE, Path("/nowhere")))
    embedder, memory = NearEncoder(encoder), Remembering(pool)
    await memory.apply(*(memory.written(name, text) for name, text in SET["texts"].items()))
    async with Vectors.open_path(tmp_path / "vectors") as vectors:
        index = VectorIndex(vectors, "retrieval", encoder.dimensions)
        await index.open()
        made = await embedder.embed(list(SET["texts"].values()), deadline_s=60)
        await index.put(
            [
                Point(tenant=TENANT, namespace="shared/notes", item=name, version=1, vector=vector)
                for name, vector in zip(SET["texts"], made, strict=True)
            ]
        )
        yield memory, MemorySearch(reader=memory.reader, index=index, embedder=embedder, dense_s=30)


def recall_of(found: Callable[[str], Sequence[str]]) -> float:
    """The share of what answers a question that is among the first `AT`, over all questions."""
    shares = [
        len(set(answers) & set(found(question)[:AT])) / len(answers)
        for question, answers in SET["questions"]
    ]
    return sum(shares) / len(shares)


async def test_both_halves_together_find_at_least_what_either_finds(
    search: tuple[Remembering, MemorySearch], capsys: pytest.CaptureFixture[str]
) -> None:
    memory, both = search
    words: dict[str, list[str]] = {}
    meaning: dict[str, list[str]] = {}
    hybrid: dict[str, list[str]] = {}
    for question, _ in SET["questions"]:
        by_words = await memory.reader.search(SHARED, question, now=memory.now, limit=AT)
        [vector] = await both.embedder.embed([question], deadline_s=30)
        near = await both.index.nearest(vector, SHARED, least=LEAST_COSINE, limit=AT)
        findings = await both.find(
            question, SHARED, now=memory.now, limit=AT, may_see=lambda _: True
        )
        assert findings.recall == "hybrid"
        words[question] = [item for _, item in by_words]
        meaning[question] = [item for _, item in near]
        hybrid[question] = [found.item.item for found in findings.found]
    scores = [recall_of(found.__getitem__) for found in (words, meaning, hybrid)]
    with capsys.disabled():
        print(  # noqa: T201 - it is to be seen
            "\nrecall@{}: words {:.3f}, meaning {:.3f}, hybrid {:.3f}".format(AT, *scores)
        )
    assert scores[2] >= max(scores[:2])
    assert scores[2] > min(scores[:2])
