"""An agent of your own. It counts words, and needs no model for that.

Start with it:  swarm up --application examples/own_agent.py
Then:           swarm run "Say hello to the world" --workflow counted
"""

from pydantic import BaseModel

from actors.application import Application, FunctionAgent, StepAssigned, WorkflowSpec


class WordCount(BaseModel):
    """What the agent answers."""

    words: int
    longest: str


class WordCounter(FunctionAgent):
    """Counts the words of the objective."""

    role = "counter"

    async def answer(self, assigned: StepAssigned) -> WordCount:
        """Answer one step."""
        words = assigned.objective.split()
        return WordCount(words=len(words), longest=max(words, key=len))


application = Application(
    agents=(WordCounter,),
    workflows=(WorkflowSpec(name="counted", nodes=(WordCounter.step("count"),)),),
)
