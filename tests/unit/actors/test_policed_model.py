"""The policy stands before each question to a model."""

from dataclasses import dataclass

import pytest

from actors.model import Completion, ModelRequest
from actors.policed_model import Asker, PolicedModel
from policies.capabilities import Capabilities
from policies.errors import CallDenied, RateExceeded
from tests.asking import asked

BUNDLE = b"""
version: 1
roles:
  coder: {call: {models: [small]}, spend: {requests_per_minute: 2}}
  judge: {call: {models: ["*"]}, spend: {requests_per_minute: unlimited}}
  mute: {call: {models: ["*"]}}
"""
POLICY = Capabilities(BUNDLE)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Answering:
    """A model that says who it is."""

    name: str = "small"
    asked: int = 0
    deadline_s: float = 0.0

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def complete(self, request: ModelRequest) -> Completion:
        self.asked += 1
        self.deadline_s = request.deadline_s
        return Completion(text="{}", prompt_tokens=1, completion_tokens=1, model=self.name)


async def ask(model: PolicedModel, deadline_s: float = 100.0) -> Completion:
    return await model.complete(asked("x", max_tokens=1, deadline_s=deadline_s))


def policed(
    behind: Answering, role: str, model: str = "small", clock: Clock | None = None
) -> PolicedModel:
    clock = clock or Clock()
    asker = Asker(role=role, model=model)
    return PolicedModel(behind, asker, POLICY, monotonic=clock, sleep=clock.sleep)


@pytest.mark.parametrize(
    ("role", "model"), [("coder", "big"), ("mute", "small"), ("stranger", "small")]
)
async def test_a_model_that_the_role_may_not_call_is_not_asked(role: str, model: str) -> None:
    behind = Answering(model)
    with pytest.raises(CallDenied) as denied:
        await ask(policed(behind, role, model))
    assert behind.asked == 0
    assert not denied.value.retryable


@pytest.mark.parametrize(("role", "model"), [("coder", "small"), ("judge", "big")])
async def test_a_model_that_the_role_may_call_answers(role: str, model: str) -> None:
    behind = Answering(model)
    assert (await ask(policed(behind, role, model))).model == model


async def test_an_answer_of_another_model_is_not_taken() -> None:
    with pytest.raises(CallDenied, match="big"):
        await ask(policed(Answering("big"), "coder"))


async def test_who_asks_too_often_waits_and_keeps_its_deadline() -> None:
    behind, clock = Answering(), Clock()
    model = policed(behind, "coder", clock=clock)
    await ask(model)
    clock.now += 10
    await ask(model)
    await ask(model, deadline_s=100)
    assert clock.now == 60.0
    assert behind.deadline_s == 50.0
    with pytest.raises(RateExceeded):
        await ask(model, deadline_s=5)
    assert behind.asked == 3
