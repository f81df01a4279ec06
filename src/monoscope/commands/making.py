"""From text to an atlas: the commands that write a run."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from monoscope.commands.terminal import AsJson, Name, Replace, Seed, app, board, stderr, stop, stoppable, tell
from monoscope.console import Board
from monoscope.core.errors import BadRequest
from monoscope.core.run import Run


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

    result = tell_story(Run(out), Board(stderr, out / "progress.json"), serve=serve, port=port, should_stop=stoppable())
    tell({key: value for key, value in result.items() if key != "address"}, as_json, tell_demo)
    if result.get("address") is not None:
        result["address"].wait(stop)


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
    template_share: Annotated[float, Parameter(help="The share of rows left to the chat template's tokens.")] = 0.05,
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
        template_share=template_share,
    )
    place = Run(run)
    result = stages.harvest(
        place, model, site, wanted, name=name, replacing_it=replace, progress=board(place), should_stop=stoppable()
    )
    tell(
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
        progress=(shown := board(place)),
        should_stop=stoppable(),
        tell=shown.say,
    )
    tell(results[0] if len(results) == 1 else {"dictionaries": results}, as_json, training_text)


@app.command
def evaluate(run: Path, *, name: Name = None, replace: Replace = False, as_json: AsJson = False) -> None:
    """How much a dictionary explains, and what the model loses with it, on text it has not seen."""
    from monoscope import measuring
    from monoscope.printing import metrics_text

    place = Run(run)
    tell(measuring.evaluate(place, name=name, replacing_it=replace, progress=board(place)), as_json, metrics_text)


@app.command
def atlas(
    run: Path,
    *,
    meaning: Annotated[bool, Parameter(help="Let search know words of like meaning (fetches 84 MB once).")] = True,
    name: Name = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """One pass over the text: density, contexts, tokens, neighbours and a label for every feature."""
    from monoscope import building

    place = Run(run)
    result = building.build(place, name=name, replacing_it=replace, progress=board(place), meaning=meaning)
    tell(
        result,
        as_json,
        lambda r: (
            f"{r['alive']:,} of {r['features']:,} features fire; {r['tokens']:,} tokens, "
            f"{r['bytes'] / 1e6:.0f} MB" + (" (was there already)" if r["skipped"] else "")
        ),
    )


@app.command
def repair(run: Path, *, as_json: AsJson = False) -> None:
    """Check every byte of the activations; what is damaged is removed, and harvest makes it again."""
    from monoscope import stages

    tell(stages.repair_run(Run(run)), as_json, lambda r: "\n".join([*r["damaged"], r["next"]]).strip() or "all whole")
