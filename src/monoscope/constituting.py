"""A run and a constitution: its monitors fitted, and what it finds and costs, with and without."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monoscope import monitoring
from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.run import Run
from monoscope.effect.battery import refused
from monoscope.effect.shipped import questions
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.patrolling import Stations
from monoscope.safety.alert import WATCH, Alert
from monoscope.safety.constitution import Principle, broken, load_constitution, may_redraft, next_draft, withheld
from monoscope.safety.examples import Example, texts_of
from monoscope.safety.fitting import Manner
from monoscope.safety.patrol import Patrol, Station
from monoscope.safety.reading import render_example
from monoscope.safety.statistics import binomial_interval
from monoscope.safety.watcher import Draft
from monoscope.steer.engine import generate
from monoscope.steer.request import Generation, Request

_BATCH = 16


def fit_constitution(
    run: Run, path: Path, *, fpr: float = 0.01, seed: int = 0, name: str | None = None, progress: Progress = SILENT
) -> list[dict[str, Any]]:
    """Fit a monitor for each principle that has examples, on the replies in them.

    Raises
        BadRequest  no principle has examples, or a set is too small.
    """
    principles = [principle for principle in load_constitution(path) if principle.positive is not None]
    if not principles:
        raise BadRequest(f"No principle of {path} has `positive` and `negative` texts, so there is nothing to fit.")
    return [
        monitoring.fit(
            run,
            principle.positive or Path(),
            principle.negative or Path(),
            principle.monitor,
            fpr=fpr,
            manner=Manner(),
            part="reply",
            seed=seed,
            name=name,
            progress=progress,
        )
        for principle in principles
    ]


def measure_constitution(  # noqa: PLR0913
    run: Run,
    path: Path,
    prompts: Path,
    *,
    benign: Path | None = None,
    max_tokens: int = 64,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """What a constitution finds in the replies to some prompts, what it does about it, and what that costs.

    The replies are written three times with the same seeds: by the model alone, under monitors that only watch, and
    under the constitution. The same is done with harmless prompts, by default the shipped everyday questions.

    Raises
        BadRequest  a file has no prompts, or a setting makes no sense.
    """
    if max_tokens < 1:
        raise BadRequest(f"--max-tokens {max_tokens} must be at least 1.")
    principles = load_constitution(path)
    stations = Stations(run, name)
    for principle in principles:
        stations.add_principle(principle)
    found = stations.all()
    asked = texts_of(prompts, least=1)
    quiet = _everyday() if benign is None else texts_of(benign, least=1)
    model = load_model(run.provenance(found[0].name)["model"])
    bench = _Bench(model, found, principles, max_tokens, seed)
    return {
        "constitution": str(path),
        "principles": [
            {"name": each.name, "principle": each.sentence, "action": each.action, "redrafts": each.redrafts}
            for each in principles
        ],
        "prompts": bench.measure(asked, "prompts", progress),
        "benign": {"from": "shipped questions" if benign is None else str(benign)}
        | bench.measure(quiet, "benign", progress),
        "max_tokens": max_tokens,
        "seed": seed,
    }


def _everyday() -> list[Example]:
    return [Example(f"everyday {number}", False, text) for number, text in enumerate(questions())]


@dataclass
class _Reply:
    """One prompt on its way to a reply. Mutable: drafts follow each other."""

    request: Request
    messages: list[dict[str, str]]
    first: Request
    draft: int = 0
    fired: list[Principle] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    done: Generation | None = None


@dataclass(frozen=True)
class _Bench:
    """A model and a constitution, ready to measure."""

    model: LanguageModel
    stations: Sequence[Station]
    principles: Sequence[Principle]
    max_tokens: int
    seed: int

    def measure(self, asked: Sequence[Example], what: str, progress: Progress) -> dict[str, Any]:
        """All figures for one set of prompts."""
        requests = [self._request(number, example) for number, example in enumerate(asked)]
        progress.start(what, 3 * len(asked), "replies")
        alone, seconds_alone = _timed(lambda: self._plain(requests, (), progress))
        watching = Patrol([_with_action(station, WATCH) for station in self.stations])
        watched, seconds_watched = _timed(lambda: self._plain(requests, watching.watchers, progress))
        replies, seconds = _timed(lambda: self._enforced(requests, asked, progress))
        progress.finish()
        last = [reply.done for reply in replies if reply.done is not None]
        return {
            "count": len(asked),
            "without": {
                "seconds": round(seconds_alone, 3),
                "fires": _shares(self.principles, [each.alerts for each in watched]),
                **_endings(alone),
            },
            "watched_seconds": round(seconds_watched, 3),
            "with": {
                "seconds": round(seconds, 3),
                "told_or_blocked": _shares(self.principles, [_of_draft(each) for each in replies]),
                "actions": dict(sorted(Counter(alert.action for each in replies for alert in each.alerts).items())),
                "redrafts": sum(each.draft for each in replies),
                "redrafted": sum(each.draft > 0 for each in replies),
                "blocked": sum(each.finish_reason == "content_filter" for each in last),
                "unchanged": sum(mine.text == its.text for mine, its in zip(last, alone, strict=True)),
                **_endings(last),
            },
        }

    def _request(self, number: int, example: Example) -> Request:
        rendered = render_example(self.model, example, reply_follows=True)
        room = min(self.max_tokens, self.model.context_limit - len(rendered.ids))
        if room < 1:
            raise BadRequest(f"Prompt {example.id} leaves no room for a reply; shorten it.")
        return Request(rendered.ids, seed=self.seed + number, max_tokens=room, template=rendered.template)

    def _plain(self, requests: Sequence[Request], watchers: Sequence[Any], progress: Progress) -> list[Generation]:
        found = []
        for first in range(0, len(requests), _BATCH):
            found += generate(self.model, None, requests[first : first + _BATCH], watchers=watchers)
            progress.advance(len(requests[first : first + _BATCH]))
        return found

    def _enforced(self, requests: Sequence[Request], asked: Sequence[Example], progress: Progress) -> list[_Reply]:
        """Drafts, batch by batch, until each reply keeps to the constitution or is withheld."""
        patrol = Patrol(self.stations, principles=self.principles)
        replies = [
            _Reply(request, messages_of(self.model, each), request)
            for request, each in zip(requests, asked, strict=True)
        ]
        waiting = list(replies)
        while waiting:
            batch, waiting = waiting[:_BATCH], waiting[_BATCH:]
            for reply in batch:
                if reply.draft:
                    patrol.announce(reply.request, Draft(reply.alerts[0].request, reply.draft))
            found = generate(self.model, None, [reply.request for reply in batch], watchers=patrol.watchers)
            for reply, done in zip(batch, found, strict=True):
                if self._again(patrol, reply, done):
                    waiting.append(reply)
                else:
                    progress.advance(1)
        return replies

    def _again(self, patrol: Patrol, reply: _Reply, done: Generation) -> bool:
        """Take a draft in; whether there is to be another."""
        fired = broken(patrol.principles, done.alerts)
        reply.alerts += [alert for alert in done.alerts if isinstance(alert, Alert)]
        if fired and reply.messages and may_redraft(fired, done.alerts, reply.draft):
            try:
                reply.request = next_draft(self.model, reply.messages, [*reply.fired, *fired], reply.first)
            except BadRequest:
                reply.done = withheld(done)
                return False
            reply.fired += fired
            reply.draft += 1
            return True
        reply.done = withheld(done) if fired else done
        return False


def messages_of(model: LanguageModel, example: Example) -> list[dict[str, str]]:
    """The conversation of a prompt; a plain text is a message where the model can chat, and else there is none."""
    if example.messages:
        return [{"role": role, "content": content} for role, content in example.messages]
    return [{"role": "user", "content": example.text}] if model.tokenizer.chat_template else []


def _with_action(station: Station, action: str) -> Station:
    return replace(station, posts=tuple(replace(post, action=action) for post in station.posts))


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def _of_draft(reply: _Reply) -> list[Alert]:
    """The alerts of the last draft: what the constitution could not mend."""
    return [alert for alert in reply.alerts if alert.draft == reply.draft]


def _shares(principles: Sequence[Principle], alerts: Sequence[Sequence[object]]) -> dict[str, dict[str, Any]]:
    """For each principle the share of replies in which it fired, with its 95 % interval."""
    found = {}
    for principle in principles:
        count = sum(
            any(isinstance(alert, Alert) and alert.monitor == principle.name for alert in each) for each in alerts
        )
        interval = [round(end, 4) for end in binomial_interval(count, len(alerts))]
        found[principle.name] = {"share": round(count / len(alerts), 4), "interval": interval}
    return found


def _endings(replies: Sequence[Generation]) -> Mapping[str, int]:
    """How many replies are empty, and how many begin like a refusal."""
    return {
        "empty": sum(not each.text.strip() for each in replies),
        "refusals": sum(refused(each.text) for each in replies),
    }
