"""The page in headless Chromium: that of Playwright, or one on the path."""

import shutil

import pytest

from ulcompress.evaluation.page import embedded, write_page

sync_api = pytest.importorskip("playwright.sync_api")
SLIDER = "#stage"


@pytest.fixture
def open_page(browser, page):
    """Return a function that opens a page and watches for errors and failed requests."""
    complaints, opened = [], []

    def open_(*arguments, width=1200, height=900, address=None, first=".point", **options):
        tab = browser.new_page(viewport={"width": width, "height": height}, has_touch=width < 600)
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("requestfailed", lambda request: complaints.append(request.url))
        tab.goto(address or page(*arguments, **options))
        tab.wait_for_selector(first)
        opened.append(tab)
        return tab

    yield open_
    for tab in opened:
        tab.close()
    assert complaints == []


def clip(tab):
    """How much of the left image is covered, in pixels."""
    return float(
        tab.locator("#left-image").evaluate("node => node.style.clipPath.match(/inset\\(\\S+ ([\\d.]+)px/)[1]")
    )


def test_curves_have_a_point_a_contestant_and_a_path_a_curve(open_page):
    tab = open_page()
    assert tab.locator(".point").count() == 4 + 2
    assert tab.locator("path.curve").count() == 2 + 1
    tab.get_by_role("button", name="avif", exact=True).click()
    assert tab.locator(".point").count() == 2 + 2
    tab.get_by_role("button", name="published points").press("Enter")
    assert tab.locator(".point").count() == 2


def test_the_tip_tells_the_exact_value_under_the_pointer_and_on_focus(open_page):
    tab = open_page()
    point = tab.locator(".point").first
    point.hover()
    tip = tab.locator("#tip")
    assert tip.is_visible() and "PSNR (dB): 20.50" in tip.inner_text() and "19.00 to 22.00" in tip.inner_text()
    tab.mouse.move(5, 5)
    assert tip.is_hidden()
    point.focus()
    first = tip.inner_text()
    tab.keyboard.press("ArrowRight")
    assert tip.is_visible() and tip.inner_text() != first


def test_another_metric_and_axis_draw_anew(open_page):
    tab = open_page()
    path = tab.locator("path.curve").first
    before = path.get_attribute("d")
    tab.select_option("#y-axis", "fid")
    assert tab.locator(".point").count() == 4 and path.get_attribute("d") != before
    tab.select_option("#x-axis", "psnr")
    assert tab.locator("#log").is_disabled()
    tab.locator(".point").first.hover()
    assert "0.0500 bpp" in tab.locator("#tip").inner_text()
    tab.select_option("#y-axis", "lpips-alex")
    assert "nothing to show" in tab.locator("#chart").inner_text()


def test_the_slider_follows_mouse_and_keys(open_page):
    tab = open_page()
    stage = tab.locator(SLIDER)
    stage.scroll_into_view_if_needed()
    start = clip(tab)
    box, shown = stage.bounding_box(), tab.locator("#right-image").bounding_box()
    tab.mouse.move(shown["x"] + shown["width"] * 0.25, box["y"] + 40)
    tab.mouse.down()
    tab.mouse.move(shown["x"] + shown["width"] * 0.75, box["y"] + 40, steps=4)
    tab.mouse.up()
    assert clip(tab) == pytest.approx(shown["width"] * 0.25, abs=3) and clip(tab) < start
    assert stage.get_attribute("aria-valuenow") == "75"
    stage.focus()
    tab.keyboard.press("ArrowLeft")
    assert stage.get_attribute("aria-valuenow") == "73"
    tab.keyboard.down(" ")
    assert stage.get_attribute("aria-valuenow") == "0"
    tab.keyboard.up(" ")
    assert stage.get_attribute("aria-valuenow") == "73"


def test_images_sides_and_zoom_are_in_the_address(open_page):
    tab = open_page()
    tab.keyboard.press("]")
    tab.select_option("#left", "original")
    tab.select_option("#right", "mini steps=8")
    tab.select_option("#zoom", "4")
    assert tab.locator("#canvas").bounding_box()["width"] == 4 * 96
    assert tab.locator("#left-image").get_attribute("src") == "originals/image001.png"
    again = open_page(address=tab.url)
    assert again.locator("#image").input_value() == "1" and again.locator("#zoom").input_value() == "4"
    assert again.locator("#right").input_value() == "mini steps=8"
    assert again.locator("#right-image").evaluate("node => node.naturalWidth") == 96
    assert "101 bytes, 0.1010 bpp" in again.locator("#right-caption").inner_text()


