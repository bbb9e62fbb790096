"""The models of one server: one JSON file for each version of each. A model of the catalogue that was pulled needs
none: it is the first version of its name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from headrace.engines.base import FIRST_VERSION, EngineError, ModelSettings, file_stem
from headrace.engines.catalogue import engine_for
from headrace.models.catalogue import CATALOGUE
from headrace.models.pull import sha256

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")
MOST_SLOTS = 256
MOST_THREADS = 1024
MOST_GPUS = 64
MOST_UNITS = 1_000_000
DEFAULT_CONTEXT = 4096
DEFAULT_MAX_TOKENS = 1024


class RegistryError(Exception):
    """A model cannot be registered, found or read; the message says what was wrong and what to do."""


class VersionError(RegistryError):
    """The model is there, but not in this version, or it was not said in which one."""


class Registry:
    """Registered models in a folder (``DataDir.models``)."""

    def __init__(self, folder: Path, *, cache: Path | None = None) -> None:
        self.folder = folder
        self.cache = cache

    def add(
        self,
        name: str,
        *,
        gguf: Path | None = None,
        engine: str | None = None,
        weights: str | None = None,
        url: str | None = None,
        more_urls: Sequence[str] = (),
        simulated: bool = False,
        version: str | None = None,
        api_key_env: str | None = None,
        upstream_model: str | None = None,
        context: int = DEFAULT_CONTEXT,
        slots: int = 1,
        threads: int = 1,
        gpus: int | None = None,
        program: str | None = None,
        default_max_tokens: int | None = None,
        units_per_chunk: int | None = None,
        engine_args: dict[str, Any] | None = None,
        replace: bool = False,
    ) -> ModelSettings:
        """Register a GGUF file, an engine's weights, a server that already runs, or the simulated engine; exactly one.

        ``version`` None: the first one of a new name, or the only one of a name that is there, which takes ``replace``.
        ``engine`` and ``weights`` belong together, for engines that are programs, such as vllm; so do ``gpus`` (None:
        one) and ``program``, where that is not on the search path. A URL may end in ``/v1``, as clients of OpenAI's API
        write it. ``default_max_tokens`` None: 1024, or half of a context that is too small for that. Raises
        RegistryError.
        """
        given = {"llamacpp": gguf, engine: weights, "openai": url, "simulated": simulated or None}
        engines = [engine for engine, what in given.items() if what is not None]
        if len(engines) != 1 or engines[0] is None:
            raise RegistryError(
                f"model {name!r}: give exactly one of a GGUF file, an engine with its weights, a URL, or the simulated "
                "engine"
            )
        engine = engines[0]
        if weights is None and (gpus or program is not None):
            raise RegistryError(
                f"model {name!r}: GPUs and a program are settings of engines such as vLLM and SGLang, not of {engine}"
            )
        model = ModelSettings(
            name=name,
            version=self._only_version(name) or FIRST_VERSION if version is None else version,
            engine=engine,
            path=None if gguf is None else str(gguf.expanduser().resolve()),
            weights=weights,
            program=program,
            url=None if url is None else base_url(url),
            more_urls=tuple(map(base_url, more_urls)),
            api_key_env=api_key_env,
            upstream_model=upstream_model,
            context=context,
            slots=slots,
            threads=threads,
            gpus=int(weights is not None) if gpus is None else gpus,
            default_max_tokens=min(DEFAULT_MAX_TOKENS, context // 2)
            if default_max_tokens is None
            else default_max_tokens,
            units_per_chunk=units_per_chunk,
            engine_args=engine_args or {},
        )
        return self.put(model, replace=replace)

    def put(self, model: ModelSettings, *, replace: bool = False) -> ModelSettings:
        """Check and store settings; returns them with the weights' SHA-256. Raises RegistryError."""
        path = self._path(model.name, model.version)
        check_settings(model)
        if model.path is not None and not Path(model.path).is_file():
            raise RegistryError(f"model {model.name!r}: there is no file {model.path}")
        if path.exists() and not replace:
            free = int(self.versions(model.name)[-1]) + 1
            raise RegistryError(
                f"version {model.version} of model {model.name!r} is registered already; `headrace models add ... "
                f"--model-version {free}` puts another version beside it, --replace the new settings in its place"
            )
        try:
            engine_for(model.engine).check(model)
            if model.path is not None and model.sha256 is None:
                model = msgspec.structs.replace(model, sha256=sha256(Path(model.path)))
        except EngineError as error:
            raise RegistryError(f"model {model.name!r}: {error}") from None
        self._write(path, model)
        return model

    def versions(self, name: str) -> tuple[str, ...]:
        """Of a model, the oldest first; none of one that is not there. Raises RegistryError."""
        found = set(self._registered(name))
        if self._pulled(name) is not None:
            found.add(FIRST_VERSION)
        return tuple(sorted(found, key=int))

    def get(self, name: str, version: str | None = None) -> ModelSettings:
        """Settings of a registered model, or the defaults of one that was pulled. ``version`` None: the newest. Raises
        RegistryError."""
        versions = self.versions(name)
        if not versions:
            raise self._unknown(name)
        chosen = versions[-1] if version is None else version
        if chosen not in versions:
            raise VersionError(f"model {name!r} has {_told(versions)}, not {chosen[:40]}")
        path = self._path(name, chosen)
        model = self._read(path) if path.exists() else self._pulled(name)
        if model is None:
            raise self._unknown(name)
        return model

    def spec(self, model: ModelSettings) -> str:
        """As a command has to name it: with its version, where that is not the newest. Raises RegistryError."""
        versions = self.versions(model.name)
        return model.name if versions and versions[-1] == model.version else model.spec

    def list(self) -> tuple[ModelSettings, ...]:
        """All models that can be used, by name and version. Raises RegistryError for a file that cannot be read."""
        found = {path.stem: self._read(path) for path in self.folder.glob("*.json")}
        for name in CATALOGUE:
            model = None if name in found else self._pulled(name)
            if model is not None:
                found[name] = model
        return tuple(sorted(found.values(), key=lambda model: (model.name, int(model.version))))

    def remove(self, name: str, version: str | None = None) -> str:
        """Forget a version of a model, by default its only one; its weights stay where they are. Returns the version.
        Raises RegistryError."""
        chosen = version or self._only_version(name) or FIRST_VERSION
        try:
            self._path(name, chosen).unlink()
        except FileNotFoundError:
            pulled = self._pulled(name) if chosen == FIRST_VERSION else None
            if pulled is not None:
                raise RegistryError(
                    f"model {name!r} is one of the catalogue, not registered here; its file is {pulled.path}: delete "
                    "it to be rid of the model"
                ) from None
            if versions := self.versions(name):
                raise VersionError(f"model {name!r} has {_told(versions)}, not {chosen}") from None
            if name in CATALOGUE:
                raise RegistryError(f"model {name!r} is one of the catalogue and was not fetched yet") from None
            raise RegistryError(f"no model {name!r} is registered; `headrace models list` shows them") from None
        return chosen

    def _registered(self, name: str) -> tuple[str, ...]:
        """Versions that have a file, the oldest first. Raises RegistryError for what is no name."""
        found = {FIRST_VERSION} if self._path(name, FIRST_VERSION).exists() else set[str]()
        later = {path.stem.removeprefix(f"{name}@") for path in self.folder.glob(f"{name}@*.json")}
        found.update(filter(VERSION.fullmatch, later))
        return tuple(sorted(found, key=int))

    def _only_version(self, name: str) -> str | None:
        """The one that is registered; None for none. Raises VersionError where there are several."""
        registered = self._registered(name)
        if len(registered) > 1:
            raise VersionError(
                f"model {name!r} has {_told(registered)}: say which is meant, such as --model-version {registered[-1]}"
            )
        return registered[0] if registered else None

    def _pulled(self, name: str) -> ModelSettings | None:
        entry = CATALOGUE.get(name)
        if entry is None:
            return None
        for variant in (entry.converted, entry.shipped):
            if entry.is_pulled(variant, self.cache):
                path = entry.path(variant, self.cache)
                return ModelSettings(name=name, engine="llamacpp", path=str(path), sha256=variant.sha256)
        return None

    def _unknown(self, name: str) -> RegistryError:
        if name in CATALOGUE:
            return RegistryError(f"model {name!r} is not on this machine yet; run `headrace models pull {name}`")
        known = ", ".join(dict.fromkeys(model.name for model in self.list())) or "none"
        return RegistryError(f"no model {name!r}; registered: {known}; `headrace models add` registers one")

    def _path(self, name: str, version: str) -> Path:
        if not NAME.fullmatch(name):
            raise RegistryError(
                f"{name!r} is not a model name; expected 1 to 63 letters, digits, '-', '_' or '.', not starting with "
                "one of the last three"
            )
        if not VERSION.fullmatch(version):
            raise RegistryError(
                f"model {name!r}: version is {version[:40]!r}; expected a whole number from 1, such as 2"
            )
        return self.folder / f"{file_stem(name, version)}.json"

    def _read(self, path: Path) -> ModelSettings:
        try:
            model = msgspec.json.decode(path.read_bytes(), type=ModelSettings)
        except OSError as error:
            raise RegistryError(f"cannot read {path}: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RegistryError(
                f"{path} is not a model's settings ({error}); remove it and add the model again"
            ) from None
        if model.stem != path.stem or not VERSION.fullmatch(model.version):
            raise RegistryError(
                f"{path} describes model {model.name!r}, version {model.version}; rename it, or add the model again"
            )
        return model

    def _write(self, path: Path, model: ModelSettings) -> None:
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=2) + b"\n")
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise RegistryError(f"cannot write {path}: {error.strerror}") from None


