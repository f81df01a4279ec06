"""A run and two sets of texts joined: the features that tell them apart, and what turning those does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monoscope.atlas.query import Atlas
from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.pairing import Pair, labels_for, open_reader
from monoscope.safety.causal import CausalBench
from monoscope.safety.examples import Example, labelled, split_by_group
from monoscope.safety.pooling import check_pool
from monoscope.safety.ranking import Ranked, rank_features
from monoscope.safety.reading import read_examples

CAUSAL_FEATURES, CAUSAL_TEXTS = 5, 48


def contrast(  # noqa: PLR0913
    run: Run,
    positive: Path,
    negative: Path,
    *,
    pool: str = "max",
    part: str = "said",
    limit: int = 20,
    causal: bool = True,
    save: str | None = None,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Features that tell two sets of texts apart, proved on texts that did not choose them, beside baselines.

    `ablation_effect` and `amplified_effect` are differences in nats a token (see `safety.causal`), measured on proving
    texts for the first few features. `save` puts the list on the desk of the atlas under this name.

    Raises
        BadRequest  a set is too small, or a setting makes no sense.
    """
    if not 1 <= limit <= 1000:
        raise BadRequest(f"--limit {limit} must lie between 1 and 1000.")
    check_pool(pool)
    examples = labelled(positive, negative)
    if save is not None:
        run.choose_atlas(run.choose_dictionary(name))  # a list without a desk is refused before the model reads
    pair = open_reader(run, name)
    reading = read_examples(pair.model, pair.dictionary, examples, part=part, progress=progress)
    ranking = rank_features(reading, examples, pool=pool, limit=limit, seed=seed)
    effects = _effects(pair, examples, ranking.features, seed, progress) if causal else {}
    labels = labels_for(run, pair.name, [found.feature for found in ranking.features])
    if save is not None:
        Atlas.open(run.atlas(run.choose_atlas(pair.name))).desk.put_list(
            save, [found.feature for found in ranking.features]
        )
    return {
        "results": [_ranked_values(found, labels, effects) for found in ranking.features],
        "baselines": {
            "linear_probe": round(ranking.linear_probe.value, 4),
            "bag_of_words": round(ranking.bag_of_words.value, 4),
            "random_feature": round(ranking.random_feature, 4),
            "all_features": round(ranking.all_features.value, 4),
        },
        "intervals": {
            "linear_probe": ranking.linear_probe.to_json(),
            "bag_of_words": ranking.bag_of_words.to_json(),
            "all_features": ranking.all_features.to_json(),
        },
        "pool": pool,
        "part": part,
        "chosen_on": list(ranking.chosen_on),
        "proved_on": list(ranking.proved_on),
        "fvu": round(reading.fvu, 4),
        "list": save,
        "seed": seed,
    }


def _effects(
    pair: Pair, examples: Sequence[Example], ranked: Sequence[Ranked], seed: int, progress: Progress
) -> dict[int, dict[str, Any]]:
    """The causal side of the first few features, on texts of the proving half."""
    half = split_by_group(examples, 2, seed=seed)
    proving = [example for example, side in zip(examples, half, strict=True) if side == 1]
    some = [
        example
        for label in (True, False)
        for example in [one for one in proving if one.positive == label][: CAUSAL_TEXTS // 2]
    ]
    chosen = [found.feature for found in ranked[:CAUSAL_FEATURES]]
    progress.start("effects", 3 * len(chosen), "edits")
    bench = CausalBench(pair.model, pair.dictionary, some)
    found = {feature: bench.try_feature(feature, seed=seed, progress=progress).to_json() for feature in chosen}
    progress.finish()
    return found


def _ranked_values(found: Ranked, labels: dict[int, str], effects: dict[int, dict[str, Any]]) -> dict[str, Any]:
    effect = effects.get(found.feature)
    return {
        "feature": found.feature,
        "label": labels.get(found.feature, ""),
        "auroc_heldout": round(found.auroc.value, 4),
        "interval": [round(found.auroc.low, 4), round(found.auroc.high, 4)],
        "q": found.q,
        "direction": found.direction,
        "rate_positive": round(found.rate_positive, 4),
        "rate_negative": round(found.rate_negative, 4),
        "mean_positive": round(found.mean_positive, 4),
        "mean_negative": round(found.mean_negative, 4),
        "ablation_effect": None if effect is None else effect["ablated"]["value"],
        "effects": effect,
    }
