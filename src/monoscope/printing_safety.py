"""What the safety commands print for people."""

from typing import Any

_LABEL = 40


def contrast_text(result: dict[str, Any]) -> str:
    """A table of features, then the baselines and, where features lose to words, that first."""
    chosen, proved = result["chosen_on"], result["proved_on"]
    best = result["results"][0] if result["results"] else None
    told = None if best is None else best["auroc_heldout"] if best["direction"] > 0 else 1 - best["auroc_heldout"]
    lines = [
        *losing_lines(told, result["baselines"]),
        f"{'feature':>8}  {'AUROC':>6} {'95 % interval':>15}  {'q':>8}  {'fires in':>13}  {'ablated':>8}  label",
    ]
    for row in result["results"]:
        ablated = "" if row["ablation_effect"] is None else f"{row['ablation_effect']:+.4f}"
        lines.append(
            f"{row['feature']:>8}  {row['auroc_heldout']:6.3f} {_interval(row['interval']):>15}  {row['q']:8.1e}  "
            f"{row['rate_positive']:5.0%} / {row['rate_negative']:5.0%}  {ablated:>8}  {row['label'][:_LABEL]}"
        )
    return "\n".join(
        [
            *lines,
            "",
            *baseline_lines(result["baselines"]),
            f"chosen on {chosen[0]} + {chosen[1]} texts, proved on {proved[0]} + {proved[1]} others; AUROC below 0.5: "
            "the feature belongs to the negatives",
            "ablated: what taking the feature away does to the log-probability of positives against negatives, "
            "in nats a token",
        ]
    )


def losing_lines(figure: float | None, baselines: dict[str, Any]) -> list[str]:
    """A sentence where a bag of words does better than an AUROC, turned the way that was foretold; nothing where it
    does not."""
    words = baselines.get("bag_of_words")
    if figure is None or words is None or figure >= words:
        return []
    return [f"A bag of words does better here: AUROC {words:.3f} against {figure:.3f}.", ""]


def baseline_lines(baselines: dict[str, Any]) -> list[str]:
    """The rivals, one a line."""
    names = {
        "linear_probe": "dense linear probe",
        "all_features": "probe over all features",
        "bag_of_words": "bag of words",
        "random_feature": "random feature",
    }
    return [f"{baselines[key]:8.3f}  {told}" for key, told in names.items() if key in baselines]


def monitor_text(result: dict[str, Any]) -> str:
    """The figures of one monitor, or of each rule of a file."""
    if "monitors" in result:
        return "\n\n".join(_monitor_text(each) for each in result["monitors"])
    return _monitor_text(result)


def _monitor_text(result: dict[str, Any]) -> str:
    area, stated = result["auroc_interval"], result["stated_fpr"]
    threshold = "none: too few benign texts" if result["threshold"] is None else f"{result['threshold']:.4g}"
    goal = "" if stated is None else f" (set for {stated:.2%} on {result['calibrated_on']})"
    lines = [
        *losing_lines(result["auroc"], result["baselines"]),
        f"monitor {result['monitor']} ({result['kind']}) on {result['texts'][0]} + {result['texts'][1]} texts",
        f"AUROC           {result['auroc']:.3f}  ({area['low']:.3f} to {area['high']:.3f})",
        f"hits            {result['tpr']:.1%}  ({_interval(result['tpr_interval'])})",
        f"false alarms    {result['fpr']:.1%}  ({_interval(result['fpr_interval'])})",
    ]
    if result["fpr_hard"] is not None:
        lines.append(f"  on hard ones  {result['fpr_hard']:.1%}")
    lines.append(f"threshold       {threshold}{goal}")
    moved = result["drift"]
    if stated is not None:
        told = "the negatives score unlike the calibration texts" if moved["moved"] else "none to be seen"
        lines.append(f"drift           {told} (distance {moved['distance']:.2f}, p {moved['p']:.1e})")
    lines += ["", *baseline_lines(result["baselines"])]
    if result["features"]:
        lines += ["", "features, by what they weigh:"]
        lines += [f"{row['feature']:>8}  {row['weight']:8.3f}  {row['label'][:_LABEL]}" for row in result["features"]]
    return "\n".join(lines)


def scores_text(result: dict[str, Any]) -> str:
    """One line for each text."""
    lines = [
        f"{'FLAG' if row['flagged'] else '    '}  {row['score']:9.3f}  {row['id']}"
        + (f"  after token {row['first_token']}" if row["first_token"] is not None else "")
        for row in result["texts"]
    ]
    return "\n".join([*lines, "", f"{result['flagged']} of {len(result['texts'])} flagged"])


def _interval(ends: list[float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def audit_text(result: dict[str, Any]) -> str:
    """The headlines, then one line a concept."""
    lines = [
        *result["headlines"],
        "",
        f"{'concept':22} {'features':>8}  {'probe':>6}  {'words':>6}  {'random':>6}  effect",
    ]
    for each in result["concepts"]:
        base, effect = each["baseline"], each["steering_effect"]
        lines.append(
            f"{each['name'][:22]:22} {each['auroc_heldout']:8.3f}  {base['probe']:6.3f}  {base['bag_of_words']:6.3f}  "
            f"{base['random_feature']:6.3f}  {effect:+.4f}{'' if each['leading']['moves'] else '  (none shown)'}"
        )
    return "\n".join([*lines, "", f"The page: {result['report']}"])
