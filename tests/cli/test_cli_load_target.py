"""Where the first word of a load leads: an endpoint, or a URL in any of the forms that people have at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_api import ToyApi
from cli_openai import OpenAi

from headrace.bench.target import Target
from headrace.cli.connection import ApiError
from headrace.cli.errors import CommandError, UsageError
from headrace.cli.load_target import find_target
from headrace.policy.work import Weights

WEIGHTS = {"w_in": 0.5, "w_out": 4.0, "w_pp": 0.0, "w_dd": 0.0, "w_c": 0.1}


def entity(**changes: Any) -> dict[str, Any]:
    usual = {"traffic": 100, "chunk": 80.0, "weights": WEIGHTS, "min_chunks": 1, "max_chunks": 3, "chunks_ready": 2}
    return {**usual, "context": 4096, **changes}


def headrace(*entities: dict[str, Any]) -> dict[str, list[Any]]:
    """Answers of a Headrace server that has one endpoint, ``mine``."""
    told = {"simulated": False, "entities": list(entities or (entity(),))}
    return {"/api/headrace/v1/endpoints/mine": [told], "/v1/models": [{"data": [{"id": "mine"}]}]}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HEADRACE_URL", "HEADRACE_API_KEY", "DATABRICKS_HOST", "DATABRICKS_TOKEN", "HEADRACE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def find(word: str, **given: Any) -> Target:
    nothing: dict[str, Any] = {"model": None, "url": None, "key": None, "data_dir": None}
    return find_target(word, **{**nothing, **given})


def test_an_endpoint_by_name_comes_with_its_terms() -> None:
    with ToyApi(headrace()) as api:
        found = find("mine", url=api.url, key="k")
    assert (found.kind, found.url, found.model, found.key, found.path) == ("headrace", api.url, "mine", "k", None)
    terms = found.terms
    assert (terms.chunk, terms.min_chunks, terms.max_chunks, terms.chunks_ready) == (80.0, 1, 3, 2)
    assert (terms.weights, terms.context, terms.simulated) == (Weights(**WEIGHTS), 4096, False)


def test_terms_of_several_served_entities_are_those_of_a_request_on_average() -> None:
    heavy = {name: 3 * weight for name, weight in WEIGHTS.items()}
    idle = entity(traffic=0, chunk=1.0, context=1)
    with ToyApi(headrace(entity(traffic=75), entity(traffic=25, weights=heavy, context=2048), idle)) as api:
        terms = find("mine", url=api.url).terms
    assert terms.weights is not None and terms.weights.w_in == pytest.approx(0.75)
    assert (terms.chunk, terms.min_chunks, terms.context) == (80.0, 2, 2048)
    with ToyApi(headrace(entity(traffic=50), entity(traffic=50, chunk=20.0))) as api:
        assert find("mine", url=api.url).terms.chunk is None


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/completions", "/v1/chat/completions"])
def test_the_url_of_a_server_may_end_anywhere_in_its_api(path: str) -> None:
    with OpenAi(models=("only",)) as server:
        found = find(server.url + path)
    assert (found.kind, found.url, found.model, found.path) == ("openai", server.url, "only", None)
    assert found.terms.weights is None


def test_a_url_of_a_headrace_server_comes_with_the_terms_of_the_endpoint_too() -> None:
    with ToyApi(headrace()) as api:
        found = find(f"{api.url}/v1")
    assert (found.kind, found.model, found.terms.chunk) == ("headrace", "mine", 80.0)


def test_a_path_in_front_of_the_api_is_kept() -> None:
    with OpenAi() as server:
        assert find(f"{server.url}/proxy/v1").url == f"{server.url}/proxy"


def test_of_several_models_one_has_to_be_named() -> None:
    with OpenAi(models=("a", "b")) as server:
        assert find(f"{server.url}/v1", model="b").model == "b"
        with pytest.raises(CommandError, match=r"has 2 models \(a, b\); name one with --model"):
            find(f"{server.url}/v1")
    with OpenAi(models=()) as server, pytest.raises(CommandError, match=r"has 0 models \(none\)"):
        find(f"{server.url}/v1")


def test_a_path_that_leads_nowhere_is_told_with_what_answered_and_what_was_expected() -> None:
    with ToyApi({"/v2/v1/models": [{"data": "none"}]}) as api:
        with pytest.raises(
            CommandError, match=r"/v3/v1/models answered: nothing at /v3/v1/models \(404 .*such as http"
        ):
            find(f"{api.url}/v3")
        with pytest.raises(
            CommandError, match=r"answered with JSON that lists no models; expected the models of an Op"
        ):
            find(f"{api.url}/v2")


def test_what_a_headrace_server_tells_of_itself_goes_into_a_comparison() -> None:
    told = headrace(entity(engine="llamacpp", model="smol", model_version="2", slots=4))
    with ToyApi(told | {"/api/headrace/v1/status": [{"version": "9.9"}]}) as api:
        about = find("mine", url=api.url).terms.about
    assert about == {
        "engine": "llamacpp",
        "model": "smol version 2",
        "slots": "4",
        "chunks ready": "2",
        "headrace": "9.9",
    }


def test_invocations_of_a_headrace_endpoint_go_to_that_path() -> None:
    with ToyApi(headrace()) as api:
        found = find(f"{api.url}/serving-endpoints/mine/invocations")
    assert (found.kind, found.model, found.path) == ("headrace", "mine", "/serving-endpoints/mine/invocations")


def test_an_endpoint_at_databricks_comes_with_its_chunk_and_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapi")
    served = {
        "entity_name": "system.ai.llama",
        "entity_version": "2",
        "min_provisioned_throughput": 9500,
        "max_provisioned_throughput": 19000,
    }
    answers: dict[str, list[Any]] = {
        "/api/2.0/serving-endpoints/mine": [{"config": {"served_entities": [served]}}],
        "/api/2.0/serving-endpoints/get-model-optimization-info/system.ai.llama/2": [{"throughput_chunk_size": 9500}],
    }
    with ToyApi(answers) as api:
        found = find(f"{api.url}/serving-endpoints/mine/invocations")
    assert (found.kind, found.key, found.path) == ("databricks", "dapi", "/serving-endpoints/mine/invocations")
    assert (found.terms.chunk, found.terms.min_chunks, found.terms.max_chunks) == (9500.0, 1, 2)
    assert found.terms.weights is None


def test_an_endpoint_at_databricks_that_tells_no_throughput_can_be_loaded_all_the_same() -> None:
    with ToyApi({"/api/2.0/serving-endpoints/mine": [{"config": {"served_entities": [{}]}}]}) as api:
        found = find(f"{api.url}/serving-endpoints/mine")
    assert found.kind == "databricks" and found.terms.chunk is None


def test_an_endpoint_that_is_not_there_is_told_before_any_load() -> None:
    with ToyApi(headrace()) as api, pytest.raises(ApiError, match="nothing at"):
        find("yours", url=api.url)


def test_a_refused_key_is_told_as_one() -> None:
    with OpenAi(key="right") as server:
        with pytest.raises(CommandError, match=r"refuses the key .*give its key by --api-key or HEADRACE_API_KEY"):
            find(f"{server.url}/v1", key="wrong")
        with pytest.raises(CommandError, match="refuses requests without a key"):
            find(f"{server.url}/v1")
        assert find(f"{server.url}/v1", key="right").key == "right"


def test_a_server_that_is_not_there_is_told_without_advice_on_another() -> None:
    with OpenAi() as server:
        gone = server.url
    with pytest.raises(CommandError, match=r"no load can be put on http://\S+/v1: no server answers at \S+$"):
        find(f"{gone}/v1")


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("ftp://h/v1", "'ftp://h/v1' is not the URL of a server; expected such as http://127"),
        ("http://", "is not the URL of a server"),
        ("http://h:port/v1", r"is not the URL of a server \(Port could not be cast"),
        ("http://h:99999/v1", r"is not the URL of a server \(Port out of range"),
        ("http://h:0/v1", "is not the URL of a server"),
        ("http://h/v1?api-version=1", "has a query or fragment, which no request would carry"),
    ],
)
def test_what_is_no_url_of_a_server_is_told(word: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find(word)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(UsageError, match="a URL with a name or password in it is not taken") as error:
        find("http://me:hunter2@h/v1")
    assert "hunter2" not in str(error.value)


def test_a_url_and_a_name_each_have_options_that_do_not_go_with_them() -> None:
    with pytest.raises(UsageError, match="leave --url out"):
        find("http://h/v1", url="http://g")
    with pytest.raises(UsageError, match="--model goes with a URL; 'mine' is the name of an endpoint"):
        find("mine", model="m", url="http://g")
