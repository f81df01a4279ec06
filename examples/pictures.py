"""Photograph the explorer's pages of a finished run with the system's Chromium.

python examples/pictures.py RUN FOLDER [--feature N]
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from monoscope.serve.app import start_in_background

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
PROMPT = "The Golden Gate Bridge spans the bay of San Francisco"


def main() -> None:
    """Read the command line, serve the run, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="demo")
    parser.add_argument("--feature", type=int, default=0)
    parser.add_argument("--preset", default="golden-gate")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    address = start_in_background(asked.run)
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(120_000)
        base = address.url.rstrip("/")
        for name, path in (
            ("home", "/"),
            ("search", "/search?q=chemistry"),
            ("feature", f"/f/{asked.name}/{asked.feature}"),
            ("prompt", f"/prompt?text={PROMPT.replace(' ', '+')}"),
        ):
            page.goto(base + path, wait_until="networkidle")
            page.screenshot(path=asked.folder / f"{name}.png")
        page.goto(f"{base}/steer?preset={asked.preset}", wait_until="networkidle")
        page.get_by_role("button", name="Send").click()
        page.get_by_text("positions edited").first.wait_for()
        page.screenshot(path=asked.folder / "steer.png")
        browser.close()
    address.close()


if __name__ == "__main__":
    main()
