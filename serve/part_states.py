"""Whether the model and the memory answer, and who does in their place."""

from contextlib import suppress
from typing import Final

from serve.errors import ModelBusy
from serve.memory_ports import MemoryKeeping
from serve.ports import ChatModel
from serve.resilience import ResilientModel

HELD_UP: Final = "what is written takes no effect for now: the log says what the memory waits for"
BY_WORDS: Final = "the vector index does not follow: searches are by words"


async def model_state(model: ChatModel) -> str | None:
    """Return None if the engine answers, or who does in its place.

    Raises:
        ModelError: nobody does.
    """
    if isinstance(model, ResilientModel) and (instead := model.degraded()):
        return instead
    with suppress(ModelBusy):  # it is there, and has too much to do
        await model.models()
    return None


async def memory_state(memory: MemoryKeeping, *, deadline_s: float) -> str | None:
    """Return None if the memory answers, or what it does without.

    Args:
        memory: the way to its keeper.
        deadline_s: for its answer.

    Raises:
        MemoryUnavailable: it does not answer.
    """
    if not await memory.is_following(deadline_s=deadline_s):
        return HELD_UP
    return None if await memory.is_indexing(deadline_s=deadline_s) else BY_WORDS
