import pytest
from jsonargparse import Namespace

from ulcompress.training.nulls import set_null, split_nulls


def test_nulls_of_the_model_are_taken_out_of_a_command_line():
    words = ["fit", "--model.a.b", "null", "--model.c=null", "--model.d", "3", "--trainer.e", "null"]
    assert split_nulls(words) == (["fit", "--model.d", "3", "--trainer.e", "null"], ["a.b", "c"])


def test_an_option_within_parts_and_dictionaries_is_set():
    part = Namespace(class_path="Part", init_args=Namespace(width=3))
    model = Namespace(class_path="Model", init_args=Namespace(parts={"first": part}))
    set_null(model, "parts.first.width")
    assert part.init_args.width is None
    set_null(model, "parts.first")
    assert model.init_args.parts == {"first": None}


def test_one_line_names_what_is_there():
    model = Namespace(class_path="Model", init_args=Namespace(parts={"text": None}))
    with pytest.raises(ValueError, match=r"--model.parts.txt is null, but model.parts has no txt; it has text"):
        set_null(model, "parts.txt")
    with pytest.raises(ValueError, match=r"model.parts.text has no coder; it has nothing"):
        set_null(model, "parts.text.coder")
