import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from ulcompress.evaluation.page import embedded, write_page


def read_back(text):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


def test_the_page_holds_style_script_and_numbers(results, tmp_path):
    path = write_page(results(), tmp_path)
    text = path.read_text()
    assert path == tmp_path / "index.html" and read_back(text) == results()
    assert "<!--" not in text
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(""", text)


def test_images_are_within_an_embedded_page_and_not_wider_than_asked_for(results, tmp_path):
    content = results(1)
    content["results"][1]["restored"] = None
    paths = [content["images"][0]["original"], *(row["restored"] for row in content["results"] if row["restored"])]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 64), "red").save(tmp_path / path)
    text = write_page(embedded(content, tmp_path, width=48), tmp_path).read_text()
    assert "originals/" not in text and not re.search(r"images/\d", text)
    shown = read_back(text)
    assert shown["results"][1]["restored"] is None and shown["embedded"]["width"] == 48
    urls = [shown["images"][0]["original"], *(row["restored"] for row in shown["results"] if row["restored"])]
    assert len(urls) == 4
    for url in urls:
        kind, _, data = url.partition(",")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert kind == "data:image/webp;base64" and image.format == "WEBP" and image.size == (48, 32)
            assert np.abs(np.asarray(image).astype(int) - (255, 0, 0)).max() < 8
    assert content["images"][0]["original"] == paths[0]


def test_hostile_names_stay_text(results, tmp_path):
    content = results()
    name = "</script><script>alert(1)</script><!-- style.css -->\u2028"
    content["images"][0]["caption"] = content["command"] = name
    text = write_page(content, tmp_path).read_text()
    assert read_back(text)["command"] == name
    assert text.count("</script>") == 2 and "alert(1)\\u003c" in text


def test_numbers_that_are_none_are_refused(results, tmp_path):
    content = results()
    content["summary"][0]["bpp"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_page(content, tmp_path)
