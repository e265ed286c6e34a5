"""A tool of your own: an agent that asks a model, and may look something up on the way.

A role may use no tool that the policy does not name. Let yours: in a copy of
policies/capabilities.yaml, give the rule `agent` under `call:` the line `tools: [opening_hours]`.

Start with it:  SWARM_POLICY=my_policy.yaml swarm up --application examples/own_tool.py
Then:           swarm run "When can I visit the library on a Monday?" --workflow guided
What it called: swarm events RUN
"""

from pydantic import BaseModel

from actors.application import Application, Role, RoleAnswer, Sentence, WorkflowSpec, tool

HOURS = {"library": "Monday to Friday, 9 to 18", "museum": "Tuesday to Sunday, 10 to 17"}


class Place(BaseModel):
    """What the model asks for."""

    name: str


class Hours(BaseModel):
    """What it is told."""

    open: str


@tool
async def opening_hours(place: Place) -> Hours:
    """Tells when a place is open."""
    return Hours(open=HOURS.get(place.name.lower(), "not known"))


class Advice(RoleAnswer):
    """What the agent answers."""

    advice: Sentence


GUIDE = Role(
    name="guide",
    prompt="You help visitors of a town. Look opening hours up before you answer.",
    answer=Advice,
    tools=(opening_hours,),
)

application = Application(
    agents=(GUIDE,),
    workflows=(WorkflowSpec(name="guided", nodes=(GUIDE.step("advice"),)),),
)
