"""``--dry-run``: what a create or an update would do and cost."""

from __future__ import annotations

from typing import Any

from headrace.cli.output import console, number, print_table, span

QUERY = "?dry_run=true"


def print_dry_run(told: dict[str, Any]) -> None:
    """A row for each served entity, then all of it in words."""
    print_table(
        [
            "served entity",
            "model",
            ">traffic",
            ">range in chunks",
            ">chunk in reference tokens/s",
            ">chunks kept",
            ">started",
            ">without room",
        ],
        [
            [
                entity["name"],
                f"{entity['entity_name']}, version {entity['entity_version']}",
                f"{entity['traffic_percentage']}%",
                span(entity["min_chunks"], entity["max_chunks"]),
                number(entity["chunk"]),
                entity["chunks_kept"],
                entity["chunks_started"],
                entity["chunks_pending"],
            ]
            for entity in told["served_entities"]
        ],
    )
    for line in told["says"]:
        console().print(line, markup=False)
    console().print("Nothing was changed.", markup=False)
