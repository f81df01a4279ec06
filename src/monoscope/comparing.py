"""Dictionaries of one site beside each other: which features they share, how they split, and which concepts they have.

Found once, kept in `RUN/comparisons/` of the first run named, and read from there until one of the inputs changes.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.dictionary.base import Dictionary
from monoscope.evaluate.codes import Codes
from monoscope.evaluate.compared import Pair, load_concepts, load_pair, matches_table, save_concepts, save_pair
from monoscope.evaluate.completeness import (
    FEWEST,
    OTHERS,
    Concept,
    completeness,
    fit_presence,
    presence_bins,
    read_units,
    shuffled,
)
from monoscope.evaluate.likeness import correlations, likeness, likeness_figures, nearest, random_rows, shifted
from monoscope.evaluate.mentions import find_mentions
from monoscope.evaluate.splitting import (
    KINDS,
    NEW,
    PART,
    WAYS,
    Branch,
    Parents,
    Splits,
    find_splits,
    grow,
    nodes_below,
    parents_by_direction,
    parents_by_firing,
    summary,
)
from monoscope.evaluate.telling import CANDIDATES, best_teller
from monoscope.lineup import ROWS, Chosen, Lineup, choose

_PEAK_WORDS, _PEAK_ROWS = 4, 200


def compare(
    wanted: Sequence[str],
    *,
    by_titles: bool = False,
    family: Sequence[str] = (),
    parents: str = "direction",
    limit: int | None = None,
    replacing_it: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Compare dictionaries written as RUN:NAME, each with the next wider one.

    `by_titles` asks for completeness as well, `family` for the tree below the feature that best tells these words.
    `parents` says how the parent of a latent is found: by `direction` or by `firing`.

    Raises
        BadRequest  fewer than two are named, one twice, or they are not of one model and site.
    """
    if parents not in WAYS:
        raise BadRequest(f"--parents {parents!r} is not known; choose direction or firing.")
    line = Lineup(choose(wanted), progress)
    pairs = [_pair(line, a, b, replacing_it) for a, b in zip(line.chosen, line.chosen[1:], strict=False)]
    names = list(zip(line.chosen, line.chosen[1:], pairs, strict=False))
    told: dict[str, Any] = {
        "dictionaries": [_about(one) for one in line.chosen],
        "text": line.text,
        "parents": parents,
        "pairs": [_figures(a, b, pair, parents) for a, b, pair in names],
        "matches": [row for a, b, pair in names for row in _matches(a, b, pair)[:limit]],
        "splits": [row for a, b, pair in names for row in _families(a, b, pair.splits[parents])[:limit]],
    }
    if family:
        told["tree"] = _tree(line, [pair.splits[parents] for pair in pairs], family)
    if by_titles:
        told["completeness"] = _completeness(line, replacing_it)
    return told


def _figures(a: Chosen, b: Chosen, pair: Pair, parents: str) -> dict[str, Any]:
    return {"a": a.label, "b": b.label, **pair.figures, "splits": pair.figures["splits"][parents]}


def _about(one: Chosen) -> dict[str, Any]:
    alive = int((one.dictionary.stats.density > 0).sum())
    return {"name": one.label, "run": str(one.run.path), "latents": one.dictionary.n_latents, "alive": alive}


def _pair(line: Lineup, a: Chosen, b: Chosen, replacing_it: bool) -> Pair:
    folder = line.folder(a.label, b.label)
    inputs = {"a_digest": a.digest, "b_digest": b.digest, "activations_digest": line.shards.digest}
    request = {"a": a.label, "b": b.label, **inputs, "rows": min(ROWS, line.shards.rows("held"))}
    found = None if replacing_it else load_pair(folder, request)
    if found is None:
        found = _compare_pair(a.dictionary, b.dictionary, line.codes(a), line.codes(b))
        save_pair(folder, found, request)
    return found


def _compare_pair(a: Dictionary, b: Dictionary, codes_a: Codes, codes_b: Codes) -> Pair:
    found, late = likeness(a, b, codes_a, codes_b), shifted(codes_b)
    chance, mixed = nearest(a.W_dec, random_rows(b.W_dec)), correlations(codes_a, late)[0]
    figures = likeness_figures(found, a, b, chance, mixed)
    splits = {
        "direction": find_splits(codes_a, codes_b, b.W_dec, parents_by_direction(found)),
        "firing": find_splits(codes_a, codes_b, b.W_dec, parents_by_firing(found.correlation, a.W_dec, b.W_dec)),
    }
    # The same judgement of children whose parents are random rows that fire as A's latents do, and of B's latents that
    # fire half a text later: what chance accepts.
    drawn = nearest(random_rows(a.W_dec), b.W_dec)
    silent = torch.zeros(b.n_latents)
    by_chance = {
        "direction": find_splits(
            codes_a, codes_b, b.W_dec, Parents(drawn.back, drawn.back_score, silent, drawn.back_score < NEW)
        ),
        "firing": find_splits(codes_a, late, b.W_dec, parents_by_firing(mixed, a.W_dec, b.W_dec)),
    }
    figures["splits"] = {way: summary(splits[way]) | {"random": summary(by_chance[way])} for way in WAYS}
    return Pair(matches_table(found), splits, figures)


def _matches(a: Chosen, b: Chosen, pair: Pair) -> list[dict[str, Any]]:
    rows = pair.matches.to_pylist()
    for row in rows:
        row |= {"a": a.label, "b": b.label}
        row |= {"label": a.label_of(row["feature"]), "partner_label": b.label_of(row["partner"])}
    return rows


