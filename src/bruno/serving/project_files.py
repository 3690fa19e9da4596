"""A project as one file: safetensors, with everything that is not numbers as JSON in its header.

Reading it executes nothing and unpacks nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from safetensors import SafetensorError
from safetensors.numpy import load, save
from sqlalchemy.engine import Connection

from bruno.errors import UserError
from bruno.serving.elements import digest_of
from bruno.serving.errors import RefusalError
from bruno.serving.exact_evidence import MOST_ELEMENTS, ExactEvidence
from bruno.serving.learning import columns_of, latent_of, new_id
from bruno.serving.projects import project_row
from bruno.serving.tables import classes, examples, in_utc, projects

FORMAT_VERSION = 1

_HEADER = "bruno_project"
_LONGEST_NAME = 200


def export_project(connection: Connection, name: str) -> bytes:
    """Return a project as one file.

    Args:
        connection: That sees the database at one time.
        name: Name of the project.

    Raises:
        RefusalError: 404 without the project.
    """
    project = project_row(connection, name)
    class_rows = connection.execute(
        sa.select(classes).where(classes.c.project_id == project.id).order_by(classes.c.name)
    ).all()
    example_rows = connection.execute(
        sa.select(examples)
        .where(examples.c.project_id == project.id)
        .order_by(examples.c.created, examples.c.id)
    ).all()
    position = {row.id: index for index, row in enumerate(class_rows)}
    empty = ExactEvidence.empty(project.dim)
    tensors = {
        "sums": _stacked([ExactEvidence.from_bytes(r.size, r.sums).sums for r in class_rows]),
        "given_sums": _stacked(
            [
                ExactEvidence.from_bytes(r.given_size, r.given_sums).sums
                if r.given_sums
                else empty.sums
                for r in class_rows
            ]
        ),
    }
    if project.keep_examples:
        tensors["content"] = _stacked([np.frombuffer(r.content, np.uint8) for r in example_rows])
        tensors["latent"] = _stacked([latent_of(r.latent) for r in example_rows])
    header = {
        "format_version": FORMAT_VERSION,
        "name": project.name,
        "model_name": project.model_name,
        "model_sha256": project.model_sha256,
        "dim": project.dim,
        "keep_examples": project.keep_examples,
        "unknown_prior": project.unknown_prior,
        "classes": [
            {"name": r.name, "size": r.size, "given_size": r.given_size, "digest": r.digest}
            for r in class_rows
        ],
        "examples": [
            {
                "class": position[r.class_id],
                "content_digest": r.content_digest,
                "latent_digest": r.latent_digest,
                "created": r.created.isoformat(),
            }
            for r in example_rows
        ],
    }
    return save(tensors, {_HEADER: json.dumps(header)})


def import_project(
    connection: Connection, name: str, data: bytes, model_sha256: str, content_size: int
) -> None:
    """Store the project of a file under a name.

    Args:
        connection: Inside a transaction.
        name: Its name here.
        data: The file.
        model_sha256: SHA-256 of the weights of the served model.
        content_size: Bytes of the content of an example.

    Raises:
        RefusalError: 409 if there is a project of this name, or the file belongs to another model.
        UserError: If the file is damaged or not one of a project; then nothing is stored.
    """
    try:
        header, tensors = _read(data)
        rows = _checked(header, tensors, content_size)
    except UserError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"body: expected an exported project, undamaged ({reason})") from None
    if header["model_sha256"] != model_sha256:
        raise RefusalError(
            409, f"body: the project was learned with another model, {header['model_name']!r}"
        )
    if connection.execute(sa.select(projects.c.id).where(projects.c.name == name)).one_or_none():
        raise RefusalError(409, f"name: there is a project {name!r} already")
    project_id = new_id()
    connection.execute(
        sa.insert(projects).values(
            id=project_id,
            name=name,
            model_name=str(header["model_name"])[:_LONGEST_NAME],
            model_sha256=model_sha256,
            dim=header["dim"],
            keep_examples=header["keep_examples"],
            unknown_prior=header["unknown_prior"],
            revision=1,
            created=datetime.now(UTC),
        )
    )
    for table, some in zip((classes, examples), rows, strict=True):
        if some:
            connection.execute(
                sa.insert(table), [{**row, "project_id": project_id} for row in some]
            )


def _stacked(rows: Sequence[Any]) -> Any:
    return np.stack(rows) if rows else np.zeros((0, 1), dtype=np.int64)


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the tensors of a file."""
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        raise UserError("body: expected an exported project, got a file that is cut short")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    header = json.loads(metadata[_HEADER])
    if header["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"body: expected version {FORMAT_VERSION} of the format, got "
            f"{header['format_version']!r}"
        )
    return header, load(data)


