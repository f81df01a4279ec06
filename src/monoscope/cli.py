"""One command for each step, in the order of the story. Every command is thin: settings in, a stage called, told.

Results go to stdout (one JSON object with `--json`), everything else to stderr. Torch is imported inside the commands,
so that `--help` answers at once.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from monoscope.console import Board
from monoscope.core.errors import BadRequest, MonoscopeError
from monoscope.core.run import Run

INTERRUPTED = 130

app = App(
    name="monoscope", help="Find the features inside a language model, and use them.", version_flags=["--version"]
)
_stderr = Console(stderr=True)
_stop = threading.Event()

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print exactly one JSON object on stdout.")]
Name = Annotated[
    str | None, Parameter(name="--name", help="Which one, where the run holds several; or what to call it.")
]
Replace = Annotated[bool, Parameter(name="--replace", negative="", help="Make it again, even with other settings.")]
Seed = Annotated[int, Parameter(name="--seed", help="Everything that chance decides follows from this number.")]


def main() -> NoReturn:
    """The entry point: errors become one sentence and an exit status."""
    # Threads that spin while they wait fight with whatever else runs on a small machine: with one busy neighbour on two
    # cores the model read half as fast and wrote a third as fast as with threads that sleep. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run_command(sys.argv[1:]))


def run_command(words: list[str]) -> int:
    """Run one command line; the exit status: 0 done, 1 refused, 2 wrong usage, 130 interrupted."""
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except MonoscopeError as error:
        return _refuse(str(error), error.exit_status)
    except CycloptsError as error:
        return _refuse(f"{error} (monoscope --help lists the commands)", 2)
    except (KeyboardInterrupt, InterruptedError):
        return _refuse("Stopped. What is finished is kept; the same command goes on from there.", INTERRUPTED)
    except BrokenPipeError:
        return 0
    except Exception as error:
        if os.environ.get("MONOSCOPE_TRACE"):
            raise
        where = f"{type(error).__name__}: {error}".splitlines()[0]
        return _refuse(f"Unexpected {where}. MONOSCOPE_TRACE=1 shows where; please report it.", 1)
    return 0


def _refuse(sentence: str, status: int) -> int:
    _stderr.print(
        sentence, style="red" if status != INTERRUPTED else None, highlight=False, markup=False, soft_wrap=True
    )
    return status


def _tell(result: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], str]) -> None:
    sys.stdout.write((json.dumps(result, ensure_ascii=False) if as_json else show(result)) + "\n")
    sys.stdout.flush()


def _stoppable() -> Callable[[], bool]:
    """From here on Ctrl-C and SIGTERM ask for a stop at the next sound place; a second Ctrl-C stops at once."""

    def ask(_number: int, _frame: Any) -> None:
        if _stop.is_set():
            raise KeyboardInterrupt
        _stop.set()
        _stderr.print("Stopping at the next sound place …")

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, ask)
        signal.signal(signal.SIGTERM, ask)
    return _stop.is_set


def _board(run: Run) -> Board:
    return Board(_stderr, run.path / "progress.json")


@app.command
def demo(
    *,
    out: Annotated[Path, Parameter(help="The run folder to make or go on with.")] = Path("runs/demo"),
    serve: Annotated[bool, Parameter(help="Open the explorer and keep it open.")] = True,
    port: Annotated[int | None, Parameter(help="Where the explorer listens (8421, or the next free port).")] = None,
    as_json: AsJson = False,
) -> None:
    """The whole story on a small chat model, from text to a steered answer. About a quarter of an hour."""
    from monoscope.demo import tell_demo, tell_story

    result = tell_story(
        Run(out), Board(_stderr, out / "progress.json"), serve=serve, port=port, should_stop=_stoppable()
    )
    _tell({key: value for key, value in result.items() if key != "address"}, as_json, tell_demo)
    if result.get("address") is not None:
        result["address"].wait(_stop)


@app.command
def harvest(  # noqa: PLR0913  one flag for each setting of the artefact
    run: Path,
    *,
    model: Annotated[str, Parameter(help="smollm2-135m, hf:ORG/NAME, a folder, a .gguf file, or toy.")],
    site: Annotated[str, Parameter(help="resid_post.N: the output of decoder block N, counted from 0.")],
    text: Annotated[str, Parameter(help="A source or a weighted mix: wiki-en=0.6,python-stdlib=0.4, a path, - …")],
    tokens: Annotated[int, Parameter(help="How many tokens to read.")],
    focus: Annotated[
        list[str] | None, Parameter(help="A concept the model writes about itself; may be repeated.")
    ] = None,
    focus_texts: Annotated[int, Parameter(help="How many texts it writes on each.")] = 80,
    context: Annotated[int, Parameter(help="Most tokens of one window.")] = 256,
    name: Name = None,
    replace: Replace = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Text through the model to activations on disk. A stopped harvest goes on where it was."""
    from monoscope import stages

    chosen = tuple(focus or ())
    wanted = stages.TextRequest(
        text,
        tokens,
        chosen,
        focus_texts,
        context=context,
        seed=seed,
        own_share=0.03 * max(1, len(chosen)) if chosen else 0.0,
    )
    place = Run(run)
    result = stages.harvest(
        place, model, site, wanted, name=name, replacing_it=replace, progress=_board(place), should_stop=_stoppable()
    )
    _tell(
        result,
        as_json,
        lambda r: (
            f"{r['rows']:,} activations of {r['documents']:,} documents in {r['shards']} shards, "
            f"{r['bytes'] / 1e9:.2f} GB; {100 * r['dropped_share']:.3f} % of the tokens were sinks"
            + (" (was there already)" if r["skipped"] else "")
        ),
    )


