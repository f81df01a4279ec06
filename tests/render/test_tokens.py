import html
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.render.tokens import (
    around,
    display_units,
    plain_text,
    text_parts,
    units_html,
    units_json,
)


def shown(tokens, values=()):
    return [unit.shown for unit in display_units(tokens, values)]


def kinds(token, value=0.0):
    (unit,) = display_units([token], [value])
    return [(part.kind, part.text) for part in unit.parts]


def test_a_leading_space_stands_before_the_shade():
    assert kinds(b" Golden", 2.0) == [("space", " "), ("text", "Golden")]
    assert units_html(display_units([b" Golden"], [2.0]), 2.0).startswith(' <span class="p8"')


def test_an_indent_stands_after_the_shade():
    assert kinds(b"\n    ", 1.0) == [("break", "⏎"), ("space", "    ")]
    page = units_html(display_units([b" \n\n  ", b"x"], [1.0, 0.0]), 1.0)
    assert page.startswith(" <span") and page.endswith('⏎</i><br><i class="z">⏎</i></span><br>  x')


def test_spaces_alone_are_seen_when_they_fire():
    assert kinds(b"  ", 1.0) == [("text", "··")]
    assert kinds(b"  ", 0.0) == [("space", "  ")]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\n", [("break", "⏎")]),
        ("\t", [("mark", "⇥")]),
        ("a\u200bb", [("text", "a"), ("mark", "⟨ZWSP⟩"), ("text", "b")]),
        ("\u202e", [("mark", "⟨RLO⟩")]),
        ("\ufeff", [("mark", "⟨BOM⟩")]),
        ("\x1b[0m", [("mark", "⟨1B⟩"), ("text", "[0m")]),
        ("\x85", [("mark", "⟨85⟩")]),
        ("\r\n", [("mark", "⟨0D⟩"), ("break", "⏎")]),
        ("\U000e0041", [("mark", "⟨U+E0041⟩")]),
    ],
)
def test_what_cannot_be_seen_is_named(text, wanted):
    assert kinds(text.encode()) == wanted


def test_bytes_that_complete_a_character_are_one_unit_with_the_largest_value():
    (bridge,) = display_units([b" \xe6", b"\xa1", b"\xa5"], [0.5, 3.0, 1.0])
    assert bridge.shown == " 桥"
    assert (bridge.value, bridge.values, bridge.first) == (3.0, (0.5, 3.0, 1.0), 0)


def test_bytes_that_do_not_are_shown_as_numbers():
    assert shown([b"\xe2\x82", b"abc"]) == ["⟨E2⟩⟨82⟩", "abc"]
    assert shown([b"\xac"]) == ["⟨AC⟩"]
    assert shown([b"\xe2", b"\x82"]) == ["⟨E2⟩⟨82⟩"]


def test_special_tokens_are_chips():
    assert kinds(b"<|im_start|>") == [("chip", "<|im_start|>")]
    assert kinds(b"<script>") == [("text", "<script>")]
    (unit,) = display_units([b"x"], special=[True])
    assert unit.parts[0].kind == "chip"


def test_many_accents_do_not_pile_up():
    text = plain_text("a" + "\u0301" * 50)
    assert sum(unicodedata.combining(c) > 0 for c in text) <= 4


def test_a_window_around_the_strongest():
    units = display_units([b"a"] * 50, [0.0] * 30 + [1.0] + [0.0] * 19)
    near, before, after = around(units, 12)
    assert len(near) == 12 and before and after and any(unit.value for unit in near)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</span>&lt;",
    "]]>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_a_token_stays_text(text):
    page = units_html(display_units([text.encode(), b"x"], [1.0, 0.0]), 1.0)
    found = Tags()
    found.feed(page)
    assert found.tags == ["span"]
    assert found.text == text + "x"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


TOKENS = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.sampled_from([b"\xf0\x9f", b"\x91\xa9", b"\xe2\x80", b"\xae", b"\n", b" ", b"", b"<|im_end|>"]),
    ),
    max_size=12,
)


@given(TOKENS, st.data())
def test_any_bytes_come_out_clean_and_none_is_lost(tokens, data):
    values = data.draw(st.lists(st.floats(-9, 9), min_size=len(tokens), max_size=len(tokens)))
    units = display_units(tokens, values)
    assert b"".join(unit.raw for unit in units) == b"".join(tokens)
    assert [value for unit in units for value in unit.values] == values
    outputs = [part.text for unit in units for part in unit.parts]
    outputs += [html.unescape(units_html(units, 9.0)), *(str(item["h"]) for item in units_json(units, 9.0))]
    for text in outputs:
        for character in text:
            assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp"), repr(character)
            assert unicodedata.bidirectional(character) not in BIDI_CONTROLS, repr(character)
        text.encode()  # no half of a surrogate pair


BIDI_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Sm")), max_size=30), st.data())
def test_ordinary_text_is_shown_as_it_is(text, data):
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    tokens = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert "".join(unit.shown for unit in display_units(tokens)) == text


@given(st.text(max_size=40))
def test_plain_text_is_one_clean_line(text):
    assert all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in plain_text(text))
    assert "".join(p.text for p in text_parts("ab c")) == "ab c"
