"""``databricks-sdk``, unmodified, against a running server: who may do what, how much of it, and service principals
that log in with a client id and a secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clients_programs import Program, Programs, Raised
from clients_server import CHAT, SIMULATED, config
from system_server import Server

ASK = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
FORBIDDEN = "PermissionDenied"

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def sdk(programs: Programs) -> Program:
    return programs("with_databricks_sdk", "tests")


@pytest.fixture(scope="module")
def alice(served: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A user with a query key."""
    made = served.call("POST", "/api/headrace/v1/keys", {"role": "query", "name": "alice's", "user": "alice"})
    variables = {"DATABRICKS_HOST": served.url, "DATABRICKS_TOKEN": made["key"]}
    folder = tmp_path_factory.mktemp("alice")
    with Program("with_databricks_sdk", environment="tests", folder=folder, variables=variables) as program:
        yield program


@pytest.fixture
def owned(sdk: Program) -> Iterator[dict[str, Any]]:
    """An endpoint of the admin, with one chunk."""
    yield sdk("create_and_wait", name="owned", config=config(1, 1))
    sdk("delete", name="owned")


def granted(permissions: dict[str, Any]) -> dict[str, list[str]]:
    """Levels by who has them."""
    return {
        entry.get("user_name") or entry.get("service_principal_name") or entry["group_name"]: [
            one["permission_level"] for one in entry["all_permissions"]
        ]
        for entry in permissions["access_control_list"]
    }


def test_the_levels_are_those_of_databricks(sdk: Program) -> None:
    levels = sdk("get_permission_levels", of=sdk("get", name=CHAT)["id"])["permission_levels"]
    assert [level["permission_level"] for level in levels] == ["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]


def test_everybody_may_query_until_somebody_says_who(sdk: Program, alice: Program, owned: dict[str, Any]) -> None:
    of = owned["id"]
    assert granted(sdk("get_permissions", of=of))["users"] == ["CAN_QUERY"]
    assert alice("query", name="owned", **ASK)["choices"][0]["message"]["content"] == SIMULATED * 2

    sdk("set_permissions", of=of, grants=[])
    assert "users" not in granted(sdk("get_permissions", of=of))
    with pytest.raises(Raised) as refused:
        alice("query", name="owned", **ASK)
    assert FORBIDDEN in refused.value.kinds

    told = sdk("update_permissions", of=of, grants=[{"user_name": "alice", "permission_level": "CAN_QUERY"}])
    assert granted(told)["alice"] == ["CAN_QUERY"]
    assert alice("query", name="owned", **ASK)["served_model_name"] == "llama-1"
    with pytest.raises(Raised) as refused:
        alice("delete", name="owned")
    assert FORBIDDEN in refused.value.kinds


def test_a_rate_limit_of_zero_closes_an_endpoint(sdk: Program, owned: dict[str, Any]) -> None:
    limits = [{"calls": 0, "key": "endpoint", "renewal_period": "minute"}]
    assert sdk("put", name="owned", rate_limits=limits) == {"rate_limits": limits}
    with pytest.raises(Raised, match="rate limit") as closed:
        sdk("query", name="owned", **ASK)
    assert FORBIDDEN in closed.value.kinds
    sdk("put", name="owned", rate_limits=[])
    assert sdk("query", name="owned", **ASK)["choices"]


def test_the_ai_gateway_limits_a_user(sdk: Program, alice: Program, owned: dict[str, Any]) -> None:
    limits = [{"calls": 0, "key": "user", "principal": "alice", "renewal_period": "minute"}]
    told = sdk("put_ai_gateway", name="owned", rate_limits=limits, fallback=False)
    assert told["rate_limits"] == limits
    assert sdk("get", name="owned")["ai_gateway"]["rate_limits"] == limits
    with pytest.raises(Raised, match="rate limit") as closed:
        alice("query", name="owned", **ASK)
    assert FORBIDDEN in closed.value.kinds
    assert sdk("query", name="owned", **ASK)["choices"]


def test_a_service_principal_logs_in_with_id_and_secret(
    sdk: Program, served: Server, owned: dict[str, Any], tmp_path: Path
) -> None:
    made = served.call("POST", "/api/headrace/v1/service-principals", {"name": "robot"})
    variables = {
        "DATABRICKS_HOST": served.url,
        "DATABRICKS_CLIENT_ID": made["client_id"],
        "DATABRICKS_CLIENT_SECRET": made["client_secret"],
    }
    with Program("with_databricks_sdk", environment="tests", folder=tmp_path, variables=variables) as robot:
        assert robot("auth_type") == "oauth-m2m"
        assert robot("query", name="owned", **ASK)["choices"][0]["message"]["content"] == SIMULATED * 2
        sdk("set_permissions", of=owned["id"], grants=[])
        with pytest.raises(Raised) as refused:
            robot("query", name="owned", **ASK)
        assert FORBIDDEN in refused.value.kinds
        grant = {"service_principal_name": made["client_id"], "permission_level": "CAN_QUERY"}
        sdk("update_permissions", of=owned["id"], grants=[grant])
        assert robot("query", name="owned", **ASK)["choices"]
