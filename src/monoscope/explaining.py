"""Labels by a judge, scored on held-out text and kept on the desk; without a judge, what the statistics gave."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from monoscope.atlas.query import Atlas
from monoscope.core.errors import BadRequest, FeatureNotFound
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.explain.answers import Asker, Rehearsal
from monoscope.explain.endpoint import EndpointJudge, is_endpoint
from monoscope.explain.feature import Explained, Statistical, explain_feature, living_features, most_conceptual
from monoscope.explain.judge import Judge
from monoscope.explain.local import LocalJudge

DEFAULT_FEATURES = 50
MOST_BATCH = 20
# So many features are gone through for the estimate; of more, they stand for all.
_REHEARSED = 100


@dataclass(frozen=True)
class Estimate:
    """What asking a judge will take. `cached` questions are answered already; tokens are of those still to be asked."""

    features: int
    calls: int
    cached: int
    prompt_tokens: int
    answer_tokens: int

    def __str__(self) -> str:
        kept = f"; {self.cached:,} are answered already" if self.cached else ""
        return (
            f"{self.features:,} features: about {self.calls:,} questions, {self.prompt_tokens:,} tokens to read and "
            f"{self.answer_tokens:,} to write{kept}"
        )


def explain(  # noqa: PLR0913  one setting for each flag of the command
    run: Run,
    judge: str | Judge | None = None,
    *,
    features: Sequence[int] = (),
    limit: int | None = None,
    batch: int = 5,
    dry_run: bool = False,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = SILENT,
    tell: Callable[[str], None] = lambda _text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Label features with a judge, or report the statistical labels where there is none.

    `judge` is URL#MODEL, the source of a model to load, or a judge. Without `features`, the most concept-like living
    ones, `limit` of them (50). Every answer is kept at once: a stopped run goes on with no question asked twice.

    Raises
        BadRequest        a setting makes no sense, or the model cannot chat.
        FeatureNotFound   a feature is not of this atlas, or never fires.
        Unavailable       the judge cannot be reached or refuses; what it answered is kept.
        InterruptedError  `should_stop` said so; what was answered is kept.
    """
    if not 1 <= batch <= MOST_BATCH:
        raise BadRequest(f"--batch {batch} must lie between 1 and {MOST_BATCH}.")
    if limit is not None and limit < 1:
        raise BadRequest(f"--limit {limit} must be at least 1.")
    named = list(dict.fromkeys(features))[:limit]
    with closing(Atlas.open(run.atlas(run.choose_atlas(name)))) as atlas:
        living = living_features(atlas)
        _check(atlas, living, named)
        if judge is None:
            return statistics(living, named)
        chosen = named or most_conceptual(living, limit or DEFAULT_FEATURES)
        work = _Work(atlas, living, chosen, batch, seed, progress, tell, should_stop)
        return work.run(open_judge(judge) if isinstance(judge, str) else judge, dry_run=dry_run)


def open_judge(source: str) -> Judge:
    """The judge of a source string: URL#MODEL, or a model to load."""
    return EndpointJudge(source) if is_endpoint(source) else LocalJudge.load(source)


def _check(atlas: Atlas, living: dict[int, Statistical], features: Sequence[int]) -> None:
    for feature in features:
        atlas.check_feature(feature)
        if feature not in living:
            raise FeatureNotFound(
                f"Feature {feature} of {atlas.dictionary} never fires, so there is nothing to explain."
            )


def statistics(living: dict[int, Statistical], features: Sequence[int] = ()) -> dict[str, Any]:
    """How good the labels without any judge are, over some features or all that fire."""
    chosen = [living[feature] for feature in features] or list(living.values())
    scores = [one.score for one in chosen]
    return {
        "labelled": len(chosen),
        "method": "statistics",
        "score_median": _median(scores),
        "control_median": _median([one.control for one in chosen]),
        "below_chance": round(sum(score < 0.5 for score in scores) / max(1, len(scores)), 4),
        **dict.fromkeys(("replaced", "calls", "cached", "failed"), 0),
        "features": [Explained(feature, None, None, living[feature]).values() for feature in features],
    }


