"""What `monoscope diff` prints for people."""

from typing import Any

_LABEL, _TOKENS = 34, 3


def diff_text(result: dict[str, Any]) -> str:
    """Whether the dictionary speaks for both models comes first, then the features that changed."""
    lines = [
        *_warnings(result),
        f"A {result['model_a']}   B {result['model_b']}   dictionary {result['dictionary']} at {result['site']}",
        f"{result['documents']:,} {result['unit']}s, {result['tokens']:,} tokens of {result['text']}",
        _fit_line("unexplained", result["fvu_a"], result["fvu_b"]),
    ]
    if result["fvu_template_a"] is not None:
        lines.append(_fit_line("  at template", result["fvu_template_a"], result["fvu_template_b"]))
    lines += [
        f"{result['changed']:,} of {result['tested']:,} features changed by more than {result['least']:.0%} (q at most "
        f"0.05); {result['changed_elsewhere']:,} more fire on other tokens",
        "",
    ]
    if result["features"]:
        lines += [_head(), *(_row(row) for row in result["features"]), ""]
    if result["elsewhere"]:
        lines += ["as often as before, but on other tokens:", _head(), *(_row(row) for row in result["elsewhere"]), ""]
    lines.append("z: the standardised difference over documents; rates are for 1,000 tokens; + fires there more in B")
    if result["out"]:
        lines.append(f"all {result['tested']:,} features are in {result['out']}")
    return "\n".join(lines)


def _warnings(result: dict[str, Any]) -> list[str]:
    lines = []
    if result["same_weights"]:
        lines.append("Both models have the same weights.")
    if not result["valid"]:
        lines.append(
            f"The dictionary does not speak for B on this text: it leaves {_share(result['fvu_b'])} unexplained, and "
            f"{_share(result['fvu_a'])} of A; what follows may be the dictionary's failure and not the model's change."
        )
    elif result["template"] and result["valid_template"] is False:
        lines.append(
            f"At template tokens the dictionary does not speak for B: it leaves {_share(result['fvu_template_b'])} "
            f"unexplained there, and {_share(result['fvu_template_a'])} of A; --no-template leaves them out."
        )
    if result["unit"] == "window":
        lines.append("There are too few documents, so windows count as evidence; windows of one text are alike.")
    return [*lines, ""] if lines else []


def _fit_line(name: str, a: float | None, b: float | None) -> str:
    rise = f"  ({b / a - 1:+.1%})" if a and b else ""
    return f"{name:13}  {_share(a)} of A, {_share(b)} of B{rise}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _head() -> str:
    return f"{'feature':>8}  {'z':>6}  {'q':>8}  {'rate A':>8} {'B':>8}  {'overlap':>7}  {'label':{_LABEL}}  tokens"


def _row(row: dict[str, Any]) -> str:
    q = row["q"] if row["q"] <= 0.05 or row["q_context"] is None else row["q_context"]
    tokens = " ".join(
        [
            *(f"+{each['token']!r}" for each in row["more_in_b"][:_TOKENS]),
            *(f"-{each['token']!r}" for each in row["more_in_a"][:_TOKENS]),
        ]
    )
    return (
        f"{row['feature']:>8}  {row['effect']:+6.1f}  {q:8.1e}  {1000 * row['rate_a']:8.2f} "
        f"{1000 * row['rate_b']:8.2f}  {row['overlap']:7.2f}  {row['label'][:_LABEL]:{_LABEL}}  {tokens}"
    )
