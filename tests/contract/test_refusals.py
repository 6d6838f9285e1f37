"""What is wrong from the start is said when the sink is opened, once and clearly."""

from __future__ import annotations

import pytest

from filerbackup.errors import SinkError, SinkRefused, SinkUnavailable
from tests.contract.messages import said_by
from tests.contract.place import Place
from tests.support.proxy import Proxy, answers, speaks_html


async def test_a_wrong_key_is_refused(place: Place) -> None:
    sink = place.with_wrong_key()
    if sink is None:
        pytest.skip("nobody asks for credentials there")
    with said_by(place, SinkRefused) as said:
        await sink.open()
    assert said.error.hint
    await sink.close()


async def test_a_missing_place_is_refused(place: Place) -> None:
    sink = place.without_bucket()
    if sink is None:
        pytest.skip("there is nothing that could be missing")
    with said_by(place, SinkRefused) as said:
        await sink.open()
    assert said.error.hint or "not a directory" in said.text
    await sink.close()


@pytest.mark.parametrize("status", [200, 404])
async def test_something_else_at_the_endpoint(place: Place, status: int) -> None:
    if not place.endpoint:
        pytest.skip("no HTTP")
    async with Proxy(place.endpoint).running() as proxy:
        proxy.fault = speaks_html(status)
        sink = place.sink(proxy.endpoint)
        with said_by(place, SinkError) as said:
            await sink.open()
        assert "endpoint" in said.text or "proxy" in said.text
        await sink.close()


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_service_that_fails_is_not_one_that_refuses(place: Place, status: int) -> None:
    if not place.endpoint:
        pytest.skip("no HTTP")
    async with Proxy(place.endpoint).running() as proxy:
        proxy.fault = speaks_html(status)
        sink = place.sink(proxy.endpoint)
        with said_by(place, SinkUnavailable):
            await sink.open()
        proxy.fault = None
        await sink.open()
        await sink.close()


async def test_nobody_at_the_endpoint(place: Place) -> None:
    if not place.endpoint:
        pytest.skip("no HTTP")
    sink = place.sink("http://127.0.0.1:1")
    with said_by(place, SinkUnavailable) as said:
        await sink.open()
    assert "127.0.0.1" in said.text
    await sink.close()


async def test_a_place_that_forbids_is_refused(place: Place) -> None:
    if not place.endpoint:
        pytest.skip("no HTTP")
    async with Proxy(place.endpoint).running() as proxy:
        proxy.fault = answers(403)
        sink = place.sink(proxy.endpoint)
        with said_by(place, SinkRefused):
            await sink.open()
        await sink.close()
