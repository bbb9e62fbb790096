"""What a command says of a model that has no chunk."""

from __future__ import annotations

import pytest
from cli_api import ToyApi

from headrace.cli.connection import Connection
from headrace.cli.endpoint_body import API, _chunk
from headrace.cli.errors import CommandError


def test_a_model_without_a_profile_says_what_to_run_once() -> None:
    told = {"optimizable": False, "message": "never measured; run `headrace profile toy` first"}
    with ToyApi({f"{API}/get-model-optimization-info/toy/1": [told]}) as api, pytest.raises(CommandError) as refused:
        _chunk(Connection(api.url, None), "toy", "1")
    assert str(refused.value) == "'toy' cannot be sold in chunks: never measured; run `headrace profile toy` first"
