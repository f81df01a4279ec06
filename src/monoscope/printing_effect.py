"""What edits do, as text for a terminal, where no `--json` was asked for."""

from typing import Any

from monoscope.printing import feature_text

_NAMES = {
    "feature": "feature",
    "difference_of_means": "difference of means",
    "random": "random direction",
    "prompting": "prompting",
}


def dose_text(found: dict[str, Any]) -> str:
    """A dose: the grid, what is recommended, and the other methods."""
    plain, limits = found["baseline"], found["limits"]
    lines = [
        f"{found['feature']}  {found['label']}" + (" (measured before)" if found.get("skipped") else ""),
        f"heard by the words {', '.join(found['words'])}, in replies to {found['questions']} questions "
        "(a lexical stand-in for a judge)",
        "",
        *([f"in the scope {found['scope']}", ""] if found.get("scope", "all") != "all" else []),
        f"{found['mode']:>8}  concept  perplexity  repeats      KL  next word",
        _point_line("none", plain),
        *(_point_line(f"{point['strength']}r", point) for point in found["grid"]),
        "",
        _recommended_line(found["recommended"], found["reason"], limits),
        "each at its own best strength, and its rate where the strength was chosen on other questions:",
        *(_method_line(name, one) for name, one in found["methods"].items()),
    ]
    return "\n".join(lines)


def _point_line(name: str, point: dict[str, Any]) -> str:
    share = point["word_probability"]
    return (
        f"{name:>8}  {_rate(point)}  {_number(point['perplexity'], 10, 1)}  {_number(point['repetition'], 7, 2)}  "
        f"{_number(point['kl'], 6, 2)}  {_number(None if share is None else 100 * share, 7, 3)} %"
        + ("" if point.get("fluent", True) else "  not fluent")
    )


def _recommended_line(recommended: dict[str, Any] | None, reason: str, limits: dict[str, Any]) -> str:
    if recommended is None:
        return f"nothing is recommended: {reason}"
    return (
        f"recommended: {recommended['edit']} (works from {recommended['low']}r to {recommended['high']}r; "
        f"perplexity at most {limits['perplexity']:.1f}, repeats at most {limits['repetition']})"
    )


def _method_line(name: str, one: dict[str, Any]) -> str:
    strength = "" if one["strength"] is None else f" at {one['strength']}r"
    other = "" if one["rate_on_others"] is None else f", on other questions {100 * one['rate_on_others']:.0f} %"
    mark = "" if one["fluent"] else "; fluent at no strength, so this is without it"
    return f"  {_NAMES[name] + strength:<28} {_rate(one)}{other}, perplexity {_number(one['perplexity'], 0, 1)}{mark}"


def _rate(point: dict[str, Any]) -> str:
    return f"{100 * point['concept_rate']:>5.0f} %"


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{value:>{width}.{digits}f}" if value is not None else f"{'–':>{width}}"


def cost_text(found: dict[str, Any]) -> str:
    """The battery without and with the edits."""
    lines = [", ".join(found["edits"]), f"{'':24}   plain  edited  difference (95 % interval)"]
    lines += [
        f"{one['name'].replace('_', ' '):24} {one['plain']:7.3f} {one['edited']:7.3f}  {one['difference']:+.3f} "
        f"({one['low']:+.3f} to {one['high']:+.3f}), {one['items']} items"
        for one in found["battery"]
    ]
    return "\n".join(lines)


def steerable_text(found: dict[str, Any]) -> str:
    """The features that can steer best."""
    head = f"{found['features']:,} features scored" + (" (before)" if found["skipped"] else "")
    lines = [f"{one['feature']:>7}  {one['output_score']:6.3f}  {one['label']}" for one in found["results"]]
    return "\n".join([f"{head}; median output score {found['median']:.4f}", *lines])


def shown_text(found: dict[str, Any]) -> str:
    """One feature, and what is known of its effect."""
    lines = [feature_text(found)]
    if found["output_score"] is not None:
        lines.append(f"output score {found['output_score']:.3f} (how much it writes, not only reads)")
    if found["dose"] is not None:
        dose = found["dose"]
        lines.append(f"dose {dose['edit']}, works from {dose['low']}r to {dose['high']}r")
    return "\n".join(lines)
