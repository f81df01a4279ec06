"""Results as text for a terminal, where no `--json` was asked for."""

from typing import Any

_INHERITED = 0.1


def metrics_text(found: dict[str, Any]) -> str:
    """The figures of a dictionary, each with what it is against."""
    return "\n".join(
        [
            f"{found['name']}: on {found['tokens']:,} held-out tokens",
            f"  L0 {found['l0']:.2f} (95 % of tokens at most {found['l0_p95']:.0f})",
            f"  FVU {found['fvu']:.4f}   {found['fvu_formula']}",
            f"  cross-entropy {found['ce_clean']:.3f} clean, {found['ce_spliced']:.3f} spliced, "
            f"{found['ce_mean']:.3f} with the mean, {found['ce_zero']:.3f} with zeros",
            f"  recovered {found['ce_recovered']:.4f} of mean ablation, {found['ce_recovered_zero']:.4f} of zero; "
            f"KL {found['kl']:.4f} nats",
            f"  {found['dead']} dead ({100 * found['dead_fraction']:.2f} %), {found['dense']} denser than 10 %, "
            f"of {found['n_latents']:,}",
        ]
    )


def hits_text(found: dict[str, Any]) -> str:
    """Search results."""
    if not found["results"]:
        return f"Nothing matches {found['query']!r}; try --by prompt with a sentence in which it occurs."
    lines = []
    for hit in found["results"]:
        head = f"{hit['feature']:>7}  {hit['score']:6.2f}  {hit['label']}"
        lines += [head, f"         {_line(hit['example'])}", f"         {hit['why']}"]
    return "\n".join(lines)


def feature_text(found: dict[str, Any]) -> str:
    """One feature."""
    head = (
        f"{found['feature']}  {found['label']}  (label score {found['label_score'] or 0:.2f})\n"
        f"fires on {100 * found['density']:.3f} % of tokens, largest {found['max_activation']:.2f}"
    )
    contexts = [
        f"  {max(context['activations'], default=0):6.2f} {context['quantile']:>8}  {_marked(context)}"
        for context in found["contexts"]
    ]
    raised = "raises " + " ".join(repr(entry["token"]) for entry in found["promoted"][:8])
    lowered = "lowers " + " ".join(repr(entry["token"]) for entry in found["suppressed"][:8])
    near = ["near"] + [f"  {n['cosine']:.2f}  {n['feature']}  {n['label']}" for n in found["neighbours"][:6]]
    return "\n".join([head, *contexts, raised, lowered, *near])


def codes_text(found: dict[str, Any]) -> str:
    """Features of texts: the strongest three of each token, or ten of a pooled text."""
    lines = []
    for item in found["texts"]:
        if found["pool"]:
            lines.append(f"{item['id']}: " + ", ".join(f"{int(f)} {v:.2f}" for f, v in item["codes"][:10]))
            continue
        for token, pairs in zip(item["tokens"], item["codes"], strict=True):
            best = sorted(pairs, key=lambda pair: -pair[1])[:3]
            lines.append(f"{token!r:>20}  " + ", ".join(f"{int(f)} {v:.2f}" for f, v in best))
    return "\n".join(lines)


def steered_text(found: dict[str, Any]) -> str:
    """The pair of answers and the proof."""
    proofs = [
        f"  {proof['edit']}: {proof['positions_edited']} positions, mean change {proof['mean_norm_change']:.2f}, "
        f"activation now {proof['realised_activation']:.2f}"
        for proof in found["edits"]
    ]
    return "\n".join(["plain    " + found["baseline"].strip(), "steered  " + found["steered"].strip(), *proofs])


def preset_text(found: dict[str, Any]) -> str:
    """One preset, all of them, or the name of one that is gone."""
    presets = found.get("presets", [found])
    lines = [f"{one['name']}: {'; '.join(one.get('edits', ['deleted']))}" for one in presets]
    return "\n".join(lines) or "There are no presets yet; preset RUN save NAME --edit '8011 add 0.4r' makes one."


def _marked(context: dict[str, Any]) -> str:
    """The context on one line, what fires between guillemets."""
    most = max(context["activations"], default=0)
    pairs = zip(context["tokens"], context["activations"], strict=True)
    return _line("".join(f"«{token}»" if value > 0.5 * most > 0 else token for token, value in pairs))


