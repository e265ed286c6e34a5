"""A workflow whose second step is given a mebibyte by its first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from pydantic import BaseModel

from actors.definition import definition_of
from actors.function_agent import FunctionAgent
from actors.workflow import WorkflowSpec
from bus.event import Draft
from bus.payloads import StepAssigned
from bus.work import WorkQueue
from policies.capabilities import Capabilities, queue_name
from tests.broker import Broker
from tests.swarming import in_background, submission

MiB = 1024 * 1024


class Text(BaseModel):
    text: str


class Count(BaseModel):
    characters: int


class Writer(FunctionAgent):
    """Answers with a mebibyte."""

    role = "writer"

    async def answer(self, assigned: StepAssigned) -> Text:
        return Text(text=f"{assigned.objective} " + "long " * (MiB // 5))


class Counter(FunctionAgent):
    """Counts what it is given."""

    role = "counter"

    async def answer(self, assigned: StepAssigned) -> Count:
        return Count(characters=len(str(assigned.inputs["write"]["text"])))


LARGE = WorkflowSpec(
    name="large", nodes=(Writer.step("write"), Counter.step("count", inputs=("write",)))
)


@asynccontextmanager
async def worker(broker: Broker, agent: type[FunctionAgent]) -> AsyncIterator[None]:
    async with broker.joined(agent.role) as log:
        queue = WorkQueue(log, queue_name(agent.role), lease_s=2.0)
        async with in_background(agent(log).run(queue)):
            yield


POLICY = Capabilities.shipped((Writer.role, Counter.role))


def large_submission(run: str) -> Draft:
    draft = submission(run, workflow=LARGE.name)
    payload = draft.payload.model_copy(update={"definition": definition_of(LARGE)})
    return replace(draft, payload=payload)
