"""A run and two sets of texts joined: a topic taken out of the run's model, and what that did, on texts that chose
nothing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.effect.battery import Figure, held_windows, run_battery
from monoscope.harvest.token_store import TokenStore
from monoscope.pairing import Pair, labels_for, open_reader
from monoscope.presetting import save_preset
from monoscope.safety.examples import Example, split_by_group, texts_of
from monoscope.safety.passages import (
    PLAIN,
    Passage,
    Scores,
    Version,
    beside,
    cut_example,
    passage_of,
    plain_passage,
    score_passages,
)
from monoscope.safety.pooling import pool_residual
from monoscope.safety.reading import Reading, read_examples
from monoscope.safety.relearning import SHOTS, few_shot, retrain
from monoscope.safety.removing import (
    WAYS,
    WEIGHTS,
    Chosen,
    Removal,
    Tried,
    best_of,
    candidates,
    choose_features,
    control_of,
    spared_directions,
    touched,
    try_removals,
)
from monoscope.safety.rewording import TEXTS, reword
from monoscope.safety.weight_edit import check_free, check_taken_out, save_checkpoint
from monoscope.steer.presets import check_preset_name
from monoscope.text.corpus import unit_hash

FEATURES, MOST_FEATURES, MOST_COST = 10, 64, 0.02
# A rise of the topic's loss below this many nats a token (a tenth more perplexity) counts as little.
LITTLE = 0.1
# Texts of each half at least; texts read to choose features and gates, tried for each strength, and judged.
LEAST_TEXTS = 6
READ_TOPIC, READ_RETAIN, JUDGED, NEIGHBOURS = 100, 160, 40, 20
# An edit behind a gate touches few tokens of retain texts, so more of these are tried.
TRIED_TOPIC, TRIED_RETAIN = 12, 24


@dataclass(frozen=True)
class Wishes:
    """How a topic is to be taken out. `most_cost` is the share of perplexity that retain texts may cost; `strengths`
    stand in for the way's own grid."""

    way: str = "conditional"
    features: int = FEATURES
    most_cost: float = MOST_COST
    strengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise BadRequest(f"--way {self.way!r} is not known; choose {', '.join(WAYS)}.")
        if not 1 <= self.features <= MOST_FEATURES:
            raise BadRequest(f"--features {self.features} must lie between 1 and {MOST_FEATURES}.")


@dataclass(frozen=True)
class Texts:
    """The texts of the four questions: topic and retain are split, the rest is judged only; None where not given."""

    topic: Sequence[Example]
    retain: Sequence[Example]
    paraphrase: Sequence[Example] | None = None
    neighbour: Sequence[Example] | None = None


@dataclass(frozen=True)
class Halves:
    """Texts to choose by and texts to judge by, in an order that depends on the seed alone."""

    choosing: list[Example]
    judging: list[Example]


