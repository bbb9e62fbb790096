"""Fixtures that tests of several packages share."""

from __future__ import annotations

from pathlib import Path

import pytest

import headrace
from headrace.engines.base import ModelSettings
from headrace.models.pull import pull
from headrace.models.registry import Registry
from headrace.paths import DataDir

MODEL = "smollm2-135m-instruct"


def pytest_configure() -> None:
    """Refuse to test compiled modules that are not what their sources say."""
    for module in Path(headrace.__file__).parent.rglob("*.so"):
        source = module.with_name(module.name.partition(".")[0] + ".py")
        if source.exists() and source.stat().st_mtime > module.stat().st_mtime:
            pytest.exit(f"{module} is older than its source: run 'make compile' or 'make pure'", returncode=3)


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    """An empty data directory of a server."""
    data = DataDir(tmp_path / "headrace-data")
    data.create()
    return data


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    """Settings of the real model, as after ``headrace models pull``; it is fetched where the cache does not have it."""
    pull(MODEL)
    return Registry(tmp_path_factory.mktemp("registry")).get(MODEL)
