"""What it costs to watch: a hundred features read on every token of every stream, beside the same without a monitor.

Batchers over one model take turns with the same prompts: one without a watcher, one whose monitors flag, one whose
monitors block. No monitor fires, so all write the same tokens. An order is one batch of greedy replies that nothing
ends early, timed whole, from the prompts to the last token; costs are taken within a turn. Who blocks feeds the last
token of a reply too, one pass more, so its cost is told with that pass (`cost_percent`) and for each pass
(`pass_cost_percent`). `observe` is a watcher's own time for one step of so many rows, taken alone.
"""

import math
import time
from collections import defaultdict
from typing import Any

import torch
from common import Results, arguments, dictionary_of, say, shards_of, show, spread, study, text_of
from serve_scene import prompts_of

from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import load_dictionary
from monoscope.model.transformer import LanguageModel, load_model
from monoscope.safety.detector import STATISTICS, Detector
from monoscope.safety.monitor import Monitor
from monoscope.safety.watcher import MonitorWatcher, Post
from monoscope.steer.batcher import Batcher
from monoscope.steer.request import Request, bind_request

MOST_COST = 2.0
WAYS = ("none", "flag", "block")
COLUMNS = (
    "way",
    "dtype",
    "streams",
    "tokens_per_second",
    "cost_percent",
    "pass_cost_percent",
    "observe_microseconds",
    "same_as_plain",
)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--dictionary", help="the dictionary; without it the first of the run")
    parser.add_argument("--latents", type=int, default=9216, help="of the quick dictionary of a small study")
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--features", type=int, default=100, help="read on every token")
    parser.add_argument("--monitors", type=int, default=5, help="that share these features")
    parser.add_argument("--statistic", choices=STATISTICS, default="mean")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=48, help="tokens of a reply")
    parser.add_argument("--turns", type=int, default=12, help="turns that count; one more goes before")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    results = Results("monitoring", settings, keys=("way", "model", "dtype", "streams", "statistic", "features", "cpu"))
    run = study(settings.run, settings.study_tokens)
    name = dictionary_of(run, settings.dictionary, latents=settings.latents, k=settings.k)
    source, dictionary = run.provenance(name)["model"], load_dictionary(run.dictionary(name))
    prompts = prompts_of(text_of(run, shards_of(run)), max(settings.streams), settings.prompt, settings.seed).tolist()
    wanted = {
        "model": source,
        "dictionary": name,
        "statistic": settings.statistic,
        "features": settings.features,
        "monitors": settings.monitors,
        "prompt_tokens": settings.prompt,
        "new_tokens": settings.new,
        "turns": settings.turns,
    }
    for dtype in settings.dtypes:
        if all(results.done(**wanted, dtype=dtype, streams=count) for count in settings.streams):
            say(f"{dtype} was measured at this commit; --again measures it again")
            continue
        rows = race(load_model(source, dtype=dtype), dictionary, prompts, settings)
        results.put([{**row, **wanted, "dtype": dtype} for row in rows])
    rows = [row for row in results.rows if all(row.get(key) == value for key, value in wanted.items())]
    show(rows, COLUMNS)
    verdict(rows)


def race(model: LanguageModel, dictionary: Dictionary, prompts: list[list[int]], settings: Any) -> list[dict[str, Any]]:
    """All ways at all numbers of streams, turn after turn."""
    watchers = {way: watcher_of(dictionary, way, settings) for way in WAYS[1:]}
    batchers = {way: Batcher(model, watchers=[watchers[way]] if way in watchers else []) for way in WAYS}
    rates: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    replies: dict[tuple[str, int], list[list[int]]] = {}
    cells = [(way, count) for count in settings.streams for way in WAYS]
    try:
        for turn in range(settings.turns + 1):
            for way, count in cells if turn % 2 else reversed(cells):
                rate, replies[way, count] = take_turn(batchers[way], dictionary, prompts[:count], settings.new)
                if turn:
                    rates[way, count][turn] = rate
                say(f"turn {turn}: {way}, {count} streams: {rate:,.1f} tokens a second")
    finally:
        for batcher in batchers.values():
            batcher.close()
    return [row_of(cell, rates, replies, model, watchers, settings) for cell in cells]


