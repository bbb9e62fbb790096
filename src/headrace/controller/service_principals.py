"""Callers that are programs: each has a client id and a client secret, and asks for access tokens with these.

The store holds digests; a secret or a token itself is shown once. A token is a key for an hour: it survives a restart
of the controller, ends by itself, and ends at once with its service principal.
"""

from __future__ import annotations

import secrets
import uuid

import msgspec
from sqlalchemy import delete, select, update

from headrace.controller.keys import Key, Role, Tier, digest
from headrace.controller.principals import Principal
from headrace.controller.refusal import Refusal
from headrace.controller.tables import ServicePrincipalRow, TokenRow
from headrace.ledger.database import Database

TOKEN_LIFE_S = 3600
TOLD_FOR_S = 3600
"""After its end: who still sends a token is told that it has expired, and not that there is none."""
MOST_TOKENS = 32
"""Of one service principal that hold at a time: gateways carry them all."""
SECRET_BYTES = 32
NOBODY = digest("")
"""What the secret of an unknown client id is compared with, so that it takes as long to refuse."""


class ServicePrincipal(msgspec.Struct, frozen=True, kw_only=True):
    """Without its secret. Its tokens have its role, tiers and weight; see ``keys.Key``."""

    id: str
    """The client id."""
    name: str
    digest: str
    """Hex SHA-256 of the client secret."""
    role: Role
    tiers: tuple[Tier, ...]
    weight: float
    created_ms: int
    deleted_ms: int | None = None

    @property
    def principal(self) -> Principal:
        return Principal("service_principal", self.id)


class Token(msgspec.Struct, frozen=True, kw_only=True):
    digest: str
    service_principal_id: str
    created_ms: int
    expires_ms: int


