"""The tables of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "capacity_points",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ready", sa.Integer(), nullable=False),
        sa.Column("draining_own", sa.Integer(), nullable=False),
        sa.Column("min_chunks", sa.Integer(), nullable=False),
        sa.Column("endpoint_ready", sa.Boolean(), nullable=False),
        sa.Column("price_micro_per_chunk_hour", sa.BigInteger(), nullable=False),
        sa.Column("config_version", sa.Integer(), nullable=False),
        sa.Column("exists", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capacity_points")),
    )
    op.create_index("ix_capacity_points_endpoint_at", "capacity_points", ["endpoint", "at_ms"], unique=False)
    op.create_table(
        "heartbeat",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_heartbeat")),
    )
    op.create_table(
        "journal_conflicts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("found_ms", sa.BigInteger(), nullable=False),
        sa.Column("writer", sa.String(length=100), nullable=False),
        sa.Column("rid", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=32), nullable=False),
        sa.Column("refused", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal_conflicts")),
        sa.UniqueConstraint("rid", "kind", "seq", "digest", name=op.f("uq_journal_conflicts_rid")),
    )
    op.create_table(
        "journal_positions",
        sa.Column("writer", sa.String(length=100), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("writer", name=op.f("pk_journal_positions")),
    )
    op.create_table(
        "usage",
        sa.Column("rid", sa.String(length=128), nullable=False),
        sa.Column("writer", sa.String(length=100), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=True),
        sa.Column("endpoint_name", sa.String(length=63), nullable=True),
        sa.Column("entity", sa.String(length=64), nullable=True),
        sa.Column("config_version", sa.Integer(), nullable=True),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("replica", sa.String(length=64), nullable=True),
        sa.Column("band", sa.String(length=16), nullable=True),
        sa.Column("stream", sa.Boolean(), nullable=True),
        sa.Column("client_request_id", sa.Text(), nullable=True),
        sa.Column("usage_context", sa.JSON(), nullable=True),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("arrived_ms", sa.BigInteger(), nullable=True),
        sa.Column("dispatched_ms", sa.BigInteger(), nullable=True),
        sa.Column("settled_ms", sa.BigInteger(), nullable=True),
        sa.Column("input_estimate", sa.Integer(), nullable=True),
        sa.Column("max_output", sa.Integer(), nullable=True),
        sa.Column("work_reserved", sa.Float(), nullable=True),
        sa.Column("ended", sa.String(length=16), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.String(length=32), nullable=True),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("exact", sa.Boolean(), nullable=False),
        sa.Column("work", sa.Float(), nullable=False),
        sa.Column("queue_ms", sa.Float(), nullable=True),
        sa.Column("ttft_ms", sa.Float(), nullable=True),
        sa.Column("e2e_ms", sa.Float(), nullable=True),
        sa.Column("progress_ms", sa.BigInteger(), nullable=True),
        sa.Column("progress_input", sa.Integer(), nullable=True),
        sa.Column("progress_output", sa.Integer(), nullable=True),
        sa.Column("reserved_seq", sa.Integer(), nullable=True),
        sa.Column("reserved_digest", sa.String(length=32), nullable=True),
        sa.Column("progress_seq", sa.Integer(), nullable=True),
        sa.Column("progress_digest", sa.String(length=32), nullable=True),
        sa.Column("end_seq", sa.Integer(), nullable=True),
        sa.Column("end_digest", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("rid", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_endpoint_settled", "usage", ["endpoint", "settled_ms"], unique=False)
    op.create_index(op.f("ix_usage_key"), "usage", ["key"], unique=False)
    op.create_index("ix_usage_open", "usage", ["ended", "writer"], unique=False)
    op.create_index(op.f("ix_usage_settled_ms"), "usage", ["settled_ms"], unique=False)
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "endpoints",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.Column("creator", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("active_version", sa.Integer(), nullable=True),
        sa.Column("pending_version", sa.Integer(), nullable=True),
        sa.Column("update_state", sa.String(length=16), nullable=False),
        sa.Column("update_message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
    )
    op.create_index(
        "ix_endpoints_name_alive",
        "endpoints",
        ["name"],
        unique=True,
        sqlite_where=sa.text("deleted_ms IS NULL"),
        postgresql_where=sa.text("deleted_ms IS NULL"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("endpoint_id", sa.String(length=32), nullable=True),
        sa.Column("endpoint_name", sa.String(length=63), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_endpoint_id", "events", ["endpoint_id", "id"], unique=False)
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("tiers", sa.JSON(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_keys_digest")),
    )
    op.create_table(
        "config_versions",
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_config_versions_endpoint_id_endpoints")
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "version", name=op.f("pk_config_versions")),
    )
    op.create_table(
        "endpoint_tags",
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name=op.f("fk_endpoint_tags_endpoint_id_endpoints")),
        sa.PrimaryKeyConstraint("endpoint_id", "key", name=op.f("pk_endpoint_tags")),
    )
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("config_version", sa.Integer(), nullable=False),
        sa.Column("runs_as", sa.String(length=16), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("ready_ms", sa.BigInteger(), nullable=True),
        sa.Column("draining_ms", sa.BigInteger(), nullable=True),
        sa.Column("drain_cause", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name=op.f("fk_replicas_endpoint_id_endpoints")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replicas")),
    )
    op.create_table(
        "served_entities",
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("model_settings", sa.JSON(), nullable=False),
        sa.Column("min_chunks", sa.Integer(), nullable=False),
        sa.Column("max_chunks", sa.Integer(), nullable=False),
        sa.Column("scale_to_zero", sa.Boolean(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("weights", sa.JSON(), nullable=False),
        sa.Column("price_micro", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("profile_id", sa.String(length=128), nullable=False),
        sa.Column("profile_status", sa.String(length=16), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_served_entities_endpoint_id_endpoints")
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "version", "id", name=op.f("pk_served_entities")),
    )