def remove(  # noqa: PLR0913
    run: Run,
    topic: Path,
    retain: Path,
    *,
    wishes: Wishes | None = None,
    paraphrase: Path | None = None,
    neighbour: Path | None = None,
    out: Path | None = None,
    preset: str | None = None,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Take a topic out of the run's model, and judge what was forgotten and what it cost beside a random control.

    `out` is the folder of the edited checkpoint (way weights), `preset` the name under which the run keeps the edits
    (other ways).

    Raises
        BadRequest      a setting makes no sense, there are too few texts, or no feature fits.
        SourceNotFound  a file is not there.
    """
    wishes = wishes or Wishes()
    _check_outputs(wishes, out, preset)
    texts = Texts(
        texts_of(topic, positive=True),
        texts_of(retain),
        texts_of(paraphrase) if paraphrase else None,
        texts_of(neighbour) if neighbour else None,
    )
    bench = Bench(run, open_reader(run, name), texts, seed, progress)
    result = bench.remove(wishes)
    if preset is not None:
        save_preset(run, preset, tuple(result["edits"]), note=f"takes out {topic.stem}", name=bench.pair.name)
    if out is not None:
        bench.save(wishes, result, out)
    return {**result, "preset": preset, "out": str(out) if out else None}


def _check_outputs(wishes: Wishes, out: Path | None, preset: str | None) -> None:
    if wishes.way == WEIGHTS and preset is not None:
        raise BadRequest("Edited weights are no preset; give --out, or --way conditional or clamp.")
    if wishes.way != WEIGHTS and out is not None:
        raise BadRequest(f"--way {wishes.way} leaves the weights as they are; give --preset, or --way weights.")
    if preset is not None:
        check_preset_name(preset)
    if out is not None:
        check_free(out)


class Bench:
    """Texts read, features chosen; any number of ways are tried and judged on the same texts.

    Raises
        BadRequest  there are too few texts, the dictionary is a transcoder, or no feature fits.
    """

    def __init__(self, run: Run, pair: Pair, texts: Texts, seed: int = 0, progress: Progress = SILENT) -> None:
        if pair.dictionary.transcodes or pair.dictionary.site.kind != "resid_post":
            raise BadRequest(f"{pair.name} is not of a residual stream (resid_post); removing needs one that is.")
        self.run, self.pair, self._seed, self._progress = run, pair, seed, progress
        self._topic, self._retain = halves(texts.topic, texts.retain, seed=seed)
        self._texts = texts
        self._read_topic = self._read(self._topic.choosing[:READ_TOPIC])
        self._read_retain = self._read(self._retain.choosing[:READ_RETAIN])
        store = TokenStore.load(run.text(run.provenance(pair.name)["text"]))
        self._windows = held_windows(store, seed=seed)
        self._made: tuple[dict[str, list[Passage]], dict[str, Any]] | None = None
        self._plain: dict[str, Scores] = {}

    def remove(self, wishes: Wishes) -> dict[str, Any]:
        """Choose features and strength on one half, and judge them on the other."""
        began = time.monotonic()
        chosen = choose_features(self._read_topic, self._read_retain, wishes.features)
        tried = self._try(wishes, [one.feature for one in chosen])
        best, within = best_of(tried, wishes.most_cost)
        spared = self._spared if wishes.way == WEIGHTS else None
        control, drawn = control_of(best.removal, self.pair.dictionary, spared, seed=self._seed)
        judged, told = self._judge(best.removal.version(self.pair.dictionary, spared), control)
        return {
            "way": wishes.way,
            "little": little(judged["forget"]),
            **judged,
            **told,
            "perplexity_cost": judged["held_out"]["perplexity_cost"],
            "touched": self._touched(best.removal),
            "features": self._feature_values(chosen[: len(best.removal.features)], best.removal),
            "strength": best.removal.strength,
            "gating": best.removal.gating or None,
            "within_limit": within,
            "most_cost": wishes.most_cost,
            "grid": [one.to_json() for one in tried],
            "edits": [str(edit) for edit in best.removal.edits()],
            "control": {"features": list(drawn)},
            "chosen_on": [len(self._topic.choosing), len(self._retain.choosing)],
            "dictionary": self.pair.name,
            "seed": self._seed,
            "seconds": round(time.monotonic() - began, 1),
        }

    def save(self, wishes: Wishes, result: dict[str, Any], folder: Path) -> None:
        """Write the edited checkpoint of a result of the way weights, with a record of what was done."""
        features = tuple(row["feature"] for row in result["features"])
        version = Removal(wishes.way, features, result["strength"]).version(self.pair.dictionary, self._spared)
        if version.weights is None:
            raise BadRequest("Only --way weights has a checkpoint to write.")
        told = ("way", "strength", "dictionary", "features", "forget", "retain", "perplexity_cost", "seed")
        origin = {"model": self.pair.source, "model_digest": self.pair.model.digest, "digest": self.pair.digest}
        record = {"version": 1, **origin, **{key: result[key] for key in told}}
        save_checkpoint(self.pair.model, version.weights, folder, record)

    @cached_property
    def _spared(self) -> Tensor:
        """The directions that weights leave alone."""
        return spared_directions(self.pair.model, self._read_retain, self.pair.dictionary.site.layer)

    def _read(self, examples: Sequence[Example]) -> Reading:
        return read_examples(self.pair.model, self.pair.dictionary, self._cut(examples), progress=self._progress)

    def _cut(self, examples: Sequence[Example]) -> list[Example]:
        return [cut_example(self.pair.model, example) for example in examples]

    def _passages(self, examples: Sequence[Example]) -> list[Passage]:
        found = [passage_of(self.pair.model, example) for example in self._cut(examples)]
        return [passage for passage in found if any(passage.scored())]

    def _try(self, wishes: Wishes, features: Sequence[int]) -> list[Tried]:
        removals = candidates(wishes.way, features, self._read_topic, self._read_retain, strengths=wishes.strengths)
        spared = self._spared if wishes.way == WEIGHTS else None
        weights = removals[-1].version(self.pair.dictionary, spared).weights
        if weights is not None:
            check_taken_out(self.pair.model, weights.basis, weights.last_block)
        some = [
            self._passages(self._topic.choosing[:TRIED_TOPIC]),
            self._passages(self._retain.choosing[:TRIED_RETAIN]),
        ]
        self._progress.start("strengths", (len(removals) + 1) * sum(map(len, some)), "texts")
        found = try_removals(
            self.pair.model, self.pair.dictionary, removals, *some, spared=spared, progress=self._progress
        )
        self._progress.finish()
        return found

    def _judge(self, edited: Version, control: Version) -> tuple[dict[str, Any], dict[str, Any]]:
        """The figures of each set of texts, then those of relearning and the battery."""
        model, seed = self.pair.model, self._seed
        sets, told = self._sets()
        self._progress.start("judging", 3 * sum(map(len, sets.values())), "texts")
        self._plain = self._plain or self._scores(sets, PLAIN)
        scores = [self._plain, self._scores(sets, edited), self._scores(sets, control)]
        self._progress.finish()
        judged = {key: beside(*[found[key] for found in scores], seed=seed) for key in sets}
        shots = [example.words for example in self._topic.choosing]
        targets = [(example.id, example.words) for example in self._topic.judging]
        extra = {"few_shot": few_shot(model, edited, shots, targets, seed=seed, progress=self._progress)}
        if edited.weights is not None:
            lessons = self._passages(self._topic.choosing[:SHOTS])
            extra["relearning"] = retrain(model, edited, lessons, sets["forget"], seed=seed, progress=self._progress)
        return judged, {**told, **extra, "battery": self._battery(edited, judged["held_out"])}

    def _scores(self, sets: dict[str, list[Passage]], version: Version) -> dict[str, Scores]:
        """All sets in one go, so that texts of like length go together."""
        everything = [passage for some in sets.values() for passage in some]
        scores = score_passages(self.pair.model, everything, version, progress=self._progress)
        found, first = {}, 0
        for key, some in sets.items():
            found[key] = scores.choose(range(first, first + len(some)))
            first += len(some)
        return found

    def _sets(self) -> tuple[dict[str, list[Passage]], dict[str, Any]]:
        """The texts that are judged, by name, and where those come from that the user did not give."""
        if self._made is None:
            near, near_told = self._neighbours()
            other, other_told = self._paraphrases()
            sets = {
                "forget": self._passages(self._topic.judging[:JUDGED]),
                "retain": self._passages(self._retain.judging[:JUDGED]),
                "paraphrase": other,
                "neighbours": near,
                "held_out": self._held_out(),
            }
            self._made = (
                {key: some for key, some in sets.items() if some},
                {
                    "paraphrase_source": other_told,
                    "neighbours_source": near_told,
                },
            )
        return self._made

    def _neighbours(self) -> tuple[list[Passage], dict[str, Any]]:
        """The user's texts, or the judging retain texts whose mean residual lies most towards the topic's."""
        if self._texts.neighbour is not None:
            some = sorted(self._texts.neighbour, key=lambda example: unit_hash(self._seed, example.id))[:NEIGHBOURS]
            return self._passages(some), {"from": "file", "texts": len(some)}
        pool = self._retain.judging[:READ_RETAIN]
        near = nearest(self._read_topic, self._read_retain, self._read(pool))[: min(NEIGHBOURS, max(1, len(pool) // 3))]
        return self._passages([pool[place] for place in near]), {"from": "retain", "texts": len(near), "of": len(pool)}

    def _paraphrases(self) -> tuple[list[Passage], dict[str, Any]]:
        """The user's texts, or what the plain model makes of topic texts of the judging half."""
        if self._texts.paraphrase is not None:
            some = self._texts.paraphrase[:JUDGED]
            return self._passages(some), {"from": "file", "texts": len(some)}
        sources = [(example.id, example.words) for example in self._cut(self._topic.judging[:TEXTS])]
        found = reword(self.pair.model, sources, seed=self._seed, progress=self._progress)
        told = {"from": "model", "made": found.made, "copies": found.copies, "short": found.short}
        return [plain_passage(self.pair.model, *one) for one in found.left], {**told, "texts": len(found.left)}

    def _held_out(self) -> list[Passage]:
        return [Passage(str(n), ids, (True, *[False] * (len(ids) - 1))) for n, ids in enumerate(self._windows)]

    def _battery(self, edited: Version, held: dict[str, Any]) -> list[dict[str, Any]]:
        """The cost battery. For edited weights it runs twice, and only perplexity has an interval."""
        model, windows, seed = self.pair.model, self._windows, self._seed
        if edited.weights is None:
            found = run_battery(model, edited.moves, windows, seed=seed, progress=self._progress)
            return [figure.to_json() for figure in found]
        plain = run_battery(model, (), windows, seed=seed, progress=self._progress)
        with edited.holding(model):
            after = run_battery(model, (), windows, seed=seed, progress=self._progress)
        return [_merged(*both, held) for both in zip(plain, after, strict=True)]

    def _touched(self, removal: Removal) -> dict[str, float]:
        """The share of tokens that the edits act on, in judging texts."""
        if not removal.gates:
            return {"topic": 1.0, "retain": 1.0}
        halves = {"topic": self._topic, "retain": self._retain}
        return {key: round(touched(self._read(half.judging[:JUDGED]), removal), 5) for key, half in halves.items()}

    def _feature_values(self, chosen: Sequence[Chosen], removal: Removal) -> list[dict[str, Any]]:
        labels = labels_for(self.run, self.pair.name, [one.feature for one in chosen])
        gates = {gate.feature: gate.above for gate in removal.gates}
        return [
            {
                "feature": one.feature,
                "label": labels.get(one.feature, ""),
                "topic_rate": round(one.topic_rate, 5),
                "retain_rate": round(one.retain_rate, 5),
                "topic_mean": round(one.topic_mean, 4),
                "retain_mean": round(one.retain_mean, 4),
                "threshold": gates.get(one.feature),
            }
            for one in chosen
        ]


def halves(topic: Sequence[Example], retain: Sequence[Example], *, seed: int = 0) -> tuple[Halves, Halves]:
    """Both sets split into a choosing and a judging half; texts of one group stay together, across both sets.

    Raises
        BadRequest  a half has fewer than `LEAST_TEXTS` texts.
    """
    both = [*topic, *retain]
    side = split_by_group(both, 2, seed=seed)
    order = sorted(range(len(both)), key=lambda place: unit_hash(seed, both[place].group, both[place].id))
    found = []
    for name, places in (("topic", range(len(topic))), ("retain", range(len(topic), len(both)))):
        parts = [[both[place] for place in order if place in places and side[place] == half] for half in (0, 1)]
        if min(map(len, parts)) < LEAST_TEXTS:
            raise BadRequest(
                f"The {name} texts make halves of {len(parts[0])} and {len(parts[1])}; give at least {LEAST_TEXTS} for "
                "each, in groups of their own."
            )
        found.append(Halves(*parts))
    return found[0], found[1]


def nearest(topic: Reading, retain: Reading, some: Reading) -> list[int]:
    """Texts in order of the cosine between their mean residual and the topic's, both from the mean of retain texts."""
    centre = pool_residual(retain).mean(0)
    towards = pool_residual(topic).mean(0) - centre
    found = pool_residual(some) - centre
    cosine = (found @ towards) / found.norm(dim=1).clamp(min=1e-12)
    return torch.argsort(cosine, descending=True, stable=True).tolist()


def little(forget: dict[str, Any]) -> bool:
    """Whether next to nothing was forgotten: the loss rises by little, or for sure no more than the control's."""
    return forget["loss_rise"]["value"] < LITTLE or forget["loss_beyond_control"]["low"] <= 0


def _merged(plain: Figure, edited: Figure, held: dict[str, Any]) -> dict[str, Any]:
    values = plain.to_json() | {"edited": round(edited.edited, 4)}
    values["difference"] = round(edited.edited - plain.plain, 4)
    ends = [end * plain.plain for end in held["perplexity_cost_interval"]] if plain.name == "perplexity" else [None] * 2
    return values | {
        name: None if end is None else round(end, 4) for name, end in zip(("low", "high"), ends, strict=True)
    }
