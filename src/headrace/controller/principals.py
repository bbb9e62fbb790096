"""Who keys belong to, and whom permissions are given to."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from headrace.controller.refusal import Refusal

OwnerKind = Literal["user", "service_principal"]
PrincipalKind = Literal["user", "service_principal", "group"]

NAME = re.compile(r"[!-~\u00a1-\ud7ff\ue000-\U0010ffff]{1,64}")
"""No spaces and nothing that cannot be seen: a name stands in commands and in logs."""


class Principal(NamedTuple):
    """``str`` of it is how the store and the gateways name it."""

    kind: PrincipalKind
    name: str
    """Of a service principal its client id: a name may be given again, an id is not."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.kind.replace('_', ' ')} {self.name!r}"


USERS = Principal("group", "users")
"""Everybody who has a key."""
ADMINS = Principal("group", "admins")
"""Whoever calls with an admin key, or as a service principal with that role."""


def principal_of(text: str) -> Principal:
    """From its ``str``."""
    for kind in ("user", "service_principal", "group"):
        if text.startswith(f"{kind}:"):
            return Principal(kind, text.removeprefix(f"{kind}:"))
    raise ValueError(f"{text!r} is not a principal")


def checked_name(name: str, *, param: str) -> str:
    """The name of a user or of a service principal. Raises Refusal."""
    if not NAME.fullmatch(name):
        raise Refusal(
            "INVALID_PARAMETER_VALUE",
            f"{param} is {name[:80]!r}; expected 1 to 64 characters without spaces, such as a mail address",
            param=param,
        )
    return name
