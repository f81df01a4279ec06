"""Safety: features found by examples, and monitors fitted, asked and reported on."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from monoscope.commands.terminal import AsJson, Name, Replace, Seed, app, board, stoppable, tell
from monoscope.core.run import Run

Positive = Annotated[Path, Parameter(help="Texts with the concept: JSON lines with text or messages, maybe group.")]
Negative = Annotated[Path, Parameter(help="Texts like them but without it.")]
Part = Annotated[
    str, Parameter(help="What of a talk is read: said, reply (the last message), or last (the last token).")
]

monitor = App(name="monitor", help="Detectors with a stated false-alarm rate: monitor fit, score or report.")
app.command(monitor)


@app.command
def contrast(  # noqa: PLR0913  one flag for each setting
    run: Path,
    *,
    positive: Positive,
    negative: Negative,
    pool: Annotated[str, Parameter(help="max, mean or top: how activations become one number for a text.")] = "max",
    part: Part = "said",
    limit: Annotated[int, Parameter(help="How many features to list.")] = 20,
    causal: Annotated[bool, Parameter(help="Also try what ablating and turning up the first five does.")] = True,
    save: Annotated[str | None, Parameter(help="Keep the list on the desk of the atlas under this name.")] = None,
    name: Name = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Features that tell two sets of texts apart, proved on texts that did not choose them, beside baselines."""
    from monoscope import contrasting
    from monoscope.printing_safety import contrast_text

    place = Run(run)
    result = contrasting.contrast(
        place,
        positive,
        negative,
        pool=pool,
        part=part,
        limit=limit,
        causal=causal,
        save=save,
        seed=seed,
        name=name,
        progress=board(place),
    )
    tell(result, as_json, contrast_text)


