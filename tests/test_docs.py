"""What is written is checked: every command, format and make target has its words."""

import re
from pathlib import Path

from monoscope.cli import app

ROOT = Path(__file__).parent.parent


def test_the_readme_names_the_two_commands_first() -> None:
    head = (ROOT / "README.md").read_text()[:400]
    assert "make demo" in head
    assert "make test" in head


def test_every_command_is_documented() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    commands = {name for name in app if not name.startswith("-")}
    assert commands <= set(re.findall(r"`monoscope ([a-z]+)", page)), "docs/commands.md names every command"


def test_links_between_pages_hold() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} points at {target}"


def test_every_artefact_has_a_format_page() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "formats").glob("*.md")}
    assert {"run", "text_store", "activations", "dictionary", "atlas", "preset", "model_cache"} <= pages
