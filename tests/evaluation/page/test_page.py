import json
import re

import pytest

from ulcompress.evaluation.page import write_page


def read_back(text):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


def test_the_page_holds_style_script_and_numbers(results, tmp_path):
    path = write_page(results(), tmp_path)
    text = path.read_text()
    assert path == tmp_path / "index.html" and read_back(text) == results()
    assert "<!--" not in text
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(""", text)


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
