from typing import Any, cast

from actors.model import RaisingModel
from actors.policed_model import Asker
from cluster.members import NamedModel, Roster

NOT_ASKED = cast("Any", None)


def test_an_agent_asks_the_model_of_its_role_by_that_model_s_name() -> None:
    everybody_s, coders = (NamedModel(model=RaisingModel(), name=name) for name in ("m", "larger"))
    roster = Roster(
        domain=NOT_ASKED,
        secret=b"",
        agents={"coder": 2, "judge": 1},
        model=everybody_s,
        role_models={"coder": coders},
        lease_s=1.0,
        authority=NOT_ASKED,
        audit=NOT_ASKED,
        memory=NOT_ASKED,
    )
    assert roster.model_for("coder") is coders
    assert roster.asker("coder") == Asker(role="coder", model="larger", agents=2)
    assert roster.asker("judge") == Asker(role="judge", model="m", agents=1)
