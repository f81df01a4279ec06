"""An audit as one HTML file that opens from the disk: no script, no request, and no text of a suite on it."""

import html
from typing import Any

from monoscope.render.scale import DARK, LIGHT
from monoscope.safety.comparison import WAYS

NAMES = {
    "one_feature": "one feature",
    "features": "readable features",
    "probe": "dense probe",
    "both": "features and probe",
    "all_features": "all features",
    "bag_of_words": "bag of words",
    "random_feature": "random feature",
}
# Unexplained variance above this many times that of ordinary text is called a blind spot.
BLIND = 1.5
_LEFT, _WIDTH, _ROW, _LOW = 150, 420, 22, 0.3
_COLOURS = ("ground", "ink", "dim", "line", "raised", "accent", "bar", "warn", "good")
_STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:70rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;margin:.2rem 0}
h2{font-size:1.25rem;margin:2.4rem 0 .4rem;border-top:1px solid var(--line);padding-top:1.2rem}
h3{font-size:1rem;margin:1.2rem 0 .3rem}
p,ul{margin:.4rem 0;max-width:46rem}
.dim{color:var(--dim)}
.first{border-left:4px solid var(--warn);padding:.2rem 0 .2rem 1rem;margin:1rem 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.25rem .55rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{white-space:normal!important;vertical-align:bottom;max-width:7rem}
th:first-child,td:first-child,td.word,th.word{text-align:left}
td.word{white-space:normal}
a{color:var(--accent)}
.best{font-weight:650}
.tag{display:inline-block;border:1px solid currentColor;border-radius:1rem;padding:0 .55rem;font-size:.82rem}
.good{color:var(--good)}.warn{color:var(--warn)}
svg{max-width:100%;height:auto;display:block}
svg text{fill:var(--ink);font-size:13px}
svg .dimmed{fill:var(--dim);font-size:11px}
svg .axis{stroke:var(--line)}
svg .chance{stroke:var(--bar);stroke-dasharray:3 3}
svg .span{stroke:var(--bar);stroke-width:2}
svg .dot{fill:var(--bar)}
svg .ours{fill:var(--accent);stroke:var(--accent)}
"""


def audit_html(result: dict[str, Any]) -> str:
    """The whole page of what `auditing.audit` found."""
    title = f"Safety audit of {result['model']}"
    parts = [
        f"<h1>{_safe(title)}</h1>",
        f'<p class="dim">Dictionary {_safe(result["dictionary"])}: {result["latents"]:,} latents at '
        f"{_safe(result['site'])}. {len(result['concepts'])} concepts, seed {result['seed']}.</p>",
        '<div class="first" role="note"><strong>First</strong><ul>',
        *(f"<li>{_safe(line)}</li>" for line in result["headlines"]),
        "</ul></div>",
        _summary(result),
        _how_to_read(),
        *(_concept(each) for each in result["concepts"]),
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_safe(title)}</title><style>{_colours()}{_STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def _colours() -> str:
    def named(colours: dict[str, str]) -> str:
        return ";".join(f"--{name}:{colours[name]}" for name in _COLOURS)

    return f":root{{color-scheme:light dark;{named(LIGHT)}}}@media(prefers-color-scheme:dark){{:root{{{named(DARK)}}}}}"


def _summary(result: dict[str, Any]) -> str:
    head = "".join(f"<th>{_safe(NAMES[way])}</th>" for way in WAYS)
    rows = []
    for each in result["concepts"]:
        best = max(each["ways"][way]["auroc"] for way in WAYS)
        cells = "".join(_area_cell(each["ways"][way]["auroc"], best) for way in WAYS)
        hard = each["ways"]["features"]["auroc_hard"]
        rows.append(
            f'<tr><td><a href="#{_anchor(each)}">{_safe(_told(each["name"]))}</a></td>{cells}'
            f"<td>{'' if hard is None else f'{hard:.2f}'}</td><td>{_turned(each)}</td></tr>"
        )
    return (
        '<h2>Detection on texts that fitted nothing (AUROC)</h2><div class="scroll"><table><thead><tr>'
        f"<th>concept</th>{head}<th>features, hard ones only</th><th>turned up</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _area_cell(value: float, best: float) -> str:
    return f"<td{' class=best' if value == best else ''}>{value:.2f}</td>"


def _turned(each: dict[str, Any]) -> str:
    return '<span class="good">moves the model</span>' if each["leading"]["moves"] else "no effect shown"


def _how_to_read() -> str:
    return (
        "<h2>How to read this</h2><ul>"
        "<li>AUROC is the chance that a text with the concept scores above one without it: 0.5 is chance, 1 perfect. "
        "Every text is scored by detectors that never saw a text of its group; intervals are 95 % over groups.</li>"
        "<li>Readable features are at most twenty, each counting for the concept. The one feature may count against "
        "it, so it can do better than they do. The dense probe reads the residual stream itself and knows no features. "
        "Hard negatives use the words of the concept without meaning it.</li>"
        "<li>Turned up: the leading feature is added at 0.2 mean residual norms, and we ask whether the model then "
        "finds the texts of the concept likelier, against their counterparts, in nats a token. It is a small push on "
        "one direction at one layer; an effect of nothing does not show that the model lacks the concept.</li>"
        "<li>The texts are few, short and written for this purpose. A figure here is evidence about this model on such "
        "texts, and no certificate.</li></ul>"
    )


def _concept(each: dict[str, Any]) -> str:
    texts = f"{each['texts'][0]} texts with it, {each['texts'][1]} without ({each['hard']} of them hard)"
    return "\n".join(
        [
            f'<h2 id="{_anchor(each)}">{_safe(_told(each["name"]).capitalize())} {_verdict(each)}</h2>',
            f'<p class="dim">{_safe(texts)}; read: {_part(each["part"])}.</p>',
            _plot(each),
            _alarm_table(each),
            _features(each),
            _effects(each),
            _blind(each),
            _not_shown(each),
        ]
    )


def _verdict(each: dict[str, Any]) -> str:
    if not each["found"]:
        return '<span class="tag warn">nothing found beyond chance</span>'
    if not each["beats_words"]:
        return '<span class="tag warn">a bag of words does better</span>'
    return '<span class="tag good">features beat the words</span>'


def _plot(each: dict[str, Any]) -> str:
    """A dot with its interval for each way, on one axis."""
    tall = _ROW * len(WAYS) + 30
    shapes = [
        f'<line class="{"chance" if tick == 0.5 else "axis"}" x1="{_x(tick):.1f}" x2="{_x(tick):.1f}" y1="4" '
        f'y2="{tall - 24}"/><text class="dimmed" x="{_x(tick):.1f}" y="{tall - 8}" text-anchor="middle">{tick:g}</text>'
        for tick in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    ]
    for place, way in enumerate(WAYS):
        told, y = each["ways"][way], _ROW * place + 16
        low, high = told["interval"]
        ours = " ours" if way == "features" else ""
        shapes.append(
            f'<text x="0" y="{y + 4}">{_safe(NAMES[way])}</text>'
            f'<line class="span{ours}" x1="{_x(low):.1f}" x2="{_x(high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot{ours}" cx="{_x(told["auroc"]):.1f}" cy="{y}" r="4.5">'
            f"<title>{_safe(NAMES[way])}: {told['auroc']:.3f} ({low:.3f} to {high:.3f})</title></circle>"
            f'<text class="dimmed" x="{_LEFT + _WIDTH + 12}" y="{y + 4}">{told["auroc"]:.3f}</text>'
        )
    told = ", ".join(f"{NAMES[way]} {each['ways'][way]['auroc']:.2f}" for way in WAYS)
    return (
        f'<svg viewBox="0 0 {_LEFT + _WIDTH + 60} {tall}" width="{_LEFT + _WIDTH + 60}" role="img" '
        f'aria-label="AUROC with intervals: {_safe(told)}">{"".join(shapes)}</svg>'
    )


def _x(value: float) -> float:
    return _LEFT + _WIDTH * (max(_LOW, min(1.0, value)) - _LOW) / (1 - _LOW)


def _alarm_table(each: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{_safe(NAMES[way])}</td><td>{told['hits']:.0%}</td><td>{told['negatives']:.0%}</td>"
        f"<td>{'' if told['hard'] is None else format(told['hard'], '.0%')}</td>"
        f"<td>{told['ordinary']:.1%} ({_span(told['ordinary_interval'])})</td></tr>"
        for way, told in each["alarms"].items()
    )
    return (
        "<h3>At work: a threshold set for 1 % of ordinary text</h3><div class=scroll><table><thead><tr>"
        "<th>monitor</th><th>flags of the concept</th><th>flags of its counterparts</th><th>of hard ones</th>"
        "<th>of other ordinary text</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _span(ends: list[float]) -> str:
    return f"{ends[0]:.1%} to {ends[1]:.1%}"


def _features(each: dict[str, Any]) -> str:
    if not each["features"]:
        return "<h3>Features</h3><p>No feature speaks for this concept.</p>"
    rows = "".join(
        f"<tr><td>{row['feature']}</td><td>{row['weight']:.2f}</td><td class=word>{_safe(row['label'])}</td></tr>"
        for row in each["features"]
    )
    return (
        "<h3>The readable features</h3><div class=scroll><table><thead><tr><th>feature</th><th>weight</th>"
        f"<th class=word>label</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _effects(each: dict[str, Any]) -> str:
    leading = each["leading"]
    side = "" if leading["direction"] > 0 else " (it belongs to the counterparts)"
    told = {"amplified": "turned up", "ablated": "taken away", "random": "random direction, as long"}
    rows = "".join(
        f"<tr><td>{told[key]}</td><td>{leading['effects'][key]['value']:+.4f}</td>"
        f"<td>{leading['effects'][key]['low']:+.4f} to {leading['effects'][key]['high']:+.4f}</td></tr>"
        for key in told
    )
    return (
        f"<h3>What turning feature {leading['feature']} does{side}</h3><p class=word>{_safe(leading['label'])}</p>"
        "<div class=scroll><table><thead><tr><th>edit</th><th>effect, nats a token</th><th>95 % interval</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _blind(each: dict[str, Any]) -> str:
    ordinary = each["fvu_ordinary"]
    told = f"The dictionary leaves {each['fvu']:.1%} of the variance of these texts unexplained"
    warn = " What it cannot see here, no feature can flag." if each["fvu"] > BLIND * ordinary else ""
    return f"<h3>Blind spots</h3><p>{told}, and {ordinary:.1%} of ordinary text.{warn}</p>"


def _not_shown(each: dict[str, Any]) -> str:
    lines = []
    if not each["found"]:
        lines.append("that any readable set of features detects the concept: the interval reaches down to chance")
    elif not each["beats_words"]:
        lines.append("that features see more than the words: counting words does as well or better")
    hard = each["ways"]["features"]["auroc_hard"]
    if hard is not None and hard < 0.6:
        lines.append(f"that the features tell the concept from texts that merely use its words (AUROC {hard:.2f})")
    if not each["leading"]["moves"]:
        lines.append("that the leading feature moves what the model says")
    if each["alarms"]["features"]["hits"] < 0.5:
        lines.append("a monitor that flags most texts of the concept at 1 % false alarms")
    if not lines:
        return ""
    return "<h3>What could not be shown</h3><ul>" + "".join(f"<li>{_safe(line)}</li>" for line in lines) + "</ul>"


def _part(part: str) -> str:
    return "the assistant's answer" if part == "reply" else "everything that is said"


def _anchor(each: dict[str, Any]) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in each["name"])


def _told(name: str) -> str:
    return name.replace("_", " ")


def _safe(text: object) -> str:
    return html.escape(str(text))
