"""The models of one server: one JSON file a model. A model of the catalogue that was pulled needs no file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from headrace.engines.base import EngineError, ModelSettings
from headrace.engines.catalogue import engine_for
from headrace.models.catalogue import CATALOGUE
from headrace.models.pull import sha256

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
MOST_SLOTS = 256
MOST_THREADS = 1024
MOST_GPUS = 64
MOST_UNITS = 1_000_000
DEFAULT_CONTEXT = 4096
DEFAULT_MAX_TOKENS = 1024


class RegistryError(Exception):
    """A model cannot be registered, found or read; the message says what was wrong and what to do."""


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
        version: str = "1",
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
            version=version,
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
        check_settings(model)
        path = self._path(model.name)
        if model.path is not None and not Path(model.path).is_file():
            raise RegistryError(f"model {model.name!r}: there is no file {model.path}")
        if path.exists() and not replace:
            raise RegistryError(
                f"model {model.name!r} is registered already; `headrace models add ... --replace` puts the new "
                "settings in place of the old"
            )
        try:
            engine_for(model.engine).check(model)
            if model.path is not None and model.sha256 is None:
                model = msgspec.structs.replace(model, sha256=sha256(Path(model.path)))
        except EngineError as error:
            raise RegistryError(f"model {model.name!r}: {error}") from None
        self._write(path, model)
        return model

    def get(self, name: str) -> ModelSettings:
        """Settings of a registered model, or the defaults of one that was pulled. Raises RegistryError."""
        path = self._path(name)
        if path.exists():
            return self._read(path)
        model = self._pulled(name)
        if model is not None:
            return model
        if name in CATALOGUE:
            raise RegistryError(f"model {name!r} is not on this machine yet; run `headrace models pull {name}`")
        known = ", ".join(model.name for model in self.list()) or "none"
        raise RegistryError(f"no model {name!r}; registered: {known}; `headrace models add` registers one")

    def list(self) -> tuple[ModelSettings, ...]:
        """All models that can be used, by name. Raises RegistryError for a file that cannot be read."""
        found = {path.stem: self._read(path) for path in self.folder.glob("*.json")}
        for name in CATALOGUE:
            model = None if name in found else self._pulled(name)
            if model is not None:
                found[name] = model
        return tuple(found[name] for name in sorted(found))

    def remove(self, name: str) -> None:
        """Forget a model; its weights stay where they are. Raises RegistryError."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            pulled = self._pulled(name)
            if pulled is not None:
                raise RegistryError(
                    f"model {name!r} is one of the catalogue, not registered here; its file is {pulled.path}: delete "
                    "it to be rid of the model"
                ) from None
            if name in CATALOGUE:
                raise RegistryError(f"model {name!r} is one of the catalogue and was not fetched yet") from None
            raise RegistryError(f"no model {name!r} is registered; `headrace models list` shows them") from None

    def _pulled(self, name: str) -> ModelSettings | None:
        entry = CATALOGUE.get(name)
        if entry is None:
            return None
        for variant in (entry.converted, entry.shipped):
            if entry.is_pulled(variant, self.cache):
                path = entry.path(variant, self.cache)
                return ModelSettings(name=name, engine="llamacpp", path=str(path), sha256=variant.sha256)
        return None

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise RegistryError(
                f"{name!r} is not a model name; expected 1 to 63 letters, digits, '-', '_' or '.', not starting with "
                "one of the last three"
            )
        return self.folder / f"{name}.json"

    def _read(self, path: Path) -> ModelSettings:
        try:
            model = msgspec.json.decode(path.read_bytes(), type=ModelSettings)
        except OSError as error:
            raise RegistryError(f"cannot read {path}: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RegistryError(
                f"{path} is not a model's settings ({error}); remove it and add the model again"
            ) from None
        if model.name != path.stem:
            raise RegistryError(f"{path} describes model {model.name!r}; rename it, or add the model again")
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
