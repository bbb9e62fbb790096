"""Profiles as files: one JSON document each, measured ones in the data directory, shipped ones in the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec

from headrace.profiles.profile import Profile
from headrace.profiles.validity import Measurable, is_of
from headrace.profiles.whole_file import write


class ProfileError(Exception):
    """A profile file cannot be used; the message names it and says what to do."""


def load(path: Path) -> Profile:
    """Read a profile. Raises ProfileError where it is missing, unreadable or not a profile."""
    try:
        return _decode(path.read_bytes(), str(path))
    except OSError as error:
        raise ProfileError(f"cannot read the profile {path}: {error.strerror}") from None


def save(path: Path, profile: Profile) -> None:
    """Write a profile whole or not at all: readers see the old file or the new one. Raises ProfileError."""
    document = msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n"
    try:
        write(path, document, durable=True)
    except OSError as error:
        raise ProfileError(f"cannot write the profile {path}: {error.strerror}") from None


def path_of(model: Measurable, measured: Path) -> Path:
    """Where the profile of this version of a model is in the folder ``measured``, if there is one."""
    return measured / f"{model.stem}.json"


def find(model: Measurable, measured: Path) -> Profile | None:
    """The profile of a model as it is run: the one in the folder ``measured``, else the shipped one, else None.

    One of another engine or of another version of the model is none. Raises ProfileError where the file is there and is
    not a profile of that model: to fall back on figures from elsewhere would change what a range means without a word.
    """
    path = path_of(model, measured)
    found = [load(path)] if path.exists() else []
    if found and (found[0].model, found[0].model_version) != (model.name, model.version):
        raise ProfileError(
            f"{path} is a profile of {found[0].model}, version {found[0].model_version}, not of {model.name}, version "
            f"{model.version}; remove it and measure again"
        )
    provisional = shipped(model.name)
    if provisional is not None and provisional.model_version == model.version:
        found.append(provisional)
    return next((profile for profile in found if is_of(profile, model)), None)


def of_another_engine(model: Measurable, measured: Path) -> str | None:
    """The engine that a model was measured with in the folder ``measured``, where it runs by another one now. Raises
    ProfileError."""
    path = path_of(model, measured)
    profile = load(path) if path.exists() else None
    return None if profile is None or is_of(profile, model) else profile.engine


def shipped(model: str) -> Profile | None:
    """The provisional profile of a model that comes with the package, or None."""
    file = resources.files("headrace.profiles") / "shipped" / f"{model}.json"
    return _decode(file.read_bytes(), f"shipped profile {model}") if file.is_file() else None


def _decode(document: bytes, name: str) -> Profile:
    try:
        return msgspec.json.decode(document, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{name} is not a profile ({error}); remove it and measure again") from None
