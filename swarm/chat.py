"""The model's answers in the form of OpenAI's chat completions, read into our own."""

from collections.abc import AsyncGenerator

import httpx
from pydantic import BaseModel, ConfigDict

from swarm.answer import parse
from swarm.errors import GatewayFailed
from swarm.frames import FrameReader
from swarm.view import Reply, Usage

_DONE = "[DONE]"


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Text(_Read):
    content: str | None = None


class _Choice(_Read):
    message: _Text = _Text()
    finish_reason: str | None = None


class _Completion(_Read):
    model: str = ""
    choices: tuple[_Choice, ...]
    usage: Usage | None = None
    system_fingerprint: str | None = None


class _Piece(_Read):
    delta: _Text = _Text()


class _Failure(_Read):
    message: str = ""


class _Chunk(_Read):
    choices: tuple[_Piece, ...] = ()
    error: _Failure | None = None


def reply_of(document: bytes) -> Reply:
    """The answer in a chat completion.

    Raises:
        GatewayFailed: it is none, or an empty one.
    """
    completion = parse(_Completion, document)
    if not completion.choices:
        raise GatewayFailed("The model gave no answer.")
    choice = completion.choices[0]
    return Reply(
        text=choice.message.content or "",
        model=completion.model,
        finish_reason=choice.finish_reason,
        usage=completion.usage or Usage(),
        fingerprint=completion.system_fingerprint or "",
    )


async def texts_of(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The text of a streamed answer, piece by piece.

    Raises:
        GatewayFailed: the model failed on the way, or the stream ended before the answer did.
    """
    reader = FrameReader()
    async for chunk in response.aiter_bytes():
        for frame in reader.feed(chunk):
            if frame.data == _DONE:
                return
            piece = parse(_Chunk, frame.data)
            if piece.error is not None:
                raise GatewayFailed(f"The model broke off: {piece.error.message}")
            text = "".join(choice.delta.content or "" for choice in piece.choices)
            if text:
                yield text
    raise GatewayFailed("The answer broke off before its end.")