class ServicePrincipals:
    """All of them, with the tokens that have not expired or have lately, held in memory and written through."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.read() as session:
            rows = session.scalars(select(ServicePrincipalRow).order_by(ServicePrincipalRow.created_ms)).all()
            tokens = session.scalars(select(TokenRow).order_by(TokenRow.created_ms)).all()
        self._by_id = {row.id: _service_principal(row) for row in rows}
        self._tokens = {row.digest: _token(row) for row in tokens}

    def alive(self) -> list[ServicePrincipal]:
        return [one for one in self._by_id.values() if one.deleted_ms is None]

    def get(self, client_id: str) -> ServicePrincipal | None:
        """Also one that was deleted."""
        return self._by_id.get(client_id)

    def find(self, text: str) -> ServicePrincipal | None:
        """One that is alive, by its client id or its name."""
        return next((one for one in self.alive() if text in (one.id, one.name)), None)

    def create(
        self, *, name: str, role: Role, tiers: tuple[Tier, ...], weight: float, now_ms: int
    ) -> tuple[ServicePrincipal, str]:
        """A new one and its client secret, which is kept nowhere. Raises Refusal where the name is taken."""
        if self.find(name) is not None:
            raise Refusal("RESOURCE_ALREADY_EXISTS", f"service principal {name!r} already exists", param="name")
        secret = _new_secret()
        made = ServicePrincipal(
            id=str(uuid.uuid4()),
            name=name,
            digest=digest(secret),
            role=role,
            tiers=tiers,
            weight=weight,
            created_ms=now_ms,
        )
        with self._database.write() as session:
            session.add(ServicePrincipalRow(**msgspec.structs.asdict(made) | {"tiers": list(tiers)}))
        self._by_id[made.id] = made
        return made, secret

    def renew_secret(self, client_id: str, *, end_tokens: bool) -> tuple[ServicePrincipal, str]:
        """Another client secret; the one before is refused from now on. Tokens that it was changed for hold until they
        expire, or end with it. Raises KeyError for an id that never was."""
        secret = _new_secret()
        renewed = msgspec.structs.replace(self._by_id[client_id], digest=digest(secret))
        with self._database.write() as session:
            session.execute(
                update(ServicePrincipalRow).where(ServicePrincipalRow.id == client_id).values(digest=renewed.digest)
            )
            if end_tokens:
                session.execute(delete(TokenRow).where(TokenRow.service_principal_id == client_id))
        self._by_id[client_id] = renewed
        if end_tokens:
            self._forget_tokens(client_id)
        return renewed, secret

    def delete(self, client_id: str, now_ms: int) -> ServicePrincipal:
        """Its tokens end with it. Raises KeyError for an id that never was."""
        deleted = msgspec.structs.replace(self._by_id[client_id], deleted_ms=now_ms)
        with self._database.write() as session:
            session.execute(delete(TokenRow).where(TokenRow.service_principal_id == client_id))
            session.execute(
                update(ServicePrincipalRow).where(ServicePrincipalRow.id == client_id).values(deleted_ms=now_ms)
            )
        self._by_id[client_id] = deleted
        self._forget_tokens(client_id)
        return deleted

    def authenticate(self, client_id: str, client_secret: str) -> ServicePrincipal | None:
        """The one with this id and secret, if it is alive."""
        found = self._by_id.get(client_id)
        known = found is not None and found.deleted_ms is None
        wanted = found.digest if found is not None and known else NOBODY
        same = secrets.compare_digest(wanted, digest(client_secret))
        return found if same and known else None

    def issue(self, client_id: str, now_ms: int) -> str:
        """A new access token of one that is alive. Where it has too many, its oldest ends."""
        text = f"hrt-{secrets.token_urlsafe(SECRET_BYTES)}"
        token = Token(
            digest=digest(text),
            service_principal_id=client_id,
            created_ms=now_ms,
            expires_ms=now_ms + TOKEN_LIFE_S * 1000,
        )
        held = [one for one in self._live(now_ms) if one.service_principal_id == client_id]
        ended = [one.digest for one in held[: max(0, len(held) + 1 - MOST_TOKENS)]]
        ended += [one.digest for one in self._tokens.values() if one.expires_ms + TOLD_FOR_S * 1000 <= now_ms]
        with self._database.write() as session:
            session.execute(delete(TokenRow).where(TokenRow.digest.in_(ended)))
            session.add(TokenRow(**msgspec.structs.asdict(token)))
        for gone in ended:
            del self._tokens[gone]
        self._tokens[token.digest] = token
        return text

    def key_of(self, text: str, now_ms: int) -> Key | None:
        """What an access token lets its bearer do, until it expires."""
        token = self._tokens.get(digest(text))
        return None if token is None or token.expires_ms <= now_ms else self._key(token)

    def expired_ms(self, text: str, now_ms: int) -> int | None:
        """When an access token expired, if that was not long ago; None for any other text."""
        token = self._tokens.get(digest(text))
        return None if token is None or token.expires_ms > now_ms else token.expires_ms

    def keys(self, now_ms: int) -> list[Key]:
        """Of all tokens that hold now, and of those of which a gateway is to say that they have expired."""
        return [self._key(token) for token in self._tokens.values() if token.expires_ms + TOLD_FOR_S * 1000 > now_ms]

    def _forget_tokens(self, client_id: str) -> None:
        self._tokens = {key: token for key, token in self._tokens.items() if token.service_principal_id != client_id}

    def _live(self, now_ms: int) -> list[Token]:
        """Oldest first."""
        return [token for token in self._tokens.values() if token.expires_ms > now_ms]

    def _key(self, token: Token) -> Key:
        owner = self._by_id[token.service_principal_id]
        return Key(
            id=owner.id,
            digest=token.digest,
            role=owner.role,
            tiers=owner.tiers,
            weight=owner.weight,
            name=owner.name,
            principal=owner.id,
            principal_kind="service_principal",
            created_ms=token.created_ms,
            expires_ms=token.expires_ms,
        )


def _new_secret() -> str:
    return f"hrs-{secrets.token_urlsafe(SECRET_BYTES)}"


def _service_principal(row: ServicePrincipalRow) -> ServicePrincipal:
    return ServicePrincipal(
        id=row.id,
        name=row.name,
        digest=row.digest,
        role=msgspec.convert(row.role, Role),
        tiers=msgspec.convert(row.tiers, tuple[Tier, ...]),
        weight=row.weight,
        created_ms=row.created_ms,
        deleted_ms=row.deleted_ms,
    )


def _token(row: TokenRow) -> Token:
    return Token(
        digest=row.digest,
        service_principal_id=row.service_principal_id,
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
    )