def _line(text: str) -> str:
    return " ".join(text.split())


def compare_text(found: dict[str, Any]) -> str:
    """What dictionaries share, beside what chance gives; the tree and the concepts where they were asked for."""
    lines = [line for pair in found["pairs"] for line in _pair_lines(pair)]
    if "tree" in found:
        root = found["tree"]["root"]
        lines.append(
            f"best of {found['dictionaries'][0]['name']} for {', '.join(found['tree']['family'])}: "
            f"F1 {root['f1']:.2f}, precision {root['precision']:.2f}, recall {root['recall']:.2f}"
        )
        lines += _branch_lines(found["tree"]["tree"])
    for one in found.get("completeness", {}).get("dictionaries", []):
        half = (one["fit"] or {}).get("half")
        lines.append(
            f"{one['name']}: has a feature for {100 * one['present_share']:.1f} % of {one['concepts']:,} titles "
            f"({100 * one['present_share_random']:.1f} % of titles at random places); half of them at "
            + (f"{half:.2f} / {one['alive']:,} mentions a token" if half else "no frequency that was seen")
        )
    return "\n".join(lines)


def _pair_lines(pair: dict[str, Any]) -> list[str]:
    cosine, together, splits = pair["cosine"], pair["correlation"], pair["splits"]
    chance, mixed = cosine["random"], together["random"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in splits["kinds"].items() if count)
    inherited = [
        f"  {100 * pair['same_number_share']:.0f} % of the nearest have the same number: both began with the same "
        "random rows (one seed), so part of the likeness is inherited"
    ]
    return [
        f"{pair['a']} beside {pair['b']}: {pair['latents']:,} latents that fire, {pair['rows']:,} held-out tokens",
        f"  nearest by cosine {cosine['mean']:.3f} on average (random rows {chance['mean']:.3f}); above 0.7 "
        f"{100 * cosine['above_0.7']:.1f} % ({100 * chance['above_0.7']:.1f} %), above 0.9 "
        f"{100 * cosine['above_0.9']:.1f} %; {100 * pair['mutual_share']:.0f} % are each other's nearest",
        f"  best correlation {together['mean']:.3f} on average (shifted text {mixed['mean']:.3f}); above 0.7 "
        f"{100 * together['above_0.7']:.1f} % ({100 * mixed['above_0.7']:.1f} %)",
        f"  one to one: mean cosine {pair['mcc']:.3f} (random rows {pair['mcc_random']:.3f})",
        f"  {100 * splits['split_share']:.0f} % of the parents have two children or more, "
        f"{splits['children_per_parent']:.2f} on average; of {pair['b']}'s latents: {kinds}",
        *(inherited if pair["same_number_share"] > _INHERITED else []),
    ]


def _branch_lines(node: dict[str, Any], depth: int = 0) -> list[str]:
    figures = f"cosine {node['cosine']:.2f}, shared {node['shared']:.2f}, covers {node['covers']:.2f}"
    head = f"{'  ' * (depth + 1)}{node['dictionary']} {node['feature']}  {', '.join(node['words'])}"
    tail = f"  {node['kind']}: {figures}" if depth else ""
    explained = "" if node["explained"] is None else f"  (its children explain {node['explained']:.2f})"
    return [head + tail + explained, *(line for child in node["children"] for line in _branch_lines(child, depth + 1))]


def plan_text(found: dict[str, Any]) -> str:
    """The advice for a budget, what it rests on, and the command that follows it."""
    advice = found["recommended"]
    took = "" if advice["minutes"] is None else f", about {advice['minutes']:.0f} min"
    lines = [
        f"{advice['latents']:,} latents ({advice['arch']}, k {advice['k']}), {advice['tokens']:,} tokens "
        f"({advice['epochs']:.1f} times the rows) in batches of {advice['batch']:,}, "
        f"learning rate {advice['learning_rate']:g}",
        f"expected held-out FVU {advice['fvu']:.4f} ({advice['fvu_low']:.4f} to {advice['fvu_high']:.4f} in 9 of 10), "
        f"{advice['flops']:.2g} FLOPs{took}",
        f"  {advice['command']}",
    ]
    return "\n".join([*lines, *(f"  {note}" for note in advice["notes"])])


