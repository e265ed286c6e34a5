"""The scripted engine answers every role's schema, whatever the words of the request."""

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import validate
from pydantic import JsonValue

from actors.roles import TASKS
from serve.scripted import ChatRequest, answer, parse

WORDS = st.lists(
    st.sampled_from(["a", "API", "internationalisation", "specification", "v1.2", "Größe", "x-y"]),
    max_size=12,
).map(" ".join)


@given(words=WORDS, task=st.sampled_from(sorted(TASKS)), seed=st.integers(0, 1000))
def test_every_role_gets_an_answer_of_its_shape(
    words: str, task: tuple[str, str], seed: int
) -> None:
    spec = TASKS[task]
    request: dict[str, JsonValue] = {
        "messages": [{"role": "user", "content": words}],
        "seed": seed,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": spec.schema},
        },
    }
    text = "".join(answer(parse(ChatRequest, request)).pieces)
    validate(spec.read(text), spec.schema)
