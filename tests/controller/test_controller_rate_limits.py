"""Rate limits on their way from the REST API to the gateways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from controller_http import Http, served_over_http
from controller_world import World

from headrace.gateway.snapshot import RateLimitView

BASE = "/api/2.0/serving-endpoints"


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    """With the endpoint ``a``."""
    world = World(tmp_path / "data", places=4)
    world.model()
    world.fleet.ready_at_once = True
    world.create("a", 1, 1)
    async with served_over_http(world) as http:
        yield http


def told(http: Http) -> tuple[RateLimitView, ...]:
    (view,) = http.world.snapshot.endpoints
    return view.rate_limits


async def test_a_limit_is_told_to_gateways_before_its_call_answers_and_survives_a_restart(http: Http) -> None:
    limits = [
        {"key": "endpoint", "tokens": 5000, "renewal_period": "minute"},
        {"key": "user", "principal": "ann", "calls": 3, "renewal_period": "minute"},
    ]
    assert (await http.put(f"{BASE}/a/ai-gateway", {"rate_limits": limits}))[0] == 200
    expected = (RateLimitView("endpoint", tokens=5000), RateLimitView("user", "ann", calls=3))
    assert told(http) == expected
    http.world.restart()
    await http.world.step()
    assert told(http) == expected


async def test_a_service_principal_is_limited_by_its_name_or_its_client_id(http: Http) -> None:
    _, made = await http.post("/api/headrace/v1/service-principals", {"name": "job"})
    for named in ("job", made["client_id"]):
        limit = {"key": "service_principal", "principal": named, "calls": 1, "renewal_period": "minute"}
        assert (await http.put(f"{BASE}/a/ai-gateway", {"rate_limits": [limit]}))[0] == 200
        assert told(http) == (RateLimitView("service_principal", made["client_id"], calls=1),)
    assert (await http.put(f"{BASE}/a/rate-limits", {"rate_limits": []}))[0] == 200
    assert told(http) == ()
