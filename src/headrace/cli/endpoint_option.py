"""What ``endpoints create`` and ``endpoints update`` have in common: what is served, and how the endpoint behaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from headrace.cli.endpoint_config import OneEntity, entities_of
from headrace.cli.entity_option import FORM, EntityWords
from headrace.cli.model_option import ModelVersionOption, name_and_version
from headrace.cli.scaling_option import (
    AutoscalingOption,
    DownWindowOption,
    FastWindowOption,
    HeadroomOption,
    IdleToZeroOption,
    SlowWindowOption,
    WaitTargetOption,
    scaling_options,
)
from headrace.cli.times import time_parser


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedOptions:
    """Which models, in which ranges."""

    model: Annotated[
        str | None,
        typer.Option("--model", help="A registered model: NAME, where it is new its newest version, or NAME/VERSION."),
    ] = None
    model_version: ModelVersionOption = None
    min_chunks: Annotated[int | None, typer.Option("--min-chunks", help="Least capacity, in chunks.")] = None
    max_chunks: Annotated[int | None, typer.Option("--max-chunks", help="Most capacity, in chunks.")] = None
    minimum: Annotated[int | None, typer.Option("--min", help="The same in reference tokens/s, whole chunks.")] = None
    maximum: Annotated[int | None, typer.Option("--max", help="The same in reference tokens/s, whole chunks.")] = None
    scale_to_zero: Annotated[
        bool | None,
        typer.Option(
            "--scale-to-zero/--no-scale-to-zero",
            help="Give the last chunk back when idle; needs a minimum of 0.",
        ),
    ] = None
    units: Annotated[
        int | None, typer.Option("--units", help="In place of a range: a fixed size in Databricks model units.")
    ] = None
    entity: Annotated[
        list[str] | None,
        typer.Option(
            "--entity",
            metavar=FORM,
            help="Instead of --model: a served entity; once for each, in the order in which requests spill and fall "
            "back.",
        ),
    ] = None

    def said(self) -> tuple[OneEntity, list[EntityWords]]:
        """Of the only served entity, or of each ``--entity``. Raises UsageError."""
        version = self.model_version
        model = self.model
        if model is not None:
            model, version = name_and_version(model, version)
        one = OneEntity(
            model=model,
            version=version,
            min_chunks=self.min_chunks,
            max_chunks=self.max_chunks,
            min_tokens_s=self.minimum,
            max_tokens_s=self.maximum,
            scale_to_zero=self.scale_to_zero,
            units=self.units,
        )
        return one, entities_of(self.entity, one)


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourOptions:
    """They hold at once: nothing restarts for them."""

    overload: Annotated[
        str | None,
        typer.Option("--overload", help="queue (default), reject or spill: what happens to requests over max."),
    ] = None
    fallback: Annotated[
        bool | None,
        typer.Option("--fallback/--no-fallback", help="A request that one served entity cannot answer tries the next."),
    ] = None
    queue_deadline: Annotated[
        float | None,
        typer.Option(
            "--queue-deadline",
            metavar="TIME",
            parser=time_parser("--queue-deadline", least=0),
            help="That a request may wait, such as 90s or 2m. Default 30s.",
        ),
    ] = None
    autoscaling: AutoscalingOption = None
    fast_window: FastWindowOption = None
    slow_window: SlowWindowOption = None
    headroom: HeadroomOption = None
    down_window: DownWindowOption = None
    wait_target: WaitTargetOption = None
    idle_to_zero: IdleToZeroOption = None

    def told(self) -> dict[str, Any]:
        """What was said, as the REST API takes it. Raises UsageError."""
        own = {"overload": self.overload, "fallback": self.fallback, "queue_deadline_s": self.queue_deadline}
        scaling = scaling_options(
            self.autoscaling,
            fast_window=self.fast_window,
            slow_window=self.slow_window,
            headroom=self.headroom,
            down_window=self.down_window,
            wait_target=self.wait_target,
            idle_to_zero=self.idle_to_zero,
        )
        return {key: value for key, value in own.items() if value is not None} | scaling