def sweep_text(found: dict[str, Any]) -> str:
    """The laws of a sweep, and how they did on the budget that was held back."""
    fit, intervals, held = found["fit"]["fit"], found["fit"]["intervals"], found["fit"]["held_back"]
    lines = [
        f"{found['name']}: {found['fit']['measured']['trainings']} trainings"
        + (" (were there already)" if found["skipped"] else ""),
        *(
            f"  best {what} grow with FLOPs to the power {fit[law]['exponent']:.3f} "
            f"({intervals[key][0]:.3f} to {intervals[key][1]:.3f} in 9 of 10)"
            for what, law, key in (("latents", "width", "width_exponent"), ("tokens", "tokens", "token_exponent"))
        ),
        f"  best FVU falls with FLOPs to the power {fit['loss']['exponent']:.3f}; "
        f"single trainings lie {100 * fit['spread']:.1f} % from the joint law",
    ]
    if held is not None:
        lines.append(
            f"  held back, {held['budget']:.2g} FLOPs: predicted {held['predicted']:.4f}, measured "
            f"{held['measured']:.4f} ({100 * held['relative_error']:+.2f} %)"
        )
    return "\n".join([*lines, "at the largest budget:", plan_text(found)])


def training_text(result: dict[str, Any]) -> str:
    """One line for each dictionary, and for one that went on from another what that gained and cost."""
    lines = []
    for told in result.get("dictionaries", [result]):
        lines.append(
            f"{told['name']}: FVU {told['fvu']:.4f} at L0 {told['l0']:.1f}, {100 * told['dead_fraction']:.2f} % dead "
            "on held-out text" + (" (was there already)" if told["skipped"] else "")
        )
        for text, found in told.get("continued", {}).items():
            before, after = found["before"], found["after"]
            lines.append(
                f"  {text.replace('_', ' ')}: FVU {before['fvu']:.4f} before, {after['fvu']:.4f} after; "
                f"L0 {before['l0']:.1f} and {after['l0']:.1f}"
            )
    return "\n".join(lines)


def explained_text(found: dict[str, Any]) -> str:
    """How good labels are: the medians beside chance, and each feature's two labels."""
    if found.get("dry_run"):
        return "Nothing was asked; without --dry-run it will be."
    lines = []
    for one in found["features"]:
        head = f"{one['feature']:>7}"
        if one["label"] is not None:
            mark = "shown" if one["kept"] else "not shown"
            lines.append(f"{head}  {one['score']:.2f}  {one['label']}  ({mark}; shuffled {one['shuffled']:.2f})")
            head = " " * 7
        lines.append(f"{head}  {one['statistical_score']:.2f}  {one['statistical_label']}  (statistics)")
    if found["score_median"] is None:
        return "\n".join([*lines, _unlabelled(found)])
    figures = f"{found['labelled']:,} labelled by {found['method']}: median held-out balanced accuracy "
    figures += f"{found['score_median']:.2f}, with another feature's label {found['control_median']:.2f}"
    if "below_chance" in found:
        return "\n".join([*lines, f"{figures}; {100 * found['below_chance']:.1f} % are below chance"])
    rest = [f"{found['replaced']:,} beat the statistical label (median {found['statistical_median']:.2f})"]
    rest += [_unlabelled(found)] if found["failed"] or found["skipped"] else []
    rest.append(
        f"{found['calls']:,} questions asked, {found['cached']:,} known from before, {found['unread']:,} unread"
    )
    return "\n".join([*lines, figures, *rest])


def _unlabelled(found: dict[str, Any]) -> str:
    parts = []
    if found.get("failed"):
        parts.append(f"{found['failed']:,} got no label that can be read from {found['method']}; they keep their own")
    if found.get("skipped"):
        parts.append(f"{found['skipped']:,} have too few texts to be judged")
    return "; ".join(parts) or "There is nothing to label: no feature of this atlas fires."


def exported_text(found: dict[str, Any]) -> str:
    """An export: where it is, how large, and what reading it back showed."""
    start = f"\nOpen {found['out']}/index.html in a browser." if found["format"] == "static" else ""
    return (
        f"{found['features']:,} features as {found['format']} in {found['out']}: {found['files']:,} files, "
        f"{found['bytes'] / 1e6:.1f} MB, in {found['seconds']:.0f} s; read back, largest difference "
        f"{found['max_error']:.2g}{start}"
    )
