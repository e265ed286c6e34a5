"""What whoever asks the memory is told of what its actor raised."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from ray.exceptions import RayTaskError
from structlog.testing import capture_logs

from actors.errors import MemoryUnavailable, QuestionRefused
from actors.memory_question import SignedQuestion
from actors.ray_memory import RayMemory

QUESTION = SignedQuestion(body=b"{}", public_key="UA", signature=b"")


@dataclass
class Raising:
    """A method of an actor whose calls end in an error, as Ray hands it over."""

    cause: Exception

    async def remote(self, _: SignedQuestion) -> None:
        raise RayTaskError("answer", "the traceback", self.cause).as_instanceof_cause()


def memory(cause: Exception) -> RayMemory:
    found = RayMemory()
    found._actor = SimpleNamespace(answer=Raising(cause))  # type: ignore[assignment]
    return found


async def test_a_fault_of_the_memory_is_logged_and_is_no_fault_of_who_asks() -> None:
    with (
        capture_logs() as logs,
        pytest.raises(MemoryUnavailable, match="IndexError"),
    ):
        await memory(IndexError("out of bounds")).answer(QUESTION, deadline_s=10)
    [line] = logs
    assert (line["event"], line["log_level"], line["error"]) == (
        "memory.failed",
        "error",
        "IndexError",
    )


async def test_what_the_memory_refuses_is_told_as_it_is() -> None:
    with pytest.raises(QuestionRefused, match="not yours"):
        await memory(QuestionRefused("not yours")).answer(QUESTION, deadline_s=10)
