"""First tables: projects, classes, requests, examples."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "project",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("model_name", sa.String(200), nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.Column("keep_examples", sa.Boolean, nullable=False),
        sa.Column("unknown_prior", sa.Float, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_project"),
        sa.UniqueConstraint("name", name="uq_project_name"),
    )
    op.create_table(
        "class",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("project_id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sums", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("given_size", sa.BigInteger, nullable=False),
        sa.Column("given_sums", sa.LargeBinary),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_class"),
        sa.UniqueConstraint("project_id", "name", name="uq_class_project_id"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name="fk_class_project_id_project", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "request",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("project_id", sa.String(32), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("examples", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_request"),
        sa.UniqueConstraint("project_id", "key", name="uq_request_project_id"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name="fk_request_project_id_project", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "example",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("project_id", sa.String(32), nullable=False),
        sa.Column("class_id", sa.String(32), nullable=False),
        sa.Column("request_id", sa.String(32)),
        sa.Column("content_digest", sa.String(64), nullable=False),
        sa.Column("latent_digest", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary),
        sa.Column("latent", sa.LargeBinary),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_example"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name="fk_example_project_id_project", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["class_id"], ["class.id"], name="fk_example_class_id_class", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["request.id"],
            name="fk_example_request_id_request",
            ondelete="SET NULL",
        ),
    )
    op.create_index("ix_example_class_id", "example", ["class_id"])
    op.create_index("ix_example_request_id", "example", ["request_id"])
    op.create_index(
        "ix_example_project_id_content_digest", "example", ["project_id", "content_digest"]
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("example", "request", "class", "project"):
        op.drop_table(table)
