"""What `monoscope constitution` prints for people."""

from typing import Any

from monoscope.printing_safety import monitor_text


def constitution_text(result: dict[str, Any]) -> str:
    """The fitted monitors, then the figures on prompts and on harmless ones."""
    parts = [monitor_text(each) for each in result.get("fitted", ())]
    if "prompts" in result:
        parts += [_set_text("prompts", result, result["prompts"])]
        parts += [_set_text(f"harmless prompts ({result['benign']['from']})", result, result["benign"])]
    return "\n\n".join(parts)


def _set_text(title: str, result: dict[str, Any], figures: dict[str, Any]) -> str:
    without, under, count = figures["without"], figures["with"], figures["count"]
    lines = [
        f"{count} {title}, replies of at most {result['max_tokens']} tokens",
        "",
        f"{'principle':24} {'action':8} {'fires without':>15}  {'95 % interval':>15}  {'in last drafts':>14}",
    ]
    for each in result["principles"]:
        before, after = without["fires"][each["name"]], under["told_or_blocked"][each["name"]]
        low, high = before["interval"]
        lines.append(
            f"{each['name'][:24]:24} {each['action']:8} {before['share']:15.1%}  {f'{low:.1%} to {high:.1%}':>15}  "
            f"{after['share']:14.1%}"
        )
    done = ", ".join(f"{number} {action}" for action, number in under["actions"].items()) or "none"
    slower = under["seconds"] / without["seconds"] - 1 if without["seconds"] else 0.0
    return "\n".join(
        [
            *lines,
            "",
            f"alerts          {done}",
            f"redrafts        {under['redrafts']} for {under['redrafted']} replies; "
            f"{under['blocked']} blocked in the end",
            f"unchanged       {under['unchanged']} of {count} replies are what the model says alone",
            f"empty           {under['empty']} ({without['empty']} without); refusals {under['refusals']} "
            f"({without['refusals']} without)",
            f"seconds         {under['seconds']:.1f} ({without['seconds']:.1f} without, {slower:+.0%}; "
            f"{figures['watched_seconds']:.1f} only watched)",
        ]
    )