@dataclass(frozen=True)
class _Work:
    """What is to be explained, and who listens."""

    atlas: Atlas
    living: dict[int, Statistical]
    chosen: list[int]
    batch: int
    seed: int
    progress: Progress
    tell: Callable[[str], None]
    should_stop: Callable[[], bool]

    def run(self, judge: Judge, *, dry_run: bool) -> dict[str, Any]:
        """Tell the price, then ask."""
        estimate = self.estimate(judge)
        self.tell(str(estimate))
        if dry_run:
            return {
                **_result(judge, [], calls=estimate.calls, cached=estimate.cached, unread=0),
                **_told(estimate),
                "dry_run": True,
            }

        def heard(seconds: float, tokens: int) -> None:
            minutes = math.ceil(seconds * estimate.prompt_tokens / max(1, tokens) / 60)
            self.tell(f"the first answer took {seconds:.1f} s; at this rate all take about {minutes:,} min")

        asker = Asker(
            judge,
            self.atlas.desk,
            progress=self.progress,
            should_stop=self.should_stop,
            heard=heard if isinstance(judge, LocalJudge) else None,
        )
        found = []
        self.progress.start("explain", estimate.calls, "questions")
        try:
            for feature in self.chosen:
                found.append(explain_feature(asker, self.atlas, self.living, feature, batch=self.batch, seed=self.seed))
                self.keep(judge, found[-1])
        finally:
            self.progress.finish()
        return {**_result(judge, found, calls=asker.calls, cached=asker.cached, unread=asker.unread), **_told(estimate)}

    def estimate(self, judge: Judge) -> Estimate:
        """Go through the questions without asking; those that depend on answers are filled with likely ones."""
        rehearsal = Rehearsal(judge, self.atlas.desk)
        some = self.chosen[:: max(1, len(self.chosen) // _REHEARSED)]
        for feature in some:
            explain_feature(rehearsal, self.atlas, self.living, feature, batch=self.batch, seed=self.seed)
        counts = (rehearsal.calls, rehearsal.cached, rehearsal.prompt_tokens, rehearsal.answer_tokens)
        share = len(self.chosen) / max(1, len(some))
        return Estimate(len(self.chosen), *(round(count * share) for count in counts))

    def keep(self, judge: Judge, found: Explained) -> None:
        """Put a label on the desk; which one is shown the atlas decides by the score."""
        if found.label is None or found.scores is None:
            return
        details = {**asdict(found.scores), "kind": "judge", "batch": self.batch, "seed": self.seed}
        self.atlas.desk.label(
            found.feature, found.label, score=found.scores.detection, method=_method(judge), details=details
        )


def _method(judge: Judge) -> str:
    return f"judge:{judge.name}"


def _told(estimate: Estimate) -> dict[str, Any]:
    return {"estimate": asdict(estimate)}


def _result(judge: Judge, found: Sequence[Explained], *, calls: int, cached: int, unread: int) -> dict[str, Any]:
    scored = [(one, one.scores) for one in found if one.scores is not None]
    failed = sum(one.asked and one.label is None for one in found)
    return {
        "labelled": len(scored),
        "method": _method(judge),
        "score_median": _median([scores.detection for _, scores in scored]),
        "control_median": _median([scores.shuffled for _, scores in scored]),
        "statistical_median": _median([one.statistical.score for one, _ in scored]),
        "replaced": sum(one.better for one in found),
        "calls": calls,
        "cached": cached,
        "failed": failed,
        "skipped": sum(not one.asked for one in found),
        "unread": unread,
        "features": [one.values() for one in found],
    }


def _median(values: Sequence[float]) -> float | None:
    return round(median(values), 4) if values else None
