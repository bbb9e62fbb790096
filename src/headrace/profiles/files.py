"""Profiles as files: one JSON document each, measured ones in the data directory, shipped ones in the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec

from headrace.profiles.hardware import differences
from headrace.profiles.profile import Hardware, Profile
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


def find(model: str, measured: Path) -> Profile | None:
    """The profile of a model: the one in the folder ``measured``, else the shipped one, else None.

    Raises ProfileError where the file is there and is not a profile of that model: to fall back on figures from
    elsewhere would change what a range means without a word.
    """
    path = measured / f"{model}.json"
    if path.exists():
        profile = load(path)
        if profile.model != model:
            raise ProfileError(f"{path} is a profile of {profile.model}, not of {model}; remove it and measure again")
        return profile
    return shipped(model)


def shipped(model: str) -> Profile | None:
    """The provisional profile of a model that comes with the package, or None."""
    file = resources.files("headrace.profiles") / "shipped" / f"{model}.json"
    return _decode(file.read_bytes(), f"shipped profile {model}") if file.is_file() else None


def mismatches(profile: Profile, *, here: Hardware, sha256: str | None, engine_version: str | None) -> list[str]:
    """In words, why the figures of a profile may not hold here: other hardware (foreign), weights or engine (stale).

    Empty: it is of this machine and this model. What is None on either side is not compared.
    """
    found = []
    if profile.hardware is not None:
        found += [f"measured on other hardware: {difference}" for difference in differences(profile.hardware, here)]
    if None not in (profile.model_sha256, sha256) and profile.model_sha256 != sha256:
        found.append("measured with other weights of the model")
    if None not in (profile.engine_version, engine_version) and profile.engine_version != engine_version:
        found.append(f"measured with version {profile.engine_version} of the engine, which is now {engine_version}")
    return found


INVALID = "its measurement is not valid: {}"


def doubts(profile: Profile, *, here: Hardware, sha256: str | None, engine_version: str | None) -> list[str]:
    """In words, why a profile should be measured again: ``mismatches``, and what was wrong with its measurement."""
    measurement = [INVALID.format(problem) for problem in profile.problems]
    return mismatches(profile, here=here, sha256=sha256, engine_version=engine_version) + measurement


def _decode(document: bytes, name: str) -> Profile:
    try:
        return msgspec.json.decode(document, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{name} is not a profile ({error}); remove it and measure again") from None
