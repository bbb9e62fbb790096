"""What monitoring reads over HTTP, by the parsers that it is read with."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller_http import Http
from controller_world import CHUNK, ToyGateway, empty_tick
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from test_controller_answers import ended

from headrace.controller.endpoint import Endpoint
from headrace.controller.metrics import reading
from headrace.controller.metrics.process_use import ProcessorUse, Use, read_groups
from headrace.gateway.snapshot import AnswersTick, EntityTick, Tick

DEPLOY = Path(__file__).parents[2] / "deploy"
Labels = dict[str, str]


class Gateway(ToyGateway):
    """Reports what a test wants it to have counted."""

    def counted(self, endpoint: Endpoint, answers: AnswersTick | None = None, **counters: Any) -> None:
        entity_id = endpoint.current.entities[0].id
        values = {name: getattr(empty_tick(endpoint.id, entity_id), name) for name in EntityTick.__struct_fields__}
        tick = Tick(
            gateway=self.name,
            at_ms=self.world.clock.ms,
            version=self.version,
            entities=(EntityTick(**(values | counters)),),
            answers=() if answers is None else (answers,),
        )
        self.world.controller.gateways.tick(self.name, tick, self.world.clock.now())


@pytest.fixture
async def endpoint(http: Http) -> Endpoint:
    http.world.create("shop", 1, 3)
    await http.world.step()
    await http.world.step()
    return http.world.get("shop")


def gateway(http: Http, name: str = "g1") -> Gateway:
    """One that has reported before anything was counted."""
    found = Gateway(http.world, name)
    http.world.controller.gateways.tick(name, Tick(gateway=name, at_ms=0, version=0), http.world.clock.now())
    return found


async def scrape(http: Http, path: str = "/metrics", **headers: str) -> str:
    answer = await http.client.get(http.url + path, headers={"Authorization": f"Bearer {http.key}", **headers})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


def samples(text: str) -> dict[str, list[tuple[Labels, float]]]:
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


async def value(http: Http, name: str, **labels: str) -> float:
    """Of the one sample of this name that has these labels."""
    found = [
        number
        for given, number in samples(await scrape(http)).get(name, [])
        if all(given.get(label) == wanted for label, wanted in labels.items())
    ]
    assert len(found) == 1, (name, found)
    return found[0]


async def test_every_metric_has_a_help_text_a_type_and_a_unit_of_its_own(http: Http, endpoint: Endpoint) -> None:
    families = list(text_string_to_metric_families(await scrape(http)))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.documentation and family.type != "unknown", family.name
        assert family.name.startswith(("headrace_", "gen_ai_server_")), family.name
        if "token" in family.name and family.type != "histogram":
            assert re.search("[Rr]eference tokens|Input tokens|Output tokens", family.documentation), family.name


async def test_the_range_and_what_runs_of_it(http: Http, endpoint: Endpoint) -> None:
    labels = {"endpoint": "shop", "entity": endpoint.current.entities[0].name}
    for name, expected in {
        "headrace_chunks_desired": 1,
        "headrace_chunks_ready": 1,
        "headrace_chunks_pending": 0,
        "headrace_chunks_draining": 0,
        "headrace_chunks_billed": 1,
        "headrace_chunk_size_reference_tokens_per_second": CHUNK,
        "headrace_range_min_reference_tokens_per_second": CHUNK,
        "headrace_range_max_reference_tokens_per_second": 3 * CHUNK,
        "headrace_replica_slots": 1,
    }.items():
        assert await value(http, name, **labels) == expected, name
    assert await value(http, "headrace_entity_info", **labels, model="toy", engine="simulated") == 1


async def test_what_gateways_count(http: Http, endpoint: Endpoint) -> None:
    counted = {
        "arrivals": 9,
        "offered_work": 90.5,
        "dispatched": 7,
        "dispatched_work": 70.5,
        "rejected": 2,
        "rejected_work": 20.0,
        "served_work": 60.25,
        "input_tokens": 1000,
        "output_tokens": 200,
        "completed": 5,
        "abandoned": 1,
        "failed": 1,
    }
    gauges = {"queued": 3, "queued_work": 30.0, "oldest_wait_s": 1.5, "in_flight": 2, "in_flight_work": 8.0}
    gateway(http).counted(endpoint, **counted, **gauges, limiter_debt=4.0)
    for name, expected in {
        "headrace_offered_requests_total": 9,
        "headrace_offered_work_reference_tokens_total": 90.5,
        "headrace_dispatched_requests_total": 7,
        "headrace_dispatched_work_reference_tokens_total": 70.5,
        "headrace_rejected_requests_total": 2,
        "headrace_rejected_work_reference_tokens_total": 20.0,
        "headrace_served_work_reference_tokens_total": 60.25,
        "headrace_input_tokens_total": 1000,
        "headrace_output_tokens_total": 200,
        "headrace_completed_requests_total": 5,
        "headrace_abandoned_requests_total": 1,
        "headrace_failed_requests_total": 1,
        "headrace_queued_requests": 3,
        "headrace_queued_work_reference_tokens": 30.0,
        "headrace_oldest_wait_seconds": 1.5,
        "headrace_in_flight_requests": 2,
        "headrace_in_flight_work_reference_tokens": 8.0,
        "headrace_limiter_debt_reference_tokens": 4.0,
    }.items():
        assert await value(http, name, endpoint="shop") == expected, name


async def test_histograms_are_cumulative_and_carry_the_attributes_of_the_conventions(
    http: Http, endpoint: Endpoint
) -> None:
    gateway(http).counted(endpoint, ended(5, entity=endpoint.current.entities[0].id))
    found = samples(await scrape(http))
    name = "gen_ai_server_time_to_first_token_seconds"
    counts = [number for _, number in found[f"{name}_bucket"]]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 5)
    labels, total = found[f"{name}_count"][0]
    assert total == 5
    assert found[f"{name}_sum"][0][1] == pytest.approx(0.5)
    assert labels == {
        "endpoint": "shop",
        "entity": endpoint.current.entities[0].name,
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "headrace",
        "gen_ai_request_model": "shop",
        "gen_ai_response_model": "toy",
    }
    assert found["headrace_requests_total"][0][1] == 5


async def test_counters_go_on_when_the_gateway_starts_again(http: Http, endpoint: Endpoint) -> None:
    entity = endpoint.current.entities[0].id
    first = gateway(http)
    first.counted(endpoint, ended(5, entity=entity), output_tokens=50)
    http.world.controller.gateways.gone("g1", http.world.clock.now())
    gateway(http, "g2").counted(endpoint, ended(2, entity=entity), output_tokens=20)
    assert await value(http, "headrace_output_tokens_total") == 70
    assert await value(http, "headrace_requests_total", code="200") == 7
    assert await value(http, "gen_ai_server_request_duration_seconds_count") == 7


async def test_demand_that_is_corrected_downwards_does_not_look_like_a_restart(http: Http, endpoint: Endpoint) -> None:
    one = gateway(http)
    seen = []
    for offered in (100.0, 80.0, 95.0, 130.0):
        one.counted(endpoint, offered_work=offered)
        seen.append(await value(http, "headrace_offered_work_reference_tokens_total"))
    assert seen == [100.0, 100.0, 100.0, 130.0]


async def test_what_is_beyond_the_caps_is_counted(
    http: Http, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    http.world.clock.ms += 1000
    http.world.create("later", 1, 1)
    await http.world.step()
    await http.world.step()
    monkeypatch.setattr(reading, "MOST_ENTITIES", 1)
    monkeypatch.setattr(reading, "MOST_REPLICAS", 1)
    assert await value(http, "headrace_metrics_dropped", kind="entity") == 1
    assert await value(http, "headrace_metrics_dropped", kind="replica") == 1
    assert await value(http, "headrace_endpoints") == 2
    assert await value(http, "headrace_chunks_ready") == 1  # of the older endpoint alone


async def test_an_endpoint_that_was_deleted_is_told_of_no_more(http: Http, endpoint: Endpoint) -> None:
    await scrape(http)
    assert (await http.delete("/api/2.0/serving-endpoints/shop"))[0] == 200
    await http.world.step()
    assert "shop" not in await scrape(http)


async def test_openmetrics_where_it_is_accepted(http: Http, endpoint: Endpoint) -> None:
    gateway(http).counted(endpoint, ended(5, entity=endpoint.current.entities[0].id))
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    headers = {"Authorization": f"Bearer {http.key}", "Accept": accept}
    answer = await http.client.get(http.url + "/metrics", headers=headers)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = list(openmetrics_parser.text_string_to_metric_families(answer.text))
    assert {family.name for family in families} >= {"headrace_requests", "gen_ai_server_request_duration_seconds"}


@pytest.mark.parametrize("path", ["/metrics", "/api/2.0/serving-endpoints/shop/metrics"])
async def test_metrics_ask_for_a_key(http: Http, endpoint: Endpoint, path: str) -> None:
    assert (await http.call("GET", path, key=""))[0] == 401


async def test_the_export_of_one_endpoint_by_the_names_of_databricks(http: Http, endpoint: Endpoint) -> None:
    entity = endpoint.current.entities[0]
    one = gateway(http)
    answers = ended(6, entity=entity.id)
    one.counted(endpoint, AnswersTick(answers.endpoint, entity.id, {200: 6, 429: 3, 503: 2, 499: 1}, answers.latency))
    found = samples(await scrape(http, "/api/2.0/serving-endpoints/shop/metrics", Accept="text/plain"))
    labels = {"endpoint_name": "shop", "served_entity_name": entity.name}
    assert found["provisioned_concurrent_requests_total"] == [(labels, 1)]
    assert found["request_count_total"] == [(labels, 12)]
    assert found["request_4xx_count_total"] == [(labels, 4)]
    assert found["request_5xx_count_total"] == [(labels, 2)]
    assert found["request_latency_ms_sum"] == [({**labels, "operation": "chat"}, pytest.approx(600))]
    bounds = {given["le"]: number for given, number in found["request_latency_ms_bucket"]}
    assert (bounds["20.0"], bounds["40.0"], bounds["+Inf"]) == (6, 6, 6)
    assert {"model_prediction_latency_ms_count", "model_queue_time_ms_count"} <= found.keys()
    assert "cpu_usage_percentage" not in found  # a toy has no process
    http.world.clock.ms += 61_000
    found = samples(await scrape(http, "/api/2.0/serving-endpoints/shop/metrics"))
    assert found["request_count_total"] == [(labels, 0)]
    assert found["request_latency_ms_count"][0][1] == 6


async def test_an_unknown_endpoint_has_no_export(http: Http) -> None:
    status, answer = await http.get("/api/2.0/serving-endpoints/none/metrics")
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


async def test_the_sdk_of_databricks_reads_the_export(http: Http, endpoint: Endpoint) -> None:
    from databricks.sdk import WorkspaceClient  # noqa: PLC0415  (takes a second)

    def read() -> str:
        client = WorkspaceClient(host=http.url, token=http.key, auth_type="pat")
        contents = client.serving_endpoints.export_metrics("shop").contents
        assert contents is not None
        return contents.read().decode()

    assert "provisioned_concurrent_requests_total" in samples(await asyncio.to_thread(read))


async def test_use_of_a_process_group_is_that_of_all_its_processes(tmp_path: Path) -> None:
    for pid, group, ticks in ((10, 10, 300), (11, 10, 100), (12, 12, 5000)):
        (tmp_path / str(pid)).mkdir()
        fields = ["S", "1", str(group), *["0"] * 8, str(ticks), "0", *["0"] * 8, "25"]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a (strange) name) {' '.join(fields)}")
    use = read_groups([10, 99], tmp_path)
    assert use.keys() == {10}
    assert use[10].cpu_s == pytest.approx(4.0)
    assert use[10].resident_bytes == 2 * 25 * 4096


def test_processor_use_is_a_mean_of_the_last_minute() -> None:
    use = ProcessorUse()
    assert use.cores({7: Use(100.0, 0)}, 0.0) == {}
    assert use.cores({7: Use(105.0, 0)}, 10.0) == {7: 0.5}
    assert use.cores({7: Use(165.0, 0)}, 70.0) == {7: 1.0}
    assert use.cores({}, 80.0) == {}
    assert use.cores({7: Use(1.0, 0)}, 90.0) == {}  # another process by the same number


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\b(?:headrace|gen_ai)_[a-z0-9_]+", text))


async def names_served(http: Http, endpoint: Endpoint) -> set[str]:
    gateway(http).counted(endpoint, ended(1, entity=endpoint.current.entities[0].id))
    return set(samples(await scrape(http)))


async def test_every_query_of_the_dashboard_is_of_a_metric_that_exists(http: Http, endpoint: Endpoint) -> None:
    dashboard = json.loads((DEPLOY / "grafana/headrace.json").read_text())
    asked = names_in("\n".join(expressions(dashboard)))
    assert len(asked) > 20
    assert asked - await names_served(http, endpoint) == set()


async def test_every_alert_is_of_a_metric_that_exists(http: Http, endpoint: Endpoint) -> None:
    lines = (DEPLOY / "prometheus/headrace-alerts.yml").read_text().splitlines()
    asked = {name for line in lines if "expr" in line or "sum by" in line for name in names_in(line)}
    assert len(asked) > 5
    assert asked - await names_served(http, endpoint) == set()


def test_the_dashboard_can_be_imported() -> None:
    """What Grafana's import asks for: a title, a schema, panels that have numbers and places of their own."""
    dashboard = json.loads((DEPLOY / "grafana/headrace.json").read_text())
    assert dashboard["title"] and dashboard["uid"] and dashboard["schemaVersion"] >= 36
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24 and not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["refId"] and target["datasource"]["uid"] == "${datasource}"
