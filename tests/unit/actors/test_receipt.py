"""The receipt of a model's answer, and the digests of what was said."""

import hashlib
import json

import pytest

from actors.model import Completion, Engine, Message, ModelRequest
from actors.receipt import (
    answer_digest,
    digests_of,
    prompt_digest,
    receipt_of,
    schema_digest,
)

WEIGHTS = "cd" * 32
QUESTION = ModelRequest(
    messages=[Message(role="system", content="Be brief."), Message(role="user", content="Grüße")],
    schema={"type": "object", "properties": {"b": {}, "a": {}}},
    max_tokens=9,
    temperature=0.2,
    seed=7,
    deadline_s=1.0,
)
ENGINE = Engine(name="vllm", version="0.29.0", weights=WEIGHTS)
ANSWER = Completion(text='{"b": 1}', prompt_tokens=3, completion_tokens=2, model="m", engine=ENGINE)


def test_a_prompt_has_the_digest_that_the_documentation_describes() -> None:
    fields = [b"vllm-swarm/prompt/v1", b"system", b"Be brief.", b"user", "Grüße".encode()]
    said = str(len(fields)).encode()
    for field in fields:
        said += b" " + str(len(field)).encode() + b" " + field
    assert prompt_digest(QUESTION.messages) == hashlib.sha256(said).hexdigest()


def test_a_boundary_between_messages_cannot_be_moved() -> None:
    one = [Message(role="user", content="ab"), Message(role="user", content="c")]
    two = [Message(role="user", content="a"), Message(role="user", content="bc")]
    assert prompt_digest(one) != prompt_digest(two)


def test_an_answer_has_the_digest_of_its_text() -> None:
    assert answer_digest("Grüße") == hashlib.sha256("Grüße".encode()).hexdigest()
    assert answer_digest("half a pair \ud800")


def test_the_order_of_a_schema_counts() -> None:
    text = json.dumps(QUESTION.schema, separators=(",", ":"))
    assert schema_digest(QUESTION.schema) == hashlib.sha256(text.encode()).hexdigest()
    assert schema_digest({"a": 1, "b": 2}) != schema_digest({"b": 2, "a": 1})
    assert schema_digest(None) == ""


def test_a_receipt_says_who_answered_and_how_it_was_asked() -> None:
    receipt = receipt_of(QUESTION, ANSWER)
    assert (receipt.engine, receipt.version, receipt.weights) == ("vllm", "0.29.0", WEIGHTS)
    assert (receipt.temperature, receipt.seed, receipt.max_tokens) == (0.2, 7, 9)
    assert receipt.answer_schema == schema_digest(QUESTION.schema)
    assert receipt.provider == ""
    digests = digests_of(QUESTION, ANSWER)
    assert digests.prompt == prompt_digest(QUESTION.messages)
    assert digests.answer == answer_digest(ANSWER.text)


def test_nothing_that_was_said_stands_in_the_receipt() -> None:
    text = receipt_of(QUESTION, ANSWER).model_dump_json()
    assert digests_of(QUESTION, ANSWER).prompt not in text
    assert digests_of(QUESTION, ANSWER).answer not in text


@pytest.mark.parametrize("length", [64, 500])
def test_a_long_name_does_not_keep_an_answer_from_the_log(length: int) -> None:
    engine = Engine(name="e" * length, version="v" * length)
    answer = Completion(
        text="", prompt_tokens=0, completion_tokens=0, model="m", engine=engine, provider="p" * 99
    )
    receipt = receipt_of(QUESTION, answer)
    assert (len(receipt.engine), len(receipt.version), len(receipt.provider)) == (64, 64, 64)