def _families(a: Chosen, b: Chosen, splits: Splits) -> list[dict[str, Any]]:
    """The parents with two believed children or more, those with most children first."""
    born = torch.bincount(splits.parent[splits.kind >= PART], minlength=len(splits.parent_fires))
    order = torch.argsort(born, descending=True, stable=True)
    return [
        {
            "a": a.label,
            "b": b.label,
            "parent": parent,
            "label": a.label_of(parent),
            "firings": int(splits.parent_fires[parent]),
            "children": [_child(b, splits, child) for child in splits.children(parent)],
        }
        for parent in order[: int((born >= 2).sum())].tolist()
    ]


def _child(b: Chosen, splits: Splits, child: int) -> dict[str, Any]:
    figures = {name: float(getattr(splits, name)[child]) for name in ("cosine", "correlation", "shared", "covers")}
    kind = KINDS[int(splits.kind[child])]
    return {"feature": child, "kind": kind, "label": b.label_of(child), "firings": int(splits.fires[child]), **figures}


def _tree(line: Lineup, splits: list[Splits], family: Sequence[str]) -> dict[str, Any]:
    """The tree below the latent of the narrowest dictionary that best tells the words of a family from all else."""
    narrow = line.codes(line.chosen[0])
    mentions = find_mentions(line.store, family)
    inside = torch.zeros(line.store.n_tokens + 1, dtype=torch.long)
    inside.index_add_(0, mentions.first, torch.ones_like(mentions.first))
    inside.index_add_(0, mentions.last, -torch.ones_like(mentions.last))
    wanted = (inside.cumsum(0) > 0)[narrow.token]
    if not wanted.any():
        raise BadRequest(f"None of {', '.join(family)} is mentioned in the held-out text; choose other words.")
    root = best_teller(narrow, wanted)
    below = nodes_below(splits, root.feature)
    levels = [line.codes_of(one, nodes) for one, nodes in zip(line.chosen, below, strict=True)]
    tree = grow(levels, splits, root.feature)
    return {
        "family": list(family),
        "tokens": int(wanted.sum()),
        "root": asdict(root),
        "tree": _branch(line, levels, tree, wanted),
    }


def _branch(line: Lineup, levels: list[Codes], node: Branch, wanted: torch.Tensor) -> dict[str, Any]:
    codes, one = levels[node.level], line.chosen[node.level]
    rows, values = codes.columns.of_latent(node.feature)
    told = asdict(node) | {
        "dictionary": one.label,
        "label": one.label_of(node.feature),
        "words": _peak_words(line, codes, rows, values),
        "family_share": float(wanted[rows].double().mean()) if len(rows) else 0.0,
    }
    return told | {"children": [_branch(line, levels, child, wanted) for child in node.children]}


def _peak_words(line: Lineup, codes: Codes, rows: torch.Tensor, values: torch.Tensor) -> list[str]:
    """The words on which a latent's strongest firings lie, the heaviest first; how a word is written does not count."""
    top = values.topk(min(_PEAK_ROWS, len(values))).indices
    heavy: dict[str, float] = {}
    spelt: dict[str, str] = {}
    for token, value in zip(codes.token[rows[top]].tolist(), values[top].tolist(), strict=True):
        word = line.words.surfaces[int(line.words.surface[int(line.words.of_token[token])])].strip()
        if word:
            spelt.setdefault(word.casefold(), word)
            heavy[word.casefold()] = heavy.get(word.casefold(), 0.0) + value
    return [spelt[word] for word in sorted(heavy, key=lambda word: -heavy[word])[:_PEAK_WORDS]]


def _completeness(line: Lineup, replacing_it: bool) -> dict[str, Any]:
    found = [_concepts(line, one, replacing_it) for one in line.chosen]
    reach = [reach for _, concepts, about in found for reach in _reach(concepts, about["alive"])]
    present = [concept.present for _, concepts, _ in found for concept in concepts]
    return {
        "text": line.text,
        "dictionaries": [figures | {"name": one.label} for one, _, figures in found],
        "fit": asdict(fit_presence(reach, present)) if present else None,
    }


def _concepts(line: Lineup, one: Chosen, replacing_it: bool) -> tuple[Chosen, list[Concept], dict[str, Any]]:
    folder = line.folder(one.label)
    inputs = {"digest": one.digest, "activations_digest": line.shards.digest, "text_digest": line.store.digest}
    request = {"dictionary": one.label, **inputs, "fewest": FEWEST, "others": OTHERS, "candidates": CANDIDATES}
    kept = None if replacing_it else load_concepts(folder, request)
    if kept is not None:
        return one, *kept
    code, seen = read_units(one.dictionary, line.shards, line.units, line.store.n_tokens, line.progress)
    found, control = completeness(code, seen), completeness(code, shuffled(seen))
    alive = int((one.dictionary.stats.density > 0).sum())
    figures = _presence(found, control, alive) | {"latents": one.dictionary.n_latents, "units": code.n_rows}
    save_concepts(folder, found, control, figures, request)
    return one, found, figures


def _reach(concepts: list[Concept], alive: int) -> list[float]:
    return [concept.frequency * alive for concept in concepts]


def _presence(found: list[Concept], control: list[Concept], alive: int) -> dict[str, Any]:
    reach, present = _reach(found, alive), [concept.present for concept in found]
    strict = [concept.present and concept.leak <= 0.1 for concept in found]
    return {
        "alive": alive,
        "concepts": len(found),
        "present_share": _share(present),
        "present_at_0.7_share": _share([concept.f1 >= 0.7 for concept in found]),
        "present_without_leak_share": _share(strict),
        "present_share_random": _share([concept.present for concept in control]),
        "fit": asdict(fit_presence(reach, present)) if found else None,
        "bins": presence_bins(reach, present) if found else [],
    }


def _share(said: list[bool]) -> float:
    return float(np.mean(said)) if said else 0.0