def test_tables_sort_by_click_and_key(open_page):
    tab = open_page()
    header = tab.locator("#rows th", has_text="PSNR")
    cells = "nodes => nodes.map(node => Number(node.textContent))"
    header.get_by_role("button").click()
    values = tab.locator("#rows td:nth-child(6)").evaluate_all(cells)
    assert values == sorted(values) and header.get_attribute("aria-sort") == "ascending"
    header.get_by_role("button").press("Enter")
    values = tab.locator("#rows td:nth-child(6)").evaluate_all(cells)
    assert values == sorted(values, reverse=True) and header.get_attribute("aria-sort") == "descending"
    tab.fill("#filter", "avif image001")
    assert tab.locator("#rows tbody tr").count() == 2
    tab.get_by_role("button", name="image001").first.click()
    assert tab.locator("#image").input_value() == "1"


def test_deltas_refusals_and_missing_metrics_are_told(open_page):
    tab = open_page()
    assert "-12.5 %" in tab.locator("#deltas").inner_text()
    tab.locator("summary", has_text="Refused").click()
    assert "too few points (lpips-alex)" in tab.locator("#refusals").inner_text()
    tab.locator("summary", has_text="How it was measured").click()
    assert "vgg16.pth is wanted" in tab.locator("#protocols").inner_text()


def test_differences_have_their_intervals_and_say_how_they_were_found(open_page):
    tab = open_page()
    rows = tab.locator("#differences tbody tr")
    cells = [rows.nth(place).locator("td").all_inner_texts() for place in range(rows.count())]
    assert cells == [
        ["mini", "PSNR (dB)", "-0.75", "-1.25 to -0.25", "1 of 3", "+0.5 %", "equal rate"],
        ["mini steps=8", "PSNR (dB)", "+1.50", "+0.50 to +2.50", "3 of 3", "0.0 %", "interpolated"],
        ["mini", "FID", "-4.00", "no interval", "", "+0.5 %", "equal rate"],
    ]
    assert tab.locator("#differences td.best").all_inner_texts() == ["+1.50"]
    assert "minus that of the reference, avif" in tab.locator("#differences-hint").inner_text()
    assert "how it is between points" in tab.locator("#kinds").inner_text()
    assert open_page(change=lambda content: content | {"comparisons": []}).locator("#differences-section").is_hidden()


def test_without_images_the_page_says_so(open_page, results, tmp_path):
    tab = open_page(address=write_page(results(kept=False), tmp_path).as_uri())
    assert tab.locator("#no-image").is_visible() and tab.locator("#canvas").is_hidden()


def test_all_images_are_shown_when_asked_for_and_lead_to_the_slider(open_page):
    tab = open_page()
    assert tab.locator(".tile").count() == 0
    tab.locator("#gallery summary").click()
    tab.wait_for_selector(".tile")
    assert tab.locator("#sheets article").count() == 3 and tab.locator(".tile").count() == 3 * (1 + 4)
    tile = tab.locator(".tile", has_text="mini steps=8").nth(2)
    assert "bytes" in tile.inner_text() and "PSNR (dB)" in tile.inner_text()
    tile.click()
    values = [tab.locator(f"#{name}").input_value() for name in ("image", "left", "right")]
    assert values == ["1", "mini steps=8", ""]


def test_a_page_with_its_images_shows_them_at_once_and_needs_no_other_file(open_page, results, page, tmp_path):
    page()
    path = write_page(embedded(results(), tmp_path, width=96), tmp_path)
    for folder in ("images", "originals"):
        shutil.rmtree(tmp_path / folder)
    tab = open_page(address=path.as_uri(), first=".tile")
    image = tab.locator(".tile img").nth(4)
    image.scroll_into_view_if_needed()  # an image that is out of sight is not decoded
    assert image.evaluate("async node => (await node.decode(), node.naturalWidth)") == 96
    assert tab.locator("#left-image").evaluate("node => node.naturalWidth") == 96
    assert "WebP" in tab.locator("#embedded").inner_text()


def test_a_phone(open_page):
    tab = open_page(width=390, height=800)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    stage = tab.locator(SLIDER)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    start = clip(tab)
    tab.touchscreen.tap(box["x"] + box["width"] * 0.8, box["y"] + 30)
    assert clip(tab) < start


