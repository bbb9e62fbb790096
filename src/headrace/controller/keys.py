"""Keys: who may call, and who may administer. The store holds digests; a key itself is shown once."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Literal

import msgspec
from sqlalchemy import select, update

from headrace.controller.principals import OwnerKind, Principal
from headrace.controller.tables import KeyRow
from headrace.ledger.database import Database

Role = Literal["admin", "query"]
Tier = Literal["priority", "default", "flex"]
ALL_TIERS: tuple[Tier, ...] = ("priority", "default", "flex")

LEAST_WEIGHT, MOST_WEIGHT = 0.1, 100.0
"""A key gets at most a thousand times the share of another: more would starve it, and a tier says that better."""

ID_BYTES = 4
SECRET_BYTES = 24
"""192 bits from the system's generator: nothing that SHA-256 alone would not protect."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret."""

    id: str
    digest: str
    """Hex SHA-256 of the whole key."""
    role: Role
    tiers: tuple[Tier, ...]
    weight: float = 1.0
    """Its share of a tier, relative to the other keys that wait there."""
    name: str
    principal: str
    """Whose it is: the name of a user, or the client id of a service principal."""
    principal_kind: OwnerKind = "user"
    created_ms: int
    revoked_ms: int | None = None
    expires_ms: int | None = None
    """Of an access token, which is a key for an hour; None for never."""

    @property
    def owner(self) -> Principal:
        return Principal(self.principal_kind, self.principal)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Keys:
    """All keys ever made, held in memory and written through."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.read() as session:
            rows = session.scalars(select(KeyRow).order_by(KeyRow.created_ms, KeyRow.id)).all()
        self._by_id = {row.id: _key(row) for row in rows}

    def all(self) -> list[Key]:
        return list(self._by_id.values())

    def get(self, key_id: str) -> Key | None:
        return self._by_id.get(key_id)

    def valid(self) -> list[Key]:
        """Those that were not revoked."""
        return [key for key in self._by_id.values() if key.revoked_ms is None]

    def knows(self, owner: Principal) -> bool:
        """Whether a key belongs to it, or once did."""
        return any(key.owner == owner for key in self._by_id.values())

    def find(self, text: str) -> Key | None:
        """The key with this text, if it is valid."""
        wanted = digest(text)
        return next((key for key in self.valid() if secrets.compare_digest(key.digest, wanted)), None)

    def create(
        self,
        *,
        role: Role,
        tiers: tuple[Tier, ...],
        name: str,
        now_ms: int,
        weight: float = 1.0,
        owner: Principal | None = None,
    ) -> tuple[Key, str]:
        """A new key and its text, ``hr-<id>.<secret>``, which is kept nowhere. ``owner``: whose it is; by default that
        of a user of its own, named as the key."""
        key, text = self._make(role, tiers, name, now_ms, weight, owner)
        self._add(key)
        return key, text

    def revoke(self, key_id: str, now_ms: int) -> Key:
        """Raises KeyError for an id that never was. Revoking again keeps the first time."""
        key = self._by_id[key_id]
        if key.revoked_ms is None:
            with self._database.write() as session:
                session.execute(update(KeyRow).where(KeyRow.id == key_id).values(revoked_ms=now_ms))
            key = self._by_id[key_id] = msgspec.structs.replace(key, revoked_ms=now_ms)
        return key

    def ensure_admin(self, file: Path, now_ms: int) -> bool:
        """Make the first admin key and write it to ``file``; whether that was done.

        The file is written before the store knows the key: a start that dies in between leaves a file that the next
        start replaces, never a key that nobody has.
        """
        if any(key.role == "admin" for key in self.valid()):
            return False
        key, text = self._make("admin", ALL_TIERS, "first admin key", now_ms)
        _write_private(file, text + "\n")
        self._add(key)
        return True

    def _make(
        self,
        role: Role,
        tiers: tuple[Tier, ...],
        name: str,
        now_ms: int,
        weight: float = 1.0,
        owner: Principal | None = None,
    ) -> tuple[Key, str]:
        key_id = secrets.token_hex(ID_BYTES)
        while key_id in self._by_id:
            key_id = secrets.token_hex(ID_BYTES)
        text = f"hr-{key_id}.{secrets.token_urlsafe(SECRET_BYTES)}"
        key = Key(
            id=key_id,
            digest=digest(text),
            role=role,
            tiers=tiers,
            weight=weight,
            name=name,
            principal=key_id if owner is None else owner.name,
            principal_kind="service_principal" if owner is not None and owner.kind == "service_principal" else "user",
            created_ms=now_ms,
        )
        return key, text

    def _add(self, key: Key) -> None:
        with self._database.write() as session:
            session.add(
                KeyRow(
                    id=key.id,
                    digest=key.digest,
                    role=key.role,
                    tiers=list(key.tiers),
                    weight=key.weight,
                    name=key.name,
                    principal=key.principal,
                    principal_kind=key.principal_kind,
                    created_ms=key.created_ms,
                    revoked_ms=None,
                )
            )
        self._by_id[key.id] = key


def _write_private(file: Path, text: str) -> None:
    """The whole file or none of it, never readable by others."""
    unfinished = file.with_name(file.name + ".new")
    unfinished.unlink(missing_ok=True)
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(unfinished, file)


def _key(row: KeyRow) -> Key:
    return Key(
        id=row.id,
        digest=row.digest,
        role=msgspec.convert(row.role, Role),
        tiers=msgspec.convert(row.tiers, tuple[Tier, ...]),
        weight=row.weight,
        name=row.name,
        principal=row.principal,
        principal_kind=msgspec.convert(row.principal_kind, OwnerKind),
        created_ms=row.created_ms,
        revoked_ms=row.revoked_ms,
    )
