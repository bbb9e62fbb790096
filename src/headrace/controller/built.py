"""What was done to bring a served entity's model up, in words. Headrace builds no container images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from headrace.controller.endpoint import Entity
from headrace.controller.lifecycle import Replica
from headrace.controller.words import counted
from headrace.engines.base import ModelSettings
from headrace.models.catalogue import CATALOGUE
from headrace.profiles.profile import Profile


def built(entity: Entity, profile: Profile | None, replicas: Sequence[Replica]) -> Iterator[str]:
    """``profile``: by which it was sold, where that is still at hand. ``replicas``: those that run it."""
    model = entity.model
    yield f"model {model.name}, version {model.version}: engine {model.engine}, no image is built for it"
    yield from _weights(model)
    yield (
        f"settings: context {model.context} tokens a slot, {counted(model.slots, 'slot')}, "
        f"{counted(model.threads, 'thread')}"
    )
    yield f"sold by profile {entity.profile_id} ({entity.profile_status}): a chunk is {entity.chunk} reference tokens/s"
    if profile is not None:
        yield _measured(profile)
    for replica in replicas:
        took = f"loaded and warmed in {replica.load_s:.1f} s" if replica.load_s is not None else replica.phase.value
        yield f"replica {replica.id}: {took}"


def _weights(model: ModelSettings) -> Iterator[str]:
    if model.path is not None:
        yield f"weights: {Path(model.path).name}, SHA-256 {model.sha256 or 'unknown'}"
    if model.weights is not None:
        yield f"weights: {Path(model.weights).name if model.weights.startswith('/') else model.weights}, by the engine"
    for url in model.urls:
        yield f"a server that already runs at {url}: nothing was loaded here"
    entry = CATALOGUE.get(model.name)
    if entry is not None and model.sha256 in (entry.shipped.sha256, entry.converted.sha256):
        yield f"fetched: {entry.package} {entry.package_version} from the package index, file {entry.member}"
        if model.sha256 == entry.converted.sha256:
            yield f"converted on this machine: {entry.shipped.name} to {entry.converted.name}"


def _measured(profile: Profile) -> str:
    if profile.measured_at is None:
        return f"not measured on this machine: {profile.method}"
    start = f", start of a replica {profile.start_s:.1f} s" if profile.start_s is not None else ""
    return f"measured at {profile.measured_at} in {profile.duration_s:.0f} s{start}: {profile.method}"