def take_turn(
    batcher: Batcher, dictionary: Dictionary, prompts: list[list[int]], tokens: int
) -> tuple[float, list[list[int]]]:
    """Tokens a second of one batch of replies, and the replies."""
    requests = [request_of(prompt, tokens) for prompt in prompts]
    began = time.perf_counter()
    tickets = batcher.submit(dictionary, requests)
    found = [[event.token for event in ticket if event.token is not None] for ticket in tickets]
    return sum(map(len, found)) / (time.perf_counter() - began), found


def request_of(prompt: list[int], tokens: int) -> Request:
    """Greedy, of exactly so many tokens."""
    return Request(tuple(prompt), temperature=0.0, repetition_penalty=1.0, max_tokens=tokens, stop_ids=frozenset())


def watcher_of(dictionary: Dictionary, way: str, settings: Any) -> MonitorWatcher:
    """Monitors over features that fire, drawn by the seed, with thresholds that nothing reaches."""
    alive = torch.nonzero(dictionary.stats.max > 0).flatten()
    stream = torch.Generator().manual_seed(settings.seed)
    chosen = alive[torch.randperm(len(alive), generator=stream)[: settings.features]]
    posts = []
    for number, features in enumerate(chosen.chunk(settings.monitors)):
        weights = torch.rand(len(features), generator=stream, dtype=torch.double)
        detector = Detector(features, weights, 0.0, settings.statistic)
        monitor = Monitor(f"m{number}", "features", detector, math.inf, dictionary.name, "", Site(0))
        posts.append(Post(monitor, way))
    return MonitorWatcher(posts, dictionary)


def row_of(  # noqa: PLR0913
    cell: tuple[str, int], rates: Any, replies: Any, model: LanguageModel, watchers: Any, settings: Any
) -> dict[str, Any]:
    """What the turns say of one way."""
    way, count = cell
    row: dict[str, Any] = {"way": way, "streams": count, "tokens_per_second": spread(rates[cell].values())}
    if way == "none":
        return row
    mine, plain = rates[cell], rates["none", count]
    costs = [plain[turn] / mine[turn] for turn in mine]
    # The prompt is read in one pass, which draws the first token; who blocks feeds the last token too.
    passes = settings.new / (settings.new + 1) if way == "block" else 1.0
    row["cost_percent"] = spread(100 * (cost - 1) for cost in costs)
    row["pass_cost_percent"] = spread(100 * (cost * passes - 1) for cost in costs)
    row["observe_microseconds"] = observe_alone(model, watchers[way], count)
    row["same_as_plain"] = sum(map(list.__eq__, replies[cell], replies["none", count])) / count
    return row


def observe_alone(model: LanguageModel, watcher: MonitorWatcher, rows: int, steps: int = 400) -> dict[str, float]:
    """Microseconds of one step's `observe`, with nothing else running."""
    numbers = tuple(range(rows))
    x = torch.randn(rows, 1, model.d_model)
    for number in numbers:
        watcher.begin(number, bind_request(model, None, request_of([0, 1], steps)))
    found = []
    with torch.inference_mode():
        for place in range(2, steps):
            positions = torch.full((rows, 1), place)
            began = time.perf_counter()
            watcher.observe(numbers, positions, x)
            found.append(1e6 * (time.perf_counter() - began))
    for number in numbers:
        watcher.end(number)
    return spread(found[steps // 10 :])


def verdict(rows: list[dict[str, Any]]) -> None:
    """Say what the goal is and whether it is met."""
    print()
    for row in rows:
        if row["way"] == "none":
            continue
        cost = row["cost_percent"]
        met = "met" if cost["median"] <= MOST_COST else "NOT met"
        print(
            f"{row['dtype']}, {row['streams']} streams, {row['way']}: {row['features']} features cost "
            f"{cost['median']:.3g} % ({cost['min']:.3g} to {cost['max']:.3g}), "
            f"{row['pass_cost_percent']['median']:.3g} % a pass; goal at most {MOST_COST:g} {met}"
        )


if __name__ == "__main__":
    main()
