"""Tables of the controller's store. Times are Unix milliseconds; money is integer micro-units."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, MetaData, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from headrace.ledger.schema import NAMING, Row


class StoreBase(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012


class EndpointRow(StoreBase):
    """Deleted endpoints stay, as usage and bills name them; names are unique among the others."""

    __tablename__ = "endpoints"
    __table_args__ = (
        Index(
            "ix_endpoints_name_alive",
            "name",
            unique=True,
            sqlite_where=text("deleted_ms IS NULL"),
            postgresql_where=text("deleted_ms IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    created_ms: Mapped[int] = mapped_column(BigInteger)
    updated_ms: Mapped[int] = mapped_column(BigInteger)
    deleted_ms: Mapped[int | None] = mapped_column(BigInteger)
    creator: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(Text)
    options: Mapped[dict[str, Any]]
    active_version: Mapped[int | None]
    pending_version: Mapped[int | None]
    update_state: Mapped[str] = mapped_column(String(16))
    update_message: Mapped[str] = mapped_column(Text)


class ConfigRow(StoreBase):
    """A config version; written once."""

    __tablename__ = "config_versions"

    endpoint_id: Mapped[str] = mapped_column(String(32), ForeignKey("endpoints.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    created_ms: Mapped[int] = mapped_column(BigInteger)


class EntityRow(StoreBase):
    """A served entity of a config version, with all that it was sold with; written once."""

    __tablename__ = "served_entities"

    endpoint_id: Mapped[str] = mapped_column(String(32), ForeignKey("endpoints.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    position: Mapped[int]
    """In the config's order, from 0."""
    name: Mapped[str] = mapped_column(String(255))
    model: Mapped[str] = mapped_column(String(255))
    model_settings: Mapped[dict[str, Any]]
    traffic: Mapped[int]
    min_chunks: Mapped[int]
    max_chunks: Mapped[int]
    scale_to_zero: Mapped[bool]
    chunk: Mapped[int]
    weights: Mapped[dict[str, Any]]
    price_micro: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(8))
    profile_id: Mapped[str] = mapped_column(String(128))
    profile_status: Mapped[str] = mapped_column(String(16))
    created_ms: Mapped[int] = mapped_column(BigInteger)


class TagRow(StoreBase):
    __tablename__ = "endpoint_tags"

    endpoint_id: Mapped[str] = mapped_column(String(32), ForeignKey("endpoints.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class EventRow(StoreBase):
    """What the controller did and why. ``data`` of a scaling event holds the inputs that recompute its decision."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_endpoint_id", "endpoint_id", "id"),)

    id: Mapped[int] = mapped_column(Row, primary_key=True)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    endpoint_id: Mapped[str | None] = mapped_column(String(32))
    endpoint_name: Mapped[str | None] = mapped_column(String(63))
    kind: Mapped[str] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]


class KeyRow(StoreBase):
    """A key by its digest: the key itself was shown once and is nowhere."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(8), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(8))
    tiers: Mapped[list[str]]
    weight: Mapped[float] = mapped_column(Float)
    name: Mapped[str] = mapped_column(String(255))
    principal: Mapped[str] = mapped_column(String(64))
    principal_kind: Mapped[str] = mapped_column(String(17))
    created_ms: Mapped[int] = mapped_column(BigInteger)
    revoked_ms: Mapped[int | None] = mapped_column(BigInteger)


class ServicePrincipalRow(StoreBase):
    """A caller that is a program. Deleted ones stay, as usage names them; names are unique among the others."""

    __tablename__ = "service_principals"
    __table_args__ = (
        Index(
            "ix_service_principals_name_alive",
            "name",
            unique=True,
            sqlite_where=text("deleted_ms IS NULL"),
            postgresql_where=text("deleted_ms IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Its client id."""
    name: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    """Of its client secret, which was shown once and is nowhere."""
    role: Mapped[str] = mapped_column(String(8))
    tiers: Mapped[list[str]]
    weight: Mapped[float] = mapped_column(Float)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    deleted_ms: Mapped[int | None] = mapped_column(BigInteger)


class TokenRow(StoreBase):
    """An access token by its digest, until some time after it has expired."""

    __tablename__ = "access_tokens"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    service_principal_id: Mapped[str] = mapped_column(String(36), ForeignKey("service_principals.id"), index=True)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    expires_ms: Mapped[int] = mapped_column(BigInteger)


class PermissionsRow(StoreBase):
    """The permissions of an endpoint, once they were changed. ``levels``: by ``kind:name`` of the principal."""

    __tablename__ = "endpoint_permissions"

    endpoint_id: Mapped[str] = mapped_column(String(32), ForeignKey("endpoints.id"), primary_key=True)
    levels: Mapped[dict[str, Any]]


class ReplicaRow(StoreBase):
    """A replica that was asked for and is not gone: what a controller must know to adopt it after its own restart."""

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(String(32), ForeignKey("endpoints.id"))
    config_version: Mapped[int]
    """Config that it was started for."""
    entity_id: Mapped[str] = mapped_column(String(32))
    runs_as: Mapped[str] = mapped_column(String(16))
    created_ms: Mapped[int] = mapped_column(BigInteger)
    ready_ms: Mapped[int | None] = mapped_column(BigInteger)
    draining_ms: Mapped[int | None] = mapped_column(BigInteger)
    drain_cause: Mapped[str | None] = mapped_column(String(16))


class FailuresRow(StoreBase):
    """Failures in a row of the replicas of a served entity, until they are over: see ``backoff.Backoff``."""

    __tablename__ = "failures"

    entity_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    runs_as: Mapped[str] = mapped_column(String(16))
    failures: Mapped[int]
    not_before_ms: Mapped[int] = mapped_column(BigInteger)
    message: Mapped[str] = mapped_column(Text)
    tail: Mapped[str] = mapped_column(Text)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    ready_ms: Mapped[int | None] = mapped_column(BigInteger)


class CounterRow(StoreBase):
    """Numbers that only grow, such as the version of the snapshot."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
