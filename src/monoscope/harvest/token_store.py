"""Token ids on disk, remembering which document each token came from.

The layout stands in docs/formats/text_store.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from monoscope.core.artifact import digest_file, digest_of, read_json, read_tensors, write_json, write_tensors
from monoscope.core.blocks import TokenBlock
from monoscope.core.errors import ArtifactNotFound, Damaged

FORMAT = "monoscope.text"
VERSION = 1
TOKENS, DOCUMENTS, VOCABULARY, MANIFEST = (
    "tokens.safetensors",
    "documents.parquet",
    "vocabulary.safetensors",
    "manifest.json",
)


@dataclass(frozen=True)
class Windows:
    """Runs of tokens of one document each, in the order of the store.

    `prefixed` windows get the model's start token in front, which carries the attention sink; the first window of a
    chat document brings its own first token for that.
    """

    start: Int[Tensor, "windows"]
    length: Int[Tensor, "windows"]
    prefixed: Bool[Tensor, "windows"]
    document: Int[Tensor, "windows"]
    held: Bool[Tensor, "windows"]

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True)
class TokenStore:
    """The tokens of a text, document after document.

    `offsets[d]` is where document `d` begins. `template` marks tokens that belong to a chat template and not to what
    somebody said. `documents` has the columns title, source, language, split (train or held), group, topic, id, chat.
    """

    folder: Path
    ids: Int[Tensor, "n_tokens"]
    offsets: Int[Tensor, "n_documents_plus_1"]
    template: Bool[Tensor, "n_tokens"]
    windows: Windows
    documents: pa.Table
    manifest: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> "TokenStore":
        """Read a store and check it against its manifest.

        Raises
            ArtifactNotFound  there is no store in the folder.
            Damaged           a file is missing, altered or of an unknown version.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        tensors = read_tensors(folder / TOKENS, manifest["digests"][TOKENS])
        _check_bytes(folder / DOCUMENTS, manifest["digests"][DOCUMENTS])
        documents = pq.read_table(folder / DOCUMENTS)
        held = torch.from_numpy(np.asarray(documents["split"].to_numpy(zero_copy_only=False) == "held"))
        document = tensors["window_document"]
        windows = Windows(
            start=tensors["window_start"],
            length=tensors["window_length"],
            prefixed=tensors["window_prefixed"].bool(),
            document=document,
            held=held[document.long()],
        )
        return cls(folder, tensors["ids"], tensors["offsets"], tensors["template"].bool(), windows, documents, manifest)

    @property
    def request(self) -> dict[str, Any]:
        """What the store was made from."""
        return dict(self.manifest["request"])

    @property
    def digest(self) -> str:
        """Depends on every byte of the store's tokens and documents."""
        return digest_of(self.manifest["digests"])

    @property
    def prefix_id(self) -> int:
        """The token put in front of prefixed windows."""
        return int(self.manifest["prefix_id"])

    @property
    def context(self) -> int:
        """Most own tokens of a window."""
        return int(self.manifest["context"])

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents; prefixes are not counted."""
        return len(self.ids)

    @property
    def n_documents(self) -> int:
        """How many documents there are."""
        return len(self.offsets) - 1

    @cached_property
    def vocabulary(self) -> list[bytes]:
        """The raw bytes of each token id; joined they are the text.

        Raises
            Damaged  the vocabulary file is not the one that was written.
        """
        tensors = read_tensors(self.folder / VOCABULARY, self.manifest["digests"][VOCABULARY])
        joined = tensors["bytes"].numpy().tobytes()
        bounds = tensors["offsets"].tolist()
        return [joined[first:last] for first, last in zip(bounds[:-1], bounds[1:], strict=True)]

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Tokens that no text spells, such as the marks of a chat template."""
        return frozenset(self.manifest["special_ids"])

    @cached_property
    def held_documents(self) -> Bool[Tensor, "n_documents"]:
        """Which documents are held out."""
        return torch.from_numpy(np.asarray(self.documents["split"].to_numpy(zero_copy_only=False) == "held"))

    def document_of(self, tokens: Int[Tensor, "*rows"]) -> Int[Tensor, "*rows"]:
        """The document that each token index lies in."""
        return torch.searchsorted(self.offsets, torch.as_tensor(tokens).long(), right=True) - 1

    def text_of(self, first: int, last: int) -> str:
        """Tokens `first` to `last`, half-open, as text; a character cut in two shows as U+FFFD."""
        table = self.vocabulary
        return b"".join(table[token] for token in self.ids[first:last].tolist()).decode("utf-8", "replace")

    def block(self, windows: Int[Tensor, "windows"] | Sequence[int]) -> TokenBlock:
        """The windows of these numbers, padded on the right to the longest of them.

        `lengths` counts the prefix; padding repeats the prefix token, so a causal model needs no mask.
        """
        chosen = torch.as_tensor(windows, dtype=torch.long)
        first = self.windows.start[chosen].long()
        prefix = self.windows.prefixed[chosen].long()
        lengths = self.windows.length[chosen].long() + prefix
        position = torch.arange(int(lengths.max()) if len(chosen) else 0)
        own = (position >= prefix[:, None]) & (position < lengths[:, None])
        source = (first - prefix)[:, None] + position
        ids = self.ids[source.clamp(0, max(0, self.n_tokens - 1))].long()
        return TokenBlock(torch.where(own, ids, self.prefix_id), lengths, prefix, first)


def write_files(folder: Path, tensors: Mapping[str, Tensor], documents: pa.Table, vocabulary: Sequence[bytes]) -> dict:
    """Write the three data files of a store; their digests come back for the manifest."""
    write_tensors(folder / TOKENS, tensors)
    pq.write_table(documents, folder / DOCUMENTS, compression="zstd")
    bounds = np.concatenate([[0], np.cumsum([len(word) for word in vocabulary], dtype=np.int64)])
    joined = torch.frombuffer(bytearray(b"".join(vocabulary)), dtype=torch.uint8)
    write_tensors(folder / VOCABULARY, {"bytes": joined, "offsets": torch.from_numpy(bounds)})
    return {name: digest_file(folder / name) for name in (TOKENS, DOCUMENTS, VOCABULARY)}


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, last of all files."""
    write_json(folder / MANIFEST, {"format": FORMAT, "version": VERSION, **manifest})


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST).is_file():
        raise ArtifactNotFound(f"There is no text in {folder}; run `monoscope harvest` to make it.")
    manifest = read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise Damaged(
            f"{folder / MANIFEST} says format {manifest.get('format')!r} version {manifest.get('version')!r}; "
            f"this monoscope reads {FORMAT!r} version {VERSION}."
        )
    missing = {"digests", "request", "prefix_id", "context", "special_ids"} - set(manifest)
    if missing:
        raise Damaged(f"{folder / MANIFEST} lacks {', '.join(sorted(missing))}; make the text again with --replace.")
    return manifest


def _check_bytes(path: Path, digest: str) -> None:
    if not path.is_file() or digest_file(path) != digest:
        raise Damaged(f"{path} is missing or altered; make the text again with --replace.")