def _checked(
    header: dict[str, Any], tensors: dict[str, Any], content_size: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rows of classes and examples whose evidence is, bit for bit, that of the examples."""
    dim, keeps = int(header["dim"]), bool(header["keep_examples"])
    if not 0 < float(header["unknown_prior"]) < 1:
        raise ValueError("unknown_prior")
    members: list[list[int]] = [[] for _ in header["classes"]]
    for index, one in enumerate(header["examples"]):
        members[range(len(members))[one["class"]]].append(index)
    class_rows, example_rows = [], []
    names = {str(one["name"]) for one in header["classes"]}
    if len(names) != len(members):
        raise ValueError("two classes of one name")
    for position, one in enumerate(header["classes"]):
        name = str(one["name"])
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise ValueError("name of a class")
        evidence = _evidence(tensors["sums"][position], one["size"], dim)
        given = _evidence(tensors["given_sums"][position], one["given_size"], dim)
        total = given
        if keeps and members[position]:
            total = given + ExactEvidence.of(tensors["latent"][members[position]].reshape(-1, dim))
        is_same = evidence.digest() == one["digest"]
        is_whole = given.count + len(members[position]) == evidence.count
        if not is_same or not is_whole or (keeps and total.digest() != evidence.digest()):
            raise UserError(f"body: the evidence of class {name!r} is not that of its examples")
        class_id = new_id()
        class_rows.append(
            {
                "id": class_id,
                "name": name,
                **columns_of(evidence),
                "given_size": given.count,
                "given_sums": given.to_bytes() if given.count else None,
                "revision": 1,
            }
        )
        example_rows += [
            _example(header, tensors, index, class_id, content_size) for index in members[position]
        ]
    return class_rows, example_rows


def _evidence(sums: Any, count: int, dim: int) -> ExactEvidence:
    evidence = ExactEvidence(int(count), np.asarray(sums, dtype=np.int64).reshape(3, dim))
    if not 0 <= evidence.count <= MOST_ELEMENTS or not evidence.is_possible():
        raise ValueError("evidence that no examples have")
    return evidence


def _example(
    header: dict[str, Any], tensors: dict[str, Any], index: int, class_id: str, content_size: int
) -> dict[str, Any]:
    one = header["examples"][index]
    row: dict[str, Any] = {
        "id": new_id(),
        "class_id": class_id,
        "content_digest": _digest(one["content_digest"]),
        "latent_digest": _digest(one["latent_digest"]),
        "content": None,
        "latent": None,
        "created": in_utc(datetime.fromisoformat(one["created"])),
    }
    if header["keep_examples"]:
        row["content"] = tensors["content"][index].astype(np.uint8).tobytes()
        row["latent"] = tensors["latent"][index].astype("<i8").tobytes()
        if len(row["content"]) != content_size:
            raise ValueError("content of an example")
        for name in ("content", "latent"):
            if digest_of(row[name]) != row[f"{name}_digest"]:
                raise ValueError(f"{name} of an example")
    return row


def _digest(text: str) -> str:
    bytes.fromhex(text)
    if len(text) != 64:
        raise ValueError("digest")
    return text
