import json

from serve.completion import (
    Answer,
    Shown,
    chunk_documents,
    completion_document,
    error_document,
)

ANSWER = Answer(
    id="chatcmpl-1", model="m", pieces=("Hello ", "there"), prompt_tokens=4, fingerprint="e/1/"
)


def test_an_error_document_has_openais_three_fields() -> None:
    assert json.loads(error_document("no", 404)) == {
        "error": {"message": "no", "type": "not_found_error", "code": 404}
    }
    assert json.loads(error_document("no", 500))["error"]["type"] == "server_error"


def test_a_completion_document_has_what_a_client_reads() -> None:
    document = json.loads(completion_document(ANSWER, created=7))
    assert document == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "system_fingerprint": "e/1/",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
    }


def test_chunks_give_the_role_the_pieces_and_the_end_in_this_order() -> None:
    chunks = [json.loads(one) for one in chunk_documents(ANSWER, created=7, usage=Shown())]
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Hello "},
        {"content": "there"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1
