"""What `monoscope remove` prints for people."""

from typing import Any

_LABEL = 44
_SETS = {
    "forget": "topic",
    "paraphrase": "in other words",
    "neighbours": "neighbours",
    "retain": "other texts",
    "held_out": "held-out text",
}


def removal_text(result: dict[str, Any]) -> str:
    """Whether anything was forgotten, first; then the figures beside the control, and the edits to use."""
    return "\n".join(
        [
            verdict(result),
            "",
            *_feature_lines(result),
            "",
            *_set_lines(result),
            "",
            *_source_lines(result),
            *_back_lines(result),
            *_touched_lines(result),
            "",
            *_battery_lines(result),
            "",
            *_use_lines(result),
        ]
    )


def verdict(result: dict[str, Any]) -> str:
    """The first line."""
    rise, beyond, cost = (
        result["forget"]["loss_rise"],
        result["forget"]["loss_beyond_control"],
        result["retain"]["perplexity_cost"],
    )
    told = (
        f"the loss on the topic rises by {rise['value']:.3f} nats a token ({rise['low']:.3f} to {rise['high']:.3f}), "
        f"{beyond['value']:+.3f} beyond random ones ({beyond['low']:+.3f} to {beyond['high']:+.3f}); "
        f"other texts cost {cost:.1%} perplexity."
    )
    head = "Little is forgotten" if result["little"] else "Something is forgotten, not all of it"
    return f"{head}: {told}" + _limit(result)


def _limit(result: dict[str, Any]) -> str:
    most = result["most_cost"]
    if not result["within_limit"]:
        return f" No strength kept to {most:.0%} on the choosing texts; this is the cheapest."
    if result["retain"]["perplexity_cost"] > most:
        return f" That is more than the {most:.0%} that was kept to on the choosing texts."
    return ""


def _feature_lines(result: dict[str, Any]) -> list[str]:
    lines = [f"{'feature':>8}  {'topic':>6}  {'others':>6}  label (share of tokens on which it fires)"]
    for row in result["features"]:
        lines.append(
            f"{row['feature']:>8}  {row['topic_rate']:6.1%}  {row['retain_rate']:6.2%}  {row['label'][:_LABEL]}"
        )
    return lines


def _set_lines(result: dict[str, Any]) -> list[str]:
    lines = [
        f"{'':>14}  {'texts':>5}  {'loss a token, in nats':^25}  {'rise, 95 % interval':^25}  "
        f"{'perplexity':>10}  {'right guesses':^22}",
        f"{'':>14}  {'':>5}  {'plain':>7} {'edited':>7} {'control':>8}   {'':^25}  {'cost':>10}  "
        f"{'plain':>6} {'edited':>7} {'control':>7}",
    ]
    return lines + [_set_line(told, result[key]) for key, told in _SETS.items() if key in result]


def _set_line(told: str, values: dict[str, Any]) -> str:
    loss, rise, top = values["loss"], values["loss_rise"], values["accuracy"]
    ends = f"{rise['value']:+.3f} ({rise['low']:+.3f} to {rise['high']:+.3f})"
    return (
        f"{told:>14}  {values['texts']:>5}  {loss['plain']:7.3f} {loss['edited']:7.3f} {loss['control']:8.3f}   "
        f"{ends:<26} {values['perplexity_cost']:10.1%}  {top['plain']:6.1%} {top['edited']:7.1%} {top['control']:7.1%}"
    )


def _source_lines(result: dict[str, Any]) -> list[str]:
    told, near = result["paraphrase_source"], result["neighbours_source"]
    lines = []
    if told["from"] == "model":
        lines.append(
            f"in other words: of {told['made']} texts that the plain model reworded {told['texts']} are left; "
            f"{told['copies']} were near copies, {told['short']} too short"
        )
    if near["from"] == "retain":
        lines.append(f"neighbours: the {near['texts']} of {near['of']} other texts that lie nearest to the topic")
    return lines


def _back_lines(result: dict[str, Any]) -> list[str]:
    few = result["few_shot"]
    lines = [f"with {few['shots']} topic texts in front, {_back(few)}"]
    if "relearning" in result:
        more = result["relearning"]
        lines.append(f"after {more['steps']} steps of training on {more['shots']} topic texts, {_back(more)}")
    return lines


def _back(values: dict[str, Any]) -> str:
    lost = f"{values['lost_before']:.3f} nats a token lost become {values['lost_after']:.3f}"
    if values["recovered"] is None:
        return f"{lost}; too little was lost to tell a share"
    low, high = values["recovered_interval"]
    return f"{values['recovered']:.0%} of what was lost is back ({low:.0%} to {high:.0%}): {lost}"


def _touched_lines(result: dict[str, Any]) -> list[str]:
    if result["way"] == "weights":
        return []
    share = result["touched"]
    return [f"edited are {share['topic']:.1%} of the topic's tokens and {share['retain']:.2%} of the others"]


def _battery_lines(result: dict[str, Any]) -> list[str]:
    lines = [f"{'':>24}  {'plain':>8} {'edited':>8}  difference"]
    for row in result["battery"]:
        ends = "" if row["low"] is None else f"  ({row['low']:+.3f} to {row['high']:+.3f})"
        name = row["name"].replace("_", " ")
        lines.append(f"{name:>24}  {row['plain']:8.3f} {row['edited']:8.3f}  {row['difference']:+.3f}{ends}")
    return lines


def _use_lines(result: dict[str, Any]) -> list[str]:
    if result["way"] == "weights":
        strength = f"{result['strength']:g} of what the blocks write along the features' directions is taken out"
        if result["out"] is None:
            return [strength, "nothing was written; give --out DIR to keep the edited model"]
        return [strength, f"written to {result['out']}, an ordinary Hugging Face folder"]
    kept = [f"kept as preset {result['preset']}"] if result["preset"] else []
    return [
        "the edits, for steer, chat, serve or a preset:",
        *[f"  --edit '{edit}'" for edit in result["edits"]],
        *kept,
    ]