@monitor.command
def fit(  # noqa: PLR0913  one flag for each setting of the artefact
    run: Path,
    *,
    positive: Positive,
    negative: Negative,
    out: Annotated[Path, Parameter(help="The monitor to write, as runs/demo/monitors/scam.json.")],
    fpr: Annotated[float, Parameter(help="The false-alarm rate that the threshold is set for.")] = 0.01,
    benign: Annotated[Path | None, Parameter(help="Texts to set the threshold by, of the kind to be watched.")] = None,
    kind: Annotated[str, Parameter(help="features (readable), probe (dense), or both.")] = "features",
    statistic: Annotated[str, Parameter(help="max, mean, or rolling (the mean of the last tokens).")] = "mean",
    window: Annotated[int, Parameter(help="The tokens of a rolling mean.")] = 16,
    warm_up: Annotated[int, Parameter(help="Tokens before which no alarm is raised.")] = 16,
    features: Annotated[int, Parameter(help="The most features that a readable detector may have.")] = 20,
    part: Part = "said",
    name: Name = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a detector, set its threshold for a false-alarm rate, and prove it on texts that did neither."""
    from monoscope import monitoring
    from monoscope.printing_safety import monitor_text
    from monoscope.safety.fitting import Manner

    place = Run(run)
    result = monitoring.fit(
        place,
        positive,
        negative,
        out,
        fpr=fpr,
        benign=benign,
        manner=Manner(kind, statistic, window, warm_up, features),
        part=part,
        seed=seed,
        name=name,
        progress=board(place),
    )
    tell(result, as_json, monitor_text)


@monitor.command
def score(
    run: Path,
    *,
    monitor: Annotated[Path, Parameter(help="The file of a monitor, or of rules.")],
    input: Annotated[Path, Parameter(name="--input", help="The texts: JSON lines with text or messages.")],  # noqa: A002
    tokens: Annotated[bool, Parameter(help="Tell the score after each token.")] = True,
    as_json: AsJson = False,
) -> None:
    """The score of each text, whether it is flagged, and after which token it first was."""
    from monoscope import monitoring
    from monoscope.printing_safety import scores_text

    place = Run(run)
    tell(monitoring.score(place, monitor, input, tokens=tokens, progress=board(place)), as_json, scores_text)


@monitor.command
def report(
    run: Path,
    *,
    monitor: Annotated[Path, Parameter(help="The file of a monitor, or of rules.")],
    positive: Positive,
    negative: Negative,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The figures of a monitor on texts that it has never seen, such as those of another source."""
    from monoscope import monitoring
    from monoscope.printing_safety import monitor_text

    place = Run(run)
    result = monitoring.report(place, monitor, positive, negative, seed=seed, progress=board(place))
    tell(result, as_json, monitor_text)


@app.command
def audit(  # noqa: PLR0913
    run: Path,
    *,
    concept: Annotated[list[str] | None, Parameter(help="A shipped concept, as secrecy; may be repeated. All.")] = None,
    examples: Annotated[
        list[Path] | None, Parameter(help="A concept of your own: JSON lines with label and group; may be repeated.")
    ] = None,
    name: Name = None,
    replace: Replace = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The safety page of a model: each concept, what detects it beside baselines, what turning it does."""
    from monoscope import auditing
    from monoscope.printing_safety import audit_text

    place = Run(run)
    result = auditing.audit(
        place,
        concepts=tuple(concept or ()),
        own=tuple(examples or ()),
        replacing_it=replace,
        seed=seed,
        name=name,
        progress=board(place),
        should_stop=stoppable(),
    )
    tell(result, as_json, audit_text)


@app.command
def diff(  # noqa: PLR0913
    run: Path,
    *,
    model_b: Annotated[str, Parameter(help="The other checkpoint: a folder, or any model source.")],
    text: Annotated[str | None, Parameter(help="What both read: any text source; the run's held-out text.")] = None,
    tokens: Annotated[int, Parameter(help="How much of it.")] = 100_000,
    template: Annotated[bool, Parameter(help="Whether tokens of a chat template count.")] = True,
    least: Annotated[float, Parameter(help="The smallest change that counts, as a share of the mean of both.")] = 0.1,
    limit: Annotated[int, Parameter(help="How many features to list.")] = 20,
    out: Annotated[Path | None, Parameter(help="Keep the table of all features in this JSON file.")] = None,
    name: Name = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """What a fine-tune changed, in features: both checkpoints over one text through one dictionary of the run."""
    from monoscope import diffing
    from monoscope.printing_diff import diff_text

    place = Run(run)
    result = diffing.diff(
        place,
        model_b,
        text=text,
        tokens=tokens,
        template=template,
        least=least,
        limit=limit,
        out=out,
        seed=seed,
        name=name,
        progress=board(place),
    )
    tell(result, as_json, diff_text)


@app.command
def remove(  # noqa: PLR0913  one flag for each setting
    run: Path,
    *,
    topic: Annotated[Path, Parameter(help="Texts of the topic to forget: JSON lines with text or messages.")],
    retain: Annotated[Path, Parameter(help="Texts about other things, that are to stay as they are.")],
    way: Annotated[str, Parameter(help="conditional (clamps behind a gate), clamp, or weights.")] = "conditional",
    features: Annotated[int, Parameter(help="The most features to take out, 1 to 64.")] = 10,
    most_cost: Annotated[float, Parameter(help="The share of perplexity that retain texts may cost.")] = 0.02,
    paraphrase: Annotated[Path | None, Parameter(help="Topic texts in other words; else the model makes some.")] = None,
    neighbour: Annotated[Path | None, Parameter(help="Texts near the topic; else the nearest retain texts.")] = None,
    out: Annotated[Path | None, Parameter(help="With --way weights: the folder of the edited model.")] = None,
    preset: Annotated[str | None, Parameter(help="Keep the edits in the run under this name.")] = None,
    name: Name = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Take a topic out of the model, and judge what is forgotten and what it costs, beside a random control."""
    from monoscope import removal
    from monoscope.printing_removal import removal_text

    place = Run(run)
    result = removal.remove(
        place,
        topic,
        retain,
        wishes=removal.Wishes(way, features, most_cost),
        paraphrase=paraphrase,
        neighbour=neighbour,
        out=out,
        preset=preset,
        seed=seed,
        name=name,
        progress=board(place),
    )
    tell(result, as_json, removal_text)


@app.command
def constitution(  # noqa: PLR0913
    run: Path,
    file: Annotated[Path, Parameter(help="The principles, a JSON file (docs/formats/constitution.md).")],
    *,
    fit: Annotated[bool, Parameter(negative="", help="Fit the monitors of principles that have examples.")] = False,
    prompts: Annotated[Path | None, Parameter(help="Prompts to measure on: JSON lines with text or messages.")] = None,
    benign: Annotated[Path | None, Parameter(help="Harmless prompts; without, the shipped everyday questions.")] = None,
    max_tokens: Annotated[int, Parameter(help="The longest reply.")] = 64,
    fpr: Annotated[float, Parameter(help="With --fit, the false-alarm rate of each monitor.")] = 0.01,
    name: Name = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Principles that replies must keep to: their monitors fitted, what they find, and what keeping them costs."""
    from monoscope import constituting
    from monoscope.core.errors import BadRequest
    from monoscope.printing_constitution import constitution_text

    if not fit and prompts is None:
        raise BadRequest("Give --fit to fit monitors, --prompts F.jsonl to measure, or both.")
    place, result = Run(run), {}
    if fit:
        result["fitted"] = constituting.fit_constitution(
            place, file, fpr=fpr, seed=seed, name=name, progress=board(place)
        )
    if prompts is not None:
        result |= constituting.measure_constitution(
            place,
            file,
            prompts,
            benign=benign,
            max_tokens=max_tokens,
            seed=seed,
            name=name,
            progress=board(place),
        )
    tell(result, as_json, constitution_text)
