"""The static export opened from the disk in a real browser: nothing is asked of anybody, no text becomes markup."""

import pytest

from monoscope.porch.export import export_atlas

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(origin, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("pages in a folder") / "out #1"
    export_atlas(origin, "static", folder)
    return (folder / "index.html").as_uri()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 860}, color_scheme="dark")
    found = context.new_page()
    found.set_default_timeout(10_000)
    trouble = []
    found.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else trouble.append(request.url)
    )
    found.on("console", lambda message: trouble.append(message.text) if message.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: trouble.append(str(error)))
    found.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    yield found
    context.close()
    assert trouble == []


def test_search_and_open_a_feature_from_the_disk(page, address, origin):
    from playwright.sync_api import expect

    page.goto(address)
    expect(page.get_by_role("heading", name="Features", exact=True)).to_be_visible()
    expect(page.locator("footer")).to_contain_text("CC BY-SA")
    page.keyboard.press("/")
    page.keyboard.type("cables")
    expect(page.get_by_role("heading", level=1)).to_have_text("1 feature for cables")
    expect(page.locator(".cards .tokens span[class^=p]").first).to_be_visible()
    page.locator(".cards a").first.click()
    expect(page.get_by_role("heading", name="Top activations")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cables </script><img src=x onerror=alert(1)>⟨RLO⟩")
    assert page.locator(".contexts li").count() == len(origin.atlas.feature(3).contexts) + len(
        origin.atlas.feature(3).silent
    )
    page.get_by_role("link", name="Next ›").click()
    expect(page.locator("aside")).to_contain_text("feature 4")
    page.keyboard.press("[")
    expect(page.locator("aside")).to_contain_text("feature 3")
    page.go_back()
    expect(page.locator("aside")).to_contain_text("feature 4")
    page.get_by_role("searchbox").fill("7")
    expect(page.locator(".cards .meta").first).to_contain_text("7")
    page.get_by_role("searchbox").fill("no such label at all")
    expect(page.locator("main")).to_contain_text("No label has all of these words")


def test_hostile_text_is_only_text(page, address, origin, planted):
    from playwright.sync_api import expect

    for number in (planted.numbers["animals"], 3):
        page.goto(f"{address}#f={number}")
        expect(page.locator(".examples")).to_contain_text("onerror")
        expect(page.locator(".examples")).to_contain_text("⟨RLO⟩")
        assert page.evaluate("document.querySelectorAll('main img, main script, main iframe').length") == 0
        assert not {"\u202e", "\u200b", "\u2028"} & set(page.locator("body").inner_text())
    page.goto(f"{address}#q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img")
    page.goto(f"{address}#f=999999")
    expect(page.locator("main")).to_contain_text("This export has no feature 999999.")


def test_the_values_on_the_page_are_the_atlas_s(page, address, origin, planted):
    number = planted.numbers["music"]
    record = origin.atlas.feature(number)
    page.goto(f"{address}#f={number}")
    page.wait_for_selector(".contexts")
    best = record.contexts[0]
    told = f"{record.max_activation:.2f}  ·  100 % of the largest"
    strongest = page.locator(".contexts li").first.locator(f'span.p8[title="{told}"]').first
    assert strongest.inner_text() == best.tokens[best.peak].strip()
    assert page.locator(".hist rect").count() == sum(count > 0 for count in record.histogram.counts)


def test_a_missing_part_is_named(page, browser, origin, tmp_path):
    export_atlas(origin, "static", tmp_path / "out")
    (tmp_path / "out" / "data" / "features-0.js").unlink()
    context = browser.new_context()
    found = context.new_page()
    found.goto((tmp_path / "out" / "index.html").as_uri() + "#f=1")
    found.wait_for_selector("text=data/features-0.js is missing from this folder.")
    context.close()
