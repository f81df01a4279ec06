"""What a comparison found, to and from its folder: `docs/formats/comparison.md`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from monoscope.core.artifact import digest_file, plain, read_json, staging, write_json
from monoscope.core.errors import Damaged
from monoscope.evaluate.completeness import Concept
from monoscope.evaluate.likeness import Likeness
from monoscope.evaluate.splitting import KINDS, WAYS, Splits

FORMAT, VERSION = "monoscope.comparison", 1
MANIFEST, MATCHES, CONCEPTS = "manifest.json", "matches.parquet", "concepts.parquet"


@dataclass(frozen=True)
class Pair:
    """Two dictionaries compared, `a` not wider than `b`: a table of A's latents, what became of them, the figures.

    `splits` are by the way in which parents were found, `direction` and `firing`.
    """

    matches: pa.Table
    splits: dict[str, Splits]
    figures: dict[str, Any]


def matches_table(found: Likeness) -> pa.Table:
    """One row a latent of A."""
    return pa.table(
        {
            "feature": np.arange(len(found.fires_a), dtype=np.int32),
            "partner": found.cosine.partner.int().numpy(),
            "cosine": found.cosine.score.numpy(),
            "mutual": found.cosine.mutual.numpy(),
            "correlation": found.correlation_of_nearest.numpy(),
            "correlated": found.correlation.partner.int().numpy(),
            "best_correlation": found.correlation.score.numpy(),
            "firings": found.fires_a.numpy(),
        }
    )


def save_pair(folder: Path, pair: Pair, request: dict[str, Any]) -> None:
    """Write the comparison of two dictionaries, in place of an older one."""
    tables = {f"splits_{way}.parquet": _splits_table(splits) for way, splits in pair.splits.items()}
    _save(folder, {MATCHES: pair.matches, **tables}, pair.figures, request)


def _splits_table(splits: Splits) -> pa.Table:
    columns = {field.name: getattr(splits, field.name).numpy() for field in fields(splits)}
    columns.pop("parent_fires")  # stands in the table of matches
    columns["kind"] = pa.array([KINDS[kind] for kind in columns["kind"].tolist()])
    return pa.table({"feature": np.arange(len(columns["parent"]), dtype=np.int32), **columns})


def load_pair(folder: Path, request: dict[str, Any]) -> Pair | None:
    """The comparison, if there is one of this very request.

    Raises
        Damaged  a file is missing or altered.
    """
    manifest = _manifest(folder, request)
    if manifest is None:
        return None
    matches = _table(folder, MATCHES, manifest)
    parent_fires = torch.from_numpy(matches["firings"].to_numpy().copy())
    splits = {way: _splits(_table(folder, f"splits_{way}.parquet", manifest), parent_fires) for way in WAYS}
    return Pair(matches, splits, manifest["figures"])


def _splits(table: pa.Table, parent_fires: torch.Tensor) -> Splits:
    numbers = {name: number for number, name in enumerate(KINDS)}
    kind = torch.tensor([numbers[name] for name in table["kind"].to_pylist()])
    names = {field.name for field in fields(Splits)} - {"kind", "parent_fires"}
    columns = {name: torch.from_numpy(table[name].to_numpy().copy()) for name in names}
    return Splits(**columns, kind=kind, parent_fires=parent_fires)


def save_concepts(
    folder: Path, found: Sequence[Concept], control: Sequence[Concept], figures: dict[str, Any], request: dict[str, Any]
) -> None:
    """Write which titles a dictionary has a feature for; `control` is the same for mentions dealt out at random."""
    rows = [asdict(one) | {"control_f1": other.f1} for one, other in zip(found, control, strict=True)]
    table = pa.Table.from_pylist(rows, _CONCEPTS)
    _save(folder, {CONCEPTS: table}, figures, request)


def load_concepts(folder: Path, request: dict[str, Any]) -> tuple[list[Concept], dict[str, Any]] | None:
    """The same read back, if there is one of this very request; raises like `load_pair`."""
    manifest = _manifest(folder, request)
    if manifest is None:
        return None
    rows = _table(folder, CONCEPTS, manifest).drop(["control_f1"]).to_pylist()
    return [Concept(**row) for row in rows], manifest["figures"]


_CONCEPTS = pa.schema(
    [("name", pa.string()), ("mentions", pa.int64()), ("frequency", pa.float64()), ("feature", pa.int32())]
    + [(name, pa.float64()) for name in ("f1", "precision", "recall", "leak", "control_f1")]
)


def _save(folder: Path, tables: dict[str, pa.Table], figures: dict[str, Any], request: dict[str, Any]) -> None:
    with staging(folder) as aside:
        for name, table in tables.items():
            pq.write_table(table, aside / name, compression="zstd")
        manifest = {"format": FORMAT, "version": VERSION, "request": request, "figures": figures}
        digests = {name: digest_file(aside / name) for name in tables}
        write_json(aside / MANIFEST, {**manifest, "digests": digests})


def _manifest(folder: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_json(folder / MANIFEST)
    sound = manifest.get("format") == FORMAT and manifest.get("version") == VERSION
    return manifest if sound and manifest.get("request") == plain(request) else None


def _table(folder: Path, name: str, manifest: dict[str, Any]) -> pa.Table:
    path = folder / name
    if not path.is_file() or digest_file(path) != manifest["digests"].get(name):
        raise Damaged(f"{path} is missing or altered; compare again with --replace.")
    return pq.read_table(path)
