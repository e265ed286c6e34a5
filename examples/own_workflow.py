"""A workflow of your own, with two roles of the swarm and one that this file adds.

Start with it:  swarm up --application examples/own_workflow.py
Then:           swarm run "Explain tides to a child" --workflow explain
"""

from actors.application import (
    Application,
    Paragraph,
    Role,
    RoleAnswer,
    Sentence,
    StepSpec,
    WorkflowSpec,
)


class Explanation(RoleAnswer):
    """What the teacher answers; the model is held to these fields."""

    explanation: Paragraph
    question: Sentence


TEACHER = Role(
    name="teacher",
    prompt="You are a teacher. Explain plainly what the research found, then ask a question.",
    answer=Explanation,
)

application = Application(
    agents=(TEACHER,),
    workflows=(
        WorkflowSpec(
            name="explain",
            nodes=(
                StepSpec(name="research", role="researcher"),
                TEACHER.step("lesson", inputs=("research",)),
                StepSpec(name="review", role="critic", inputs=("research", "lesson")),
            ),
        ),
    ),
)
