"""The page as files: complete, self-contained, and in step with the API that it polls. Browsers are tried elsewhere."""

from __future__ import annotations

import re
from importlib import resources

import msgspec
import pytest

from headrace.controller.events import Event
from headrace.controller.gateways import Gauges
from headrace.controller.series import Point
from headrace.controller.view import EndpointInfo
from headrace.controller.view_entities import EntityInfo, RatesInfo
from headrace.controller.view_replicas import ReplicaInfo
from headrace.controller.view_status import StatusInfo

STATIC = resources.files("headrace.dashboard") / "static"
FILES = {file.name: file.read_text() for file in STATIC.iterdir() if file.is_file()}
HTML, APP, CHART, STYLE = (FILES[name] for name in ("index.html", "app.js", "chart.js", "style.css"))


def test_every_file_that_is_asked_for_is_there_and_comes_from_this_server() -> None:
    asked = re.findall(r'(?:src|href)="([^"]+)"', HTML) + re.findall(r'from "([^"]+)"', APP + CHART)
    local = [path for path in asked if not path.startswith("data:")]
    assert sorted(local) == ["/static/app.js", "/static/chart.js", "/static/style.css"]
    assert all(path.removeprefix("/static/") in FILES for path in local)


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_is_fetched_from_elsewhere(name: str) -> None:
    urls = set(re.findall(r"https?://[^\s\"')]+", FILES[name])) - {"http://www.w3.org/2000/svg"}
    assert urls == set()
    assert "@import" not in FILES[name]


def test_no_text_from_the_server_can_become_markup() -> None:
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert danger not in APP + CHART


def test_the_key_is_kept_for_the_tab_alone() -> None:
    assert "sessionStorage" in APP
    assert "localStorage" not in APP and "document.cookie" not in APP


def test_every_element_that_the_script_looks_for_exists_once() -> None:
    wanted = set(re.findall(r'\$\("([\w-]+)"\)', APP))
    found = re.findall(r'\bid="([\w-]+)"', HTML)
    assert wanted <= set(found)
    assert len(found) == len(set(found))


def test_inputs_have_labels_and_the_chart_has_words() -> None:
    inputs = re.findall(r'<input id="([\w-]+)"', HTML)
    assert inputs and all(f'<label for="{name}"' in HTML for name in inputs)
    assert HTML.count('role="img"') == 2 and 'id="chart-text"' in HTML and 'id="chunks-text"' in HTML
    assert '<html lang="en">' in HTML


def test_both_schemes_define_the_same_colours() -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)", 1)
    names = set(re.findall(r"(--[\w-]+):", light))
    assert names == set(re.findall(r"(--[\w-]+):", dark.split("}")[0]))
    assert set(re.findall(r"var\((--[\w-]+)\)", STYLE)) <= names


@pytest.mark.parametrize(
    ("variable", "struct"),
    [
        ("endpoint", EndpointInfo),
        ("entity", EntityInfo),
        ("replica", ReplicaInfo),
        ("rates", RatesInfo),
        ("status", StatusInfo),
        ("event", Event),
    ],
)
def test_the_script_reads_only_fields_that_the_api_has(variable: str, struct: type[msgspec.Struct]) -> None:
    read = set(re.findall(rf"\b{variable}\.([a-z]\w*)", APP)) - {"preventDefault", "id"}
    assert read, f"the script no longer reads {variable}"
    assert read <= set(struct.__struct_fields__)


def test_the_chart_and_the_tiles_read_only_fields_that_the_api_has() -> None:
    assert set(re.findall(r'field: "(\w+)"', APP)) <= set(Point.__struct_fields__)
    assert "trailingMeans(points, line.field" in CHART and "point[line.field]" in CHART
    assert set(re.findall(r"\bpoint\.(\w+)", CHART)) <= set(Point.__struct_fields__)
    assert set(re.findall(r"\bgauges\.(\w+)", APP)) <= set(Gauges.__dataclass_fields__)
