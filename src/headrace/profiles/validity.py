"""Whether a profile holds: what must be as it was when it was measured, and what follows where it is not.

- Another engine: the figures are of something else, and the profile is not used at all. The simulated engine is one of
  the engines, so its figures never pass for a model's.
- Other weights, another version of the engine, other settings or other hardware: the profile is provisional.
- A measurement that was not valid: the profile is doubtful.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from headrace.profiles.hardware import differences
from headrace.profiles.profile import Hardware, Profile


class Measurable(Protocol):
    """What a profile asks of a model's settings."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def stem(self) -> str:
        """Of the names of its files: a profile is of one version of a model."""

    @property
    def engine(self) -> str: ...
    @property
    def sha256(self) -> str | None: ...
    @property
    def pace(self) -> Mapping[str, Any]:
        """Settings by name that change what a replica can do."""


def is_of(profile: Profile, model: Measurable) -> bool:
    """Whether the profile says anything of the model as it is run."""
    return profile.engine == model.engine


def mismatches(profile: Profile, model: Measurable, *, here: Hardware, engine_version: str | None) -> list[str]:
    """In words, why the figures of a profile may not hold here. Empty: it is of this machine and this model.

    What is not known of either side, as of a profile of an older version of Headrace, is not compared.
    """
    if not is_of(profile, model):
        return [f"measured with the engine {profile.engine}, which is now {model.engine}"]
    found = []
    if profile.hardware is not None:
        found += [f"measured on other hardware: {difference}" for difference in differences(profile.hardware, here)]
    if None not in (profile.model_sha256, model.sha256):
        if profile.model_sha256 != model.sha256:
            found.append("measured with other weights of the model")
    elif profile.model_version != model.version:
        found.append(f"measured with version {profile.model_version} of the model, which is now {model.version}")
    if None not in (profile.engine_version, engine_version) and profile.engine_version != engine_version:
        found.append(f"measured with version {profile.engine_version} of the engine, which is now {engine_version}")
    return found + _other_settings(profile, model)


def invalid(profile: Profile) -> list[str]:
    """In words, what was wrong with its measurement."""
    return [f"its measurement is not valid: {problem}" for problem in profile.problems]


def doubts(profile: Profile, model: Measurable, *, here: Hardware, engine_version: str | None) -> list[str]:
    """In words, why a profile should be measured again."""
    return mismatches(profile, model, here=here, engine_version=engine_version) + invalid(profile)


def _other_settings(profile: Profile, model: Measurable) -> list[str]:
    if profile.pace is None:
        return []
    before, now = profile.pace, model.pace
    other = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return [_other_setting(name, before.get(name), now.get(name)) for name in other]


def _other_setting(name: str, before: object, now: object) -> str:
    if isinstance(before, dict | list) or isinstance(now, dict | list):
        return f"measured with another {name}"
    return f"measured with {name} {_shown(before)}, which is now {_shown(now)}"


def _shown(value: object) -> str:
    return "as the engine has it" if value is None else str(value)