def _told(versions: Sequence[str]) -> str:
    """``version 1``, ``versions 1, 2 and 5``."""
    *others, last = versions
    return f"versions {', '.join(others)} and {last}" if others else f"version {last}"


def base_url(url: str) -> str:
    """Without the ``/v1`` that clients of OpenAI's API write behind it."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def check_settings(model: ModelSettings) -> None:
    """Refuse settings that no engine could run. Raises RegistryError."""
    for setting, value, most in (
        ("context", model.context, 1 << 24),
        ("slots", model.slots, MOST_SLOTS),
        ("threads", model.threads, MOST_THREADS),
    ):
        if not 1 <= value <= most:
            raise RegistryError(f"model {model.name!r}: {setting} is {value}; expected 1 to {most:,}")
    if model.units_per_chunk is not None and not 1 <= model.units_per_chunk <= MOST_UNITS:
        raise RegistryError(
            f"model {model.name!r}: units_per_chunk is {model.units_per_chunk}; expected 1 to {MOST_UNITS:,}"
        )
    if not 0 <= model.gpus <= MOST_GPUS:
        raise RegistryError(f"model {model.name!r}: gpus is {model.gpus}; expected 0 to {MOST_GPUS}")
    if model.context < 2:
        raise RegistryError(f"model {model.name!r}: context is {model.context}; a prompt and an answer need 2 tokens")
    if not 1 <= model.default_max_tokens < model.context:
        raise RegistryError(
            f"model {model.name!r}: default max_tokens is {model.default_max_tokens}; expected 1 to "
            f"{model.context - 1:,}, less than the context"
        )
