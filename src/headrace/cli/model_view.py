"""How registered models look: a row for each version, or one of them with all that is known of it here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli.output import console, counted, print_table
from headrace.cli.profile_view import doubts_of, print_profile, profile_label

if TYPE_CHECKING:
    from headrace.engines.base import ModelSettings
    from headrace.profiles.profile import Profile


def print_models(models: Sequence[ModelSettings], waiting: Sequence[str], profiles: Path) -> None:
    """``waiting``: names of the catalogue that were not fetched yet."""
    chunks = [_chunk(model, profiles) for model in models]
    several = Counter(model.name for model in models)
    specs = [model.spec if several[model.name] > 1 else model.name for model in models]
    rows = [
        [
            spec,
            model.engine,
            model.context,
            model.slots,
            model.threads,
            model.default_max_tokens,
            chunk,
            _where(model),
        ]
        for spec, model, (chunk, _) in zip(specs, models, chunks, strict=True)
    ]
    rows += [[name, *[""] * 6, f"not fetched: headrace models pull {name}"] for name in waiting]
    print_table(
        ["model", "engine", ">context", ">slots", ">threads", ">max_tokens", "chunk (profile)", "where"],
        rows,
    )
    for spec, (_, doubts) in zip(specs, chunks, strict=True):
        for doubt in doubts:
            console().print(f"the profile of {spec}: {doubt}; `headrace profile {spec}`", markup=False)


def print_model(model: ModelSettings, versions: Sequence[str], profiles: Path) -> None:
    """``versions``: all that its name has, the oldest first."""
    from headrace.profiles import starts  # noqa: PLC0415
    from headrace.profiles.files import find, of_another_engine  # noqa: PLC0415

    profile, started, out = find(model, profiles), starts.load(profiles, model), console()
    spec = model.spec if len(versions) > 1 else model.name
    out.print(
        f"{spec}: engine {model.engine}, {counted(model.slots, 'slot')} of {model.context:,} tokens, "
        f"{counted(model.threads, 'thread')}, {_where(model)}",
        markup=False,
    )
    if model.upstream_model:
        out.print(f"the server calls it {model.upstream_model}", markup=False)
    if model.api_key_env:
        out.print(f"the server's key is in the environment variable {model.api_key_env}", markup=False)
    if len(versions) > 1:
        out.print(f"versions: {', '.join(versions)}", markup=False)
    if started is not None:
        out.print(
            f"last started in {started.seconds[-1]:.2f} s; median of the last {len(started.seconds)} starts here: "
            f"{started.median_s:.2f} s",
            markup=False,
        )
    if profile is None:
        other = of_another_engine(model, profiles)
        by = "" if other is None else f" with the engine {model.engine}, only with {other}"
        out.print(f"never measured here{by}: headrace profile {spec}", markup=False)
        return
    print_profile(profile)
    for doubt in doubts_here(profile, model):
        out.print(f"[yellow]The profile may not hold here: {doubt}. Measure again: headrace profile {spec}[/yellow]")


def doubts_here(profile: Profile | None, model: ModelSettings) -> list[str]:
    """In words, why the figures of a profile may not hold with the engine that is installed."""
    from headrace.engines.versions import installed_version  # noqa: PLC0415

    return doubts_of(profile, model, installed_version(model.engine))


def _chunk(model: ModelSettings, profiles: Path) -> tuple[str, list[str]]:
    """With the profile's status, and why that may not hold here."""
    from headrace.profiles.files import ProfileError, find, of_another_engine  # noqa: PLC0415

    try:
        profile, other = find(model, profiles), of_another_engine(model, profiles)
    except ProfileError as error:
        return "unreadable", [str(error)]
    if profile is None:
        return "never measured", [] if other is None else [f"measured with the engine {other}, not with {model.engine}"]
    doubts = doubts_here(profile, model)
    label = profile_label(profile.status, simulated=profile.simulated)
    return f"{profile.chunk:,} ({label}{', doubtful' if doubts else ''})", doubts


def _where(model: ModelSettings) -> str:
    if model.path is not None:
        return model.path if Path(model.path).is_file() else f"{model.path} (the file is not there)"
    return model.weights or " ".join(model.urls) or "nowhere: simulated"
