"""Whose a key is; service principals and their tokens; permissions of endpoints.

A key of before belongs to a user whose name is the key's id, as does one that is made without saying whose it is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("keys", sa.Column("principal", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("keys", sa.Column("principal_kind", sa.String(length=17), nullable=False, server_default="user"))
    op.execute("UPDATE keys SET principal = id")
    op.create_table(
        "service_principals",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("tiers", sa.JSON(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_principals")),
    )
    op.create_index(
        "ix_service_principals_name_alive",
        "service_principals",
        ["name"],
        unique=True,
        sqlite_where=sa.text("deleted_ms IS NULL"),
        postgresql_where=sa.text("deleted_ms IS NULL"),
    )
    op.create_table(
        "access_tokens",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("service_principal_id", sa.String(length=36), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["service_principal_id"],
            ["service_principals.id"],
            name=op.f("fk_access_tokens_service_principal_id_service_principals"),
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_access_tokens")),
    )
    op.create_index(
        op.f("ix_access_tokens_service_principal_id"), "access_tokens", ["service_principal_id"], unique=False
    )
    op.create_table(
        "endpoint_permissions",
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("levels", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_endpoint_permissions_endpoint_id_endpoints")
        ),
        sa.PrimaryKeyConstraint("endpoint_id", name=op.f("pk_endpoint_permissions")),
    )
