"""Requests that cannot be carried out get one sentence and exit code 2, before any work starts."""

from __future__ import annotations

import pytest


def refused(book, *arguments: str) -> str:
    """Return the sentence with which a request was refused."""
    done = book.learndyn(*arguments, code=2)
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert not (book.root / "_build").exists(), "nothing was started"
    return sentence


@pytest.fixture
def plain_book(new_book):
    return new_book()


def test_unknown_profile(plain_book):
    assert refused(plain_book, "book", "--profile", "paper") == (
        "There is no profile 'paper'; there are: quick, smoke."
    )


def test_profile_for_a_notebook_that_is_not_there(plain_book):
    plain_book.write("profiles/first/demo/gamma.yaml", "a: 1\n")
    assert refused(plain_book, "book", "--profile", "first") == (
        "profiles/first/demo/gamma.yaml names the notebook book/demo/gamma.py, which is not there."
    )


def test_profile_with_an_unknown_parameter(plain_book):
    plain_book.write("profiles/second/demo/alpha.yaml", "slope: 1.0\nslpoe: 2.0\n")
    assert refused(plain_book, "book", "--profile", "second") == (
        "profiles/second/demo/alpha.yaml sets 'slpoe', which book/demo/alpha.py does not take; "
        "its parameters are: note, slope."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- slope\n", "must hold one `name: value` line per parameter."),
        ("slope: [1\n", "is not valid YAML: "),
    ],
)
def test_profile_that_is_not_a_flat_mapping(plain_book, text, sentence):
    plain_book.write("profiles/third/demo/alpha.yaml", text)
    assert f"profiles/third/demo/alpha.yaml {sentence}" in refused(plain_book, "book", "--profile", "third")


def test_outside_a_checkout(plain_book, tmp_path):
    done = plain_book.learndyn("book", code=2, cwd=tmp_path)
    assert done.stderr.startswith(f"{tmp_path} is not inside a checkout of the book")


def test_table_of_contents_with_a_page_that_is_not_there(new_book):
    book = new_book()
    book.edit("_toc.yml", "book/demo/beta", "book/demo/gamma")
    assert refused(book, "book") == "_toc.yml names the page book/demo/gamma, which is not there."
