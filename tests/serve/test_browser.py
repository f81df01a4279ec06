"""The explorer in a real browser. Every test is also a test of policy, offline use and hostile text: nothing may reach
for another machine, nothing may be written to the console, no dialog may open."""

import re
import shutil
from urllib.parse import urlsplit

import duckdb
import pytest

from monoscope.atlas.schema import DATABASE, MANIFEST
from monoscope.core.artifact import digest_file, read_json, write_json
from monoscope.serve.app import free_port, start_in_background
from monoscope.serve.library import Library

from .toy_map import SIDE, lay_map

pytestmark = pytest.mark.browser
SCOPED = "40 add 0.55r @everywhere"
HOSTILE = "<img src=x onerror=alert(1)>\u202e\"'</script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def address(run, toy, tmp_path_factory):
    """The run, with a label in its atlas that somebody meant badly."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    shutil.copytree(run, folder)
    atlas = folder / "atlas" / "toy"
    with duckdb.connect(str(atlas / DATABASE)) as database:
        database.execute("UPDATE features SET label = ? WHERE feature % 3 = 0", [HOSTILE])
    manifest = read_json(atlas / MANIFEST)
    manifest["digests"][DATABASE] = digest_file(atlas / DATABASE)
    write_json(atlas / MANIFEST, manifest)
    lay_map(atlas, ("<b>x</b>\u202e<img src=x>", "bridges"))
    library = Library(folder)
    library.give_model(toy)
    library.atlas().desk.dose(40, {"recommended": {"edit": SCOPED}})
    server = start_in_background(folder, free_port(wanted=18_700), library=library)
    yield server.url.rstrip("/")
    server.close()


@pytest.fixture
def page(browser, address):
    context = browser.new_context(
        viewport={"width": 1280, "height": 860}, permissions=["clipboard-read", "clipboard-write"]
    )
    found = context.new_page()
    found.set_default_timeout(10_000)
    trouble = []

    def check(route):
        if urlsplit(route.request.url).netloc != urlsplit(address).netloc:
            trouble.append(f"outside: {route.request.url}")
            route.abort()
            return
        route.continue_()

    found.route("**/*", check)
    found.on(
        "console",
        lambda message: trouble.append(f"console: {message.text}") if message.type in ("error", "warning") else None,
    )
    found.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    found.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    yield found
    context.close()
    assert trouble == []


def test_search_read_steer(page, address, feature):
    from playwright.sync_api import expect

    page.goto(address)
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.get_by_role("searchbox").fill("fox")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("feature")
    page.get_by_role("searchbox").fill("bear")  # results while typing
    page.wait_for_url("**q=bear**")
    page.locator("main").focus()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Top activations")).to_be_visible()

    page.goto(f"{address}/f/toy/{feature}")
    page.get_by_role("textbox", name="A text to read").fill("The fox sees a bear under the bridge.")
    page.get_by_role("button", name="Read").click()
    expect(page.locator("#tested")).to_contain_text("fox")
    page.locator("[data-example]").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#spoken")).to_contain_text("of the largest")
    expect(page.get_by_role("tooltip")).to_be_visible()
    page.keyboard.press("s")
    expect(page.get_by_role("heading", name="Features to steer")).to_be_visible()
    expect(page.get_by_role("slider")).to_be_visible()  # the page's script is there and hears keys

    page.get_by_role("textbox", name="Message").fill("The fox")
    page.get_by_label("as a chat message").uncheck()
    page.get_by_label("tokens", exact=True).fill("24")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#proof")).to_contain_text("positions edited")
    expect(page.locator("#proof")).to_contain_text("of the residual norm")
    plain, steered = page.locator("#baseline").inner_text(), page.locator("#steered").inner_text()
    assert plain.strip() and steered.strip() and plain != steered
    expect(page.locator("#steered .first")).to_have_count(1)
    page.get_by_role("button", name="Copy preset link").click()
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto(f"{address}/prompt")
    page.goto(link)
    expect(page.get_by_role("slider")).to_have_value("0.4")
    assert page.locator("#steered").inner_text().strip() == ""  # a link fills the form and runs nothing


def test_rows_can_be_added_moved_and_removed(page, address):
    from playwright.sync_api import expect

    page.goto(f"{address}/steer")
    page.get_by_label("Find a feature").fill("3")
    page.get_by_role("button", name="Find").click()
    slider = page.get_by_role("slider")
    expect(slider).to_have_value("0.4")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("spinbutton", name="Strength")).to_have_value("0.45")
    expect(page.locator("#steered-by")).to_have_text("3 add 0.45r")
    page.get_by_label("How").select_option("clamp")
    expect(page.locator("#steered-by")).to_have_text("3 clamp 0.45r")
    page.get_by_label("tokens", exact=True).fill("400")
    page.get_by_role("textbox", name="Message").fill("The fox")
    page.get_by_role("button", name="Send").click()
    page.wait_for_function("() => document.querySelector('#steered').textContent.length > 10")
    page.keyboard.press("Escape")
    expect(page.locator("#says, #proof")).to_contain_text(["Stopped after", ""])
    page.get_by_role("button", name="Remove").click()
    expect(slider).to_have_count(0)
    page.goto(f"{address}/steer#p=bm9uc2Vuc2U")
    expect(page.locator("#aside-says")).to_contain_text("not whole")


def test_hostile_text_is_only_text(page, address):
    from playwright.sync_api import expect

    for path in ("/", "/f/toy/0", "/f/toy/3", "/steer?add=0", "/search?q=0", "/search?q=0&by=like", "/map?q=fox&f=3"):
        page.goto(address + path)
        assert page.evaluate("() => document.querySelectorAll('main img, main script, main iframe').length") == 0
    page.goto(f"{address}/f/toy/0")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror=alert(1)>⟨RLO⟩")
    page.get_by_role("textbox", name="A text to read").fill(HOSTILE + " fox")
    page.get_by_role("button", name="Read").click()
    expect(page.locator("#tested")).to_contain_text("onerror=alert(1)>")
    page.goto(f"{address}/prompt")
    page.get_by_label("A text, read by").fill(HOSTILE)
    page.get_by_role("button", name="Read").click()
    expect(page.locator("table.bytoken")).to_be_visible()
    page.goto(f"{address}/search")
    page.get_by_role("searchbox").fill("<script>alert(1)</script>")
    page.wait_for_timeout(400)
    assert page.evaluate("() => document.querySelectorAll('main img, main script').length") == 0


def test_search_by_likeness(page, address, feature):
    from playwright.sync_api import expect

    page.goto(f"{address}/search")
    page.get_by_label("Like", exact=True).check()
    page.get_by_role("searchbox").fill(f"{feature}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("20 features")
    page.get_by_role("link", name="More like").nth(1).click()
    expect(page.get_by_role("searchbox")).to_have_value(re.compile(rf"{feature} \+ \d+"))
    page.get_by_text("Filters").click()
    page.get_by_label("at most", exact=True).fill("50 %")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**density_max=50*")
    expect(page.get_by_label("at most", exact=True)).to_be_visible()
    expect(page.locator(".only")).to_contain_text("fires on at most 50 %")


def test_a_dose_that_no_slider_can_say_begins_as_it_was_measured(page, address):
    from playwright.sync_api import expect

    page.goto(f"{address}/steer?add=40")
    expect(page.locator("#steered-by")).to_have_text(SCOPED)
    page.goto(f"{address}/steer")
    for _ in range(2):
        page.locator("#add input[name=q]").fill("40")
        page.locator("#add input[name=q]").press("Enter")
        expect(page.locator("#steered-by")).to_have_text(SCOPED)
    expect(page.locator("#rows li")).to_have_count(1)


def corner(page, feature):
    """Where a feature of the grid lies on the screen, when the whole map is shown."""
    return page.evaluate(
        """([x, y]) => {
          const canvas = document.querySelector("#map canvas");
          const [midX, midY, near] = location.hash.slice(1).split(",").map(Number);
          const box = canvas.getBoundingClientRect();
          const scale = near * 0.88 * Math.min(box.width, box.height);
          return [box.left + box.width / 2 + (x - midX) * scale, box.top + box.height / 2 + (y - midY) * scale];
        }""",
        [(feature % 12) * SIDE // 11 / SIDE, (feature // 12) * SIDE // 7 / SIDE],
    )


def test_the_map(page, address):
    from playwright.sync_api import expect

    page.goto(f"{address}/map")
    expect(page.locator(".map-names span")).to_have_count(2)
    expect(page.locator(".map-names")).to_contain_text("<b>x</b>⟨RLO⟩<img src=x>")
    assert page.evaluate("() => document.querySelectorAll('main img, main script').length") == 0
    page.get_by_role("button", name="All").click()
    page.wait_for_function("() => location.hash.length > 3")
    drawn = page.evaluate(
        "() => { const c = document.querySelector('#map canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; "
        "return n; }"
    )
    assert drawn > 96
    page.mouse.move(*corner(page, 40))
    expect(page.locator(".map-tip")).to_be_visible()
    label = page.request.get(f"{address}/api/v1/features/toy/40?brief=true").json()["label"]
    expect(page.locator(".map-tip")).to_have_text(label)
    page.mouse.click(*corner(page, 40))
    page.wait_for_url("**/f/toy/40")

    page.goto(f"{address}/map?q=fox")
    expect(page.locator("[data-hit]").first).to_be_visible()
    canvas = page.get_by_role("application", name="Map of 96 features")
    canvas.focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => Number(location.hash.split(',')[2]) > 1.5")
    expect(page.locator("[data-spoken]")).not_to_be_empty()
    # Finer names come as one comes nearer, and the wheel does the same as the key.
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -120)
    page.wait_for_function("() => Number(location.hash.split(',')[2]) > 2")
    before = page.evaluate("() => location.hash")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 90, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert page.evaluate("() => location.hash") != before and "/map" in page.url  # a drag opens nothing
    canvas.focus()
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    page.wait_for_url("**/f/toy/*")
    page.keyboard.press("m")
    page.wait_for_url("**/map?f=*")
    expect(page.locator(".map-tip a")).to_be_visible()


def test_a_contrast_and_a_note(page, address):
    from playwright.sync_api import expect

    page.goto(f"{address}/contrast")
    page.get_by_label("Positive texts").fill("The fox sees.\nThe bear sees.\nThe wolf sees.\nThe horse sees.")
    page.get_by_label("Negative texts").fill("The ship sees.\nThe wave sees.\nThe sail sees.\nThe anchor sees.")
    page.get_by_role("button", name="Tell apart").click()
    expect(page.get_by_role("heading", name="What tells them apart")).to_be_visible()
    assert page.locator(".card").count() > 0
    page.goto(f"{address}/f/toy/4")
    page.get_by_label("A note on this feature").fill(HOSTILE)
    page.get_by_role("button", name="Keep note").click()
    expect(page.locator(".note").last).to_contain_text("<img src=x onerror=alert(1)>⟨RLO⟩")
    page.get_by_label("A label of your own").fill("mine")
    page.get_by_role("button", name="Keep label").click()
    expect(page.locator(".yours")).to_contain_text("your label: mine")


def test_without_script(browser, address, feature):
    from playwright.sync_api import expect

    context = browser.new_context(java_script_enabled=False, color_scheme="dark")
    page = context.new_page()
    page.goto(address)
    page.get_by_role("searchbox").fill("fox")
    page.get_by_role("button", name="Search").click()
    assert page.locator(".card").count() > 0
    page.goto(f"{address}/f/toy/{feature}")
    page.get_by_role("textbox", name="A text to read").fill("The fox")
    page.get_by_role("button", name="Read").click()
    expect(page.locator("table.bytoken tr")).to_have_count(3)
    page.goto(f"{address}/map?q=fox")
    assert page.locator(".outline a").count() >= 4 and page.locator("[data-hit]").count() > 0
    page.get_by_role("link", name="bridges", exact=True).click()
    assert page.url.startswith(f"{address}/search?q=bridges")
    context.close()