@app.command
def train(  # noqa: PLR0913  one flag for each setting of the artefact
    run: Path,
    *,
    arch: Annotated[
        str, Parameter(help="batchtopk, topk, matryoshka, jumprelu, gated, relu, transcoder …")
    ] = "batchtopk",
    latents: Annotated[list[int] | None, Parameter(help="Size (9216); repeated: several from one reading.")] = None,
    k: Annotated[list[int] | None, Parameter(help="Features a token (32); repeated: several.")] = None,
    target_l0: Annotated[
        float | None, Parameter(help="The same for penalised architectures, which are steered.")
    ] = None,
    penalty: Annotated[float | None, Parameter(help="A fixed coefficient instead (relu, gated, jumprelu).")] = None,
    read_l0: Annotated[
        float | None, Parameter(help="Set the finished thresholds to this L0 instead of the one it trained with.")
    ] = None,
    tokens: Annotated[int, Parameter(help="Training rows, repeats counted.")] = 3_000_000,
    batch: Annotated[int, Parameter(help="Rows of one step.")] = 2048,
    lr: Annotated[
        float | None, Parameter(help="Peak learning rate; by itself, one that suits width and tokens.")
    ] = None,
    resample_tokens: Annotated[int, Parameter(help="Put dead latents elsewhere every so many rows (0: never).")] = 0,
    option: Annotated[
        list[str] | None, Parameter(help="A setting of one architecture, as bandwidth=0.5; may be repeated.")
    ] = None,
    start: Annotated[str | None, Parameter(name="--from", help="Go on from this dictionary of the run.")] = None,
    keep: Annotated[float, Parameter(help="With --from: the share of rows from the text it was trained on.")] = 0.0,
    target: Annotated[str | None, Parameter(help="The activations a transcoder is to tell.")] = None,
    memory: Annotated[str | None, Parameter(help="Stay within so much memory, as 8GB.")] = None,
    name: Name = None,
    activations: Annotated[str | None, Parameter(help="Which activations, where the run holds several.")] = None,
    model: Annotated[
        str | None, Parameter(help="Without shards: run this model while learning (with --site …).")
    ] = None,
    site: Annotated[str | None, Parameter(help="Where, with --model.")] = None,
    text: Annotated[str | None, Parameter(help="On what, with --model.")] = None,
    text_tokens: Annotated[int, Parameter(help="How many tokens of that text there are, with --model.")] = 1_000_000,
    replace: Replace = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Activations to dictionaries. A stopped training goes on, to the bit as if it had not stopped."""
    from monoscope import training
    from monoscope.printing import training_text
    from monoscope.stages import TextRequest
    from monoscope.train.memory import parse_bytes
    from monoscope.train.recipes import parse_options

    place, live = Run(run), None
    if model or site or text:
        if not (model and site and text):
            raise BadRequest("To train without shards name --model, --site and --text together.")
        live = training.LiveSource(model, site, TextRequest(text, text_tokens, seed=seed))
    recipes = training.recipes_of(
        latents or [9216],
        k or [32],
        arch=arch,
        tokens=tokens,
        batch_rows=batch,
        learning_rate=lr,
        penalty=penalty,
        seed=seed,
        target_l0=target_l0,
        read_l0=read_l0,
        resample_tokens=resample_tokens,
        options=parse_options(option or []),
    )
    results = training.train_dictionaries(
        place,
        recipes,
        training.Source(activations, target, start, keep, None if memory is None else parse_bytes(memory)),
        live=live,
        name=name,
        replacing_it=replace,
        progress=(board := _board(place)),
        should_stop=_stoppable(),
        tell=board.say,
    )
    _tell(results[0] if len(results) == 1 else {"dictionaries": results}, as_json, training_text)


@app.command
def sweep(  # noqa: PLR0913  one flag for each setting of the artefact
    run: Path,
    *,
    arch: Annotated[str, Parameter(help="batchtopk, topk or matryoshka.")] = "batchtopk",
    k: Annotated[int, Parameter(help="Features a token (the mean, for batchtopk).")] = 32,
    smallest: Annotated[float, Parameter(help="FLOPs of the cheapest trainings.")] = 1e11,
    budgets: Annotated[int, Parameter(help="How many budgets, each twice the one before.")] = 6,
    widths: Annotated[int, Parameter(help="How many dictionary sizes in each budget.")] = 4,
    batch: Annotated[int, Parameter(help="Rows of one step.")] = 512,
    lr: Annotated[float, Parameter(help="The learning rate about which others are tried.")] = 4e-3,
    name: Name = None,
    activations: Annotated[str | None, Parameter(help="Which activations, where the run holds several.")] = None,
    replace: Replace = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Many small trainings, and the scaling laws through them. A stopped sweep goes on where it was."""
    from monoscope import planner
    from monoscope.printing import sweep_text
    from monoscope.sweep import sweep as measure
    from monoscope.sweep_cells import SweepRequest

    place = Run(run)
    wanted = SweepRequest(arch, k, smallest, budgets, widths, batch_rows=batch, rate=lr, seed=seed)
    found = measure(
        place,
        wanted,
        name=name,
        activations=activations,
        replacing_it=replace,
        progress=_board(place),
        should_stop=_stoppable(),
    )
    budget = f"{found['measured']['budgets'][1]:.3e}"
    result = {**planner.plan(place, budget, name=found["name"]), "name": found["name"], "skipped": found["skipped"]}
    _tell(result, as_json, sweep_text)


@app.command
def plan(
    run: Path | None = None,
    *,
    budget: Annotated[str, Parameter(help="Minutes of this machine, as 30min or 2h, or training FLOPs, as 1e15.")],
    name: Annotated[str | None, Parameter(name="--name", help="Which sweep, where the run holds several.")] = None,
    as_json: AsJson = False,
) -> None:
    """The best dictionary for a budget, by the run's scaling laws or by those of the demo's model."""
    from monoscope import planner
    from monoscope.printing import plan_text

    _tell(planner.plan(None if run is None else Run(run), budget, name=name), as_json, plan_text)


@app.command
def evaluate(run: Path, *, name: Name = None, replace: Replace = False, as_json: AsJson = False) -> None:
    """How much a dictionary explains, and what the model loses with it, on text it has not seen."""
    from monoscope import measuring
    from monoscope.printing import metrics_text

    place = Run(run)
    _tell(measuring.evaluate(place, name=name, replacing_it=replace, progress=_board(place)), as_json, metrics_text)


@app.command
def atlas(run: Path, *, name: Name = None, replace: Replace = False, as_json: AsJson = False) -> None:
    """One pass over the text: density, contexts, tokens, neighbours and a label for every feature."""
    from monoscope import explore

    place = Run(run)
    result = explore.build(place, name=name, replacing_it=replace, progress=_board(place))
    _tell(
        result,
        as_json,
        lambda r: (
            f"{r['alive']:,} of {r['features']:,} features fire; {r['tokens']:,} tokens, "
            f"{r['bytes'] / 1e6:.0f} MB" + (" (was there already)" if r["skipped"] else "")
        ),
    )


@app.command
def search(
    run: Path,
    query: str,
    *,
    by: Annotated[str, Parameter(help="words, or prompt: features that fire on the text.")] = "words",
    limit: Annotated[int, Parameter(help="How many features.")] = 10,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Find features by words, or by a text on which they fire."""
    from monoscope import explore
    from monoscope.printing import hits_text

    _tell(explore.search(Run(run), query, by=by, limit=limit, name=name), as_json, hits_text)


@app.command
def show(run: Path, feature: int, *, name: Name = None, as_json: AsJson = False) -> None:
    """One feature: contexts, histogram, tokens it raises and lowers, neighbours."""
    from monoscope import explore
    from monoscope.printing import feature_text

    _tell(explore.show(Run(run), feature, name=name), as_json, feature_text)


@app.command
def encode(
    run: Path,
    text: str | None = None,
    *,
    input: Annotated[Path | None, Parameter(name="--input", help="JSON lines with text or messages.")] = None,  # noqa: A002
    pool: Annotated[str | None, Parameter(help="max or mean: one list of features for each text.")] = None,
    out: Annotated[Path | None, Parameter(help="Write the codes to this Parquet file.")] = None,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Which features fire on a text, token by token or pooled."""
    from monoscope import explore
    from monoscope.printing import codes_text

    _tell(explore.encode(Run(run), text, input, pool=pool, out=out, name=name), as_json, codes_text)


@app.command
def steer(  # noqa: PLR0913  one flag for each setting of the answer
    run: Path,
    *,
    prompt: str,
    edit: Annotated[list[str] | None, Parameter(help="As '8011 add 0.4r'; may be repeated.")] = None,
    preset: Annotated[str | None, Parameter(help="A saved set of edits, before any --edit.")] = None,
    chat: Annotated[bool, Parameter(negative="", help="The prompt is a message to the assistant.")] = False,
    max_tokens: int = 60,
    temperature: Annotated[float, Parameter(help="0 is greedy.")] = 0.7,
    name: Name = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The same answer with and without edits, same seed, with a proof of what was edited."""
    from monoscope import explore
    from monoscope.printing import steered_text

    result = explore.steer(
        Run(run),
        prompt,
        tuple(edit or ()),
        preset=preset,
        chat=chat,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        name=name,
    )
    _tell(result, as_json, steered_text)


@app.command
def preset(
    run: Path,
    action: Annotated[str, Parameter(help="save, list, show or delete.")],
    preset: Annotated[str | None, Parameter(help="Its name, as golden-gate.")] = None,
    *,
    edit: Annotated[list[str] | None, Parameter(help="What to save; may be repeated.")] = None,
    note: Annotated[str, Parameter(help="A line on what it is for.")] = "",
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Named sets of edits: preset RUN save|list|show|delete NAME."""
    from monoscope import explore
    from monoscope.printing import preset_text

    place = Run(run)
    actions: dict[str, Callable[[str], dict[str, Any]]] = {
        "save": lambda named: explore.save_preset(place, named, tuple(edit or ()), note=note, name=name),
        "show": lambda named: explore.show_preset(place, named),
        "delete": lambda named: explore.delete_preset(place, named),
    }
    if action == "list":
        _tell(explore.list_presets(place), as_json, preset_text)
    elif action not in actions:
        raise BadRequest(f"There is no preset {action!r}; write preset RUN save, list, show or delete.")
    elif preset is None:
        raise BadRequest(f"Which preset? Write preset RUN {action} NAME.")
    else:
        _tell(actions[action](preset), as_json, preset_text)


@app.command
def compare(
    *dictionaries: Annotated[str, Parameter(help="RUN:NAME, two or more; RUN alone where it holds one.")],
    titles: Annotated[bool, Parameter(negative="", help="Which titles of the text each has a feature for.")] = False,
    family: Annotated[str | None, Parameter(help="Words such as 'france,germany': how their feature splits.")] = None,
    parents: Annotated[str, Parameter(help="How parents are found: by direction, or by firing.")] = "direction",
    limit: Annotated[int | None, Parameter(help="How many matches and splits of each pair.")] = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Which features dictionaries share, how they split in wider ones, and which concepts they have."""
    from monoscope.comparing import compare as compare_dictionaries
    from monoscope.printing import compare_text

    words = [word.strip() for word in (family or "").split(",") if word.strip()]
    result = compare_dictionaries(
        dictionaries,
        by_titles=titles,
        family=words,
        parents=parents,
        limit=limit,
        replacing_it=replace,
        progress=Board(_stderr),
    )
    _tell(result, as_json, compare_text)


@app.command
def serve(
    run: Path,
    *,
    host: Annotated[str, Parameter(help="Where to listen; beyond this machine a --token is needed.")] = "127.0.0.1",
    port: Annotated[int | None, Parameter(help="8421, or the next free port.")] = None,
    token: Annotated[str | None, Parameter(help="What visitors must know.")] = None,
    allow_host: Annotated[
        list[str] | None, Parameter(help="A further Host name to answer to; may be repeated.")
    ] = None,
    name: Name = None,
) -> None:
    """Open the explorer in a browser."""
    from monoscope.serve.app import serve as serve_run

    serve_run(run, host=host, port=port, token=token, name=name, allow_hosts=tuple(allow_host or ()))


@app.command
def repair(run: Path, *, as_json: AsJson = False) -> None:
    """Check every byte of the activations; what is damaged is removed, and harvest makes it again."""
    from monoscope import stages

    _tell(stages.repair_run(Run(run)), as_json, lambda r: "\n".join([*r["damaged"], r["next"]]).strip() or "all whole")
