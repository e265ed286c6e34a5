"""TLS to the gateway: its own certificate and no other, whatever name it was reached by."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from cluster.certificate import check_certificate
from cluster.errors import ConfigurationError
from cluster.settings import Settings
from serve.tls import trusting_only
from swarm.errors import NotReachable
from swarm.http import Call, Credentials, Gateway
from tests.certificates import KeyPair, make_certificate

LIVE = Call(method="GET", path="/health/live")


@asynccontextmanager
async def server(pair: KeyPair) -> AsyncIterator[str]:
    """Answers every request with an empty JSON object."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def gateway(url: str, tls: ssl.SSLContext | None) -> Gateway:
    return Gateway(url, Credentials(token="t"), timeout_s=5.0, tls=tls)


async def test_the_very_certificate_is_trusted_by_any_name(tmp_path: Path) -> None:
    pair = make_certificate(tmp_path)
    async with server(pair) as url:
        client = gateway(url, trusting_only(pair.certificate))
        assert await client.call(LIVE) == b"{}"
        await client.aclose()


async def test_another_certificate_of_the_same_name_is_not(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with server(make_certificate(other)) as url:
        client = gateway(url, trusting_only(make_certificate(tmp_path).certificate))
        with pytest.raises(NotReachable):
            await client.call(LIVE, timeout_s=0.5)
        await client.aclose()


async def test_without_it_only_what_the_system_trusts_is(tmp_path: Path) -> None:
    async with server(make_certificate(tmp_path)) as url:
        client = gateway(url, None)
        with pytest.raises(NotReachable):
            await client.call(LIVE, timeout_s=0.5)
        await client.aclose()


async def test_an_old_version_of_tls_is_refused(tmp_path: Path) -> None:
    pair = make_certificate(tmp_path)
    context = trusting_only(pair.certificate)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    async with server(pair) as url, httpx.AsyncClient(verify=context) as client:
        assert (await client.get(url)).status_code == 200


def test_a_file_without_a_certificate_is_said_to_be_one(tmp_path: Path) -> None:
    pair = make_certificate(tmp_path)
    with pytest.raises(ValueError, match="no certificate"):
        trusting_only(pair.key)


def settings(pair: KeyPair) -> Settings:
    return Settings(gateway_tls_certificate=pair.certificate, gateway_tls_key=pair.key)


def test_a_certificate_and_its_key_can_be_used(tmp_path: Path) -> None:
    check_certificate(settings(make_certificate(tmp_path)))
    check_certificate(Settings())


def test_a_key_that_belongs_to_another_certificate_cannot(tmp_path: Path) -> None:
    one, other = make_certificate(tmp_path, "one"), make_certificate(tmp_path, "other")
    mixed = KeyPair(certificate=one.certificate, key=other.key)
    with pytest.raises(ConfigurationError, match="SWARM_GATEWAY_TLS_KEY"):
        check_certificate(settings(mixed))


@pytest.mark.parametrize("lost", ["certificate", "key"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, lost: str) -> None:
    pair = make_certificate(tmp_path)
    getattr(pair, lost).unlink()
    with pytest.raises(ConfigurationError, match=rf"SWARM_GATEWAY_TLS_{lost.upper()}.*No such"):
        check_certificate(settings(pair))