def drag(tab, start, end):
    """Move a finger from a place to another."""
    client = tab.context.new_cdp_session(tab)
    for kind, places in (("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])):
        points = [{"x": x, "y": y} for x, y in places]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_finger_moves_the_zoomed_image_and_the_knob_the_border(open_page):
    tab = open_page(width=390, height=800)
    tab.select_option("#zoom", "4")
    stage = tab.locator(SLIDER)
    stage.scroll_into_view_if_needed()
    assert stage.evaluate("node => getComputedStyle(node).touchAction") == "pan-x pan-y"
    box = stage.bounding_box()
    drag(tab, (box["x"] + 30, box["y"] + 40), (box["x"] + 10, box["y"] + 40))
    assert stage.get_attribute("aria-valuenow") == "50"
    swipe = {"x": box["x"] + 30, "y": box["y"] + 40, "xDistance": -25, "yDistance": 0, "gestureSourceType": "touch"}
    tab.context.new_cdp_session(tab).send("Input.synthesizeScrollGesture", swipe)
    assert stage.evaluate("node => node.scrollLeft") > 0 and stage.get_attribute("aria-valuenow") == "50"
    knob = tab.locator("#handle").bounding_box()
    middle = knob["y"] + knob["height"] / 2
    drag(tab, (knob["x"] + 1, middle), (knob["x"] + 1 + box["width"] / 4, middle))
    assert stage.get_attribute("aria-valuenow") == "75"


def test_shift_and_arrow_keys_move_the_zoomed_image(open_page):
    tab = open_page(width=390, height=800)
    tab.select_option("#zoom", "4")
    tab.focus(SLIDER)
    tab.keyboard.press("Shift+ArrowRight")
    assert tab.evaluate("document.getElementById('stage').scrollLeft") > 0
    assert tab.locator(SLIDER).get_attribute("aria-valuenow") == "50"


def test_without_any_metric_the_rest_is_there(open_page):
    def bare(content):
        for metric in content["metrics"]:
            metric |= {"missing": "a file is wanted"}
        for row in content["summary"] + content["results"]:
            row["metrics"] = {}
        return content | {"bjontegaard": [], "comparisons": [], "published": []}

    tab = open_page(change=bare, first="#summary tbody tr")
    assert "nothing to show" in tab.locator("#chart").inner_text()
    assert tab.locator("#summary tbody tr").count() == 4 and tab.locator("#left-caption").inner_text()


def test_published_points_join_those_of_their_source_alone(open_page):
    def more(content):
        points = content["published"]
        for point in points:
            points = [*points, point | {"source": "another paper"}, point | {"system": "mini"}]
        return content | {"published": points}

    tab = open_page(change=more)
    assert tab.locator("path.curve").count() == 2 + 3
    assert tab.locator("path.curve[stroke-dasharray='3 4']").count() == 3


def test_old_browsers_without_group_by_show_the_page(open_page, results, tmp_path):
    path = write_page(results(kept=False), tmp_path)
    path.write_text(path.read_text().replace("<script>", "<script>delete Map.groupBy;", 1))
    assert "too few points" in open_page(address=path.as_uri()).locator("#refusals").text_content()


def test_what_failed_on_every_image_is_told(open_page):
    failed = [{"name": "broken", "curve": "broken", "error": "RuntimeError: no"}]
    tab = open_page(change=lambda content: content | {"failed": failed})
    assert tab.locator("#failed").inner_text() == "Failed on every image: broken."


def test_a_codec_of_the_name_original_has_its_own_images(open_page):
    def renamed(content):
        for row in content["contestants"]:
            row["name"] = "original" if row["name"] == "mini" else row["name"]
        for row in content["results"] + content["summary"]:
            row["contestant"] = "original" if row["contestant"] == "mini" else row["contestant"]
        return content

    tab = open_page(change=renamed)
    assert tab.locator("#left-image").get_attribute("src") == "images/0/image000.png"
    tab.select_option("#left", "")
    assert tab.locator("#left-image").get_attribute("src") == "originals/image000.png"


def test_many_images_are_light(open_page):
    requests = []

    def many(content):
        for image in content["images"]:
            image["original"] = "originals/one.png"
        for result in content["results"]:
            result["restored"] = "images/0/one.png"
        return content

    tab = open_page(500, change=many)
    tab.on("request", lambda request: requests.append(request.url))
    timing = tab.evaluate("performance.getEntriesByType('navigation')[0].domComplete")
    assert timing < 5000
    assert tab.locator("#rows tbody tr").count() == 600
    tab.keyboard.press("]")
    assert len(requests) <= 2
