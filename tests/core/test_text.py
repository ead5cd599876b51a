"""Tokens, vocabularies, streams and windows, against the plainest way of making them."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

#: The tokenizer's rules as they are told: one substitution after another.
RULES = [
    (r"\"", ""),
    (r"'", " ' "),
    (r"\.", " . "),
    (r"<br />", " "),
    (r",", " , "),
    (r"\(", " ( "),
    (r"\)", " ) "),
    (r"!", " ! "),
    (r"\?", " ? "),
    (r";", " "),
    (r":", " "),
    (r"\s+", " "),
]

PIECES = st.sampled_from(
    [*"aZé1'.,()!?;:\"<> \t\n\u00a0-", "<br />", "<br", "/>", "<unk>", "Don't", "@-@", "İ"]
)
LINES = st.lists(PIECES, max_size=30).map("".join)
WORDS = st.lists(st.sampled_from(["a", "b", "c", "the", "<unk>", "é", "zz"]), max_size=60)


def _plain_tokens(line: str) -> list[str]:
    line = line.lower()
    for pattern, by in RULES:
        line = re.sub(pattern, by, line)
    return line.split()


@given(LINES)
def test_tokens_are_those_of_the_rules(line):
    from learndyn.core import text

    assert text.tokenize(line) == _plain_tokens(line)


@given(LINES)
def test_tokens_hold_no_space_and_nothing_that_is_split_off(line):
    from learndyn.core import text

    for token in text.tokenize(line):
        assert not re.search(r"[\s\";:]", token)
        assert len(token) == 1 or not re.search(r"['.,()!?]", token)
        assert text.tokenize(token) == [token]


def test_a_line_of_wikitext():
    from learndyn.core import text

    line = " The \" game 's \" <unk> ( 3 @.@ 5 ) ; see:Also<br />Don't , end . \n"
    expected = "the game ' s <unk> ( 3 @ . @ 5 ) see also don ' t , end ."
    assert text.tokenize(line) == expected.split()
    assert text.tokenize(" \n") == []


def _error():
    from learndyn.core import text

    return text.TextError


def _plain_vocabulary(words: list[str]) -> list[str]:
    """Most frequent first, ties in alphabetical order: the smallest of the best, again and again."""
    left = set(words) - {"<unk>"}
    ranked = ["<unk>"]
    while left:
        most = max(words.count(word) for word in left)
        ranked.append(min(word for word in left if words.count(word) == most))
        left.remove(ranked[-1])
    return ranked


@given(WORDS, st.integers(1, 8))
def test_a_vocabulary_is_ranked_and_cut(words, size):
    from learndyn.core import text

    ranked = _plain_vocabulary(words)
    assert list(text.Vocabulary.build(iter(words)).types) == ranked
    if size > len(ranked) - 1:
        with pytest.raises(_error(), match=f"of {size} words cannot be made: .* ask for 1 to"):
            text.Vocabulary.build(words, size)
        return
    vocabulary = text.Vocabulary.build(words, size)
    assert len(vocabulary) == size + 1
    assert list(vocabulary.types) == ranked[: size + 1]
    ids = vocabulary.encode(iter([*words, "never seen"]))
    kept = ranked[: size + 1]
    assert ids.tolist() == [kept.index(word) if word in kept else 0 for word in [*words, "never seen"]]
    assert ids.dtype.itemsize == 4
    expected = [word if word in kept else "<unk>" for word in [*words, "never seen"]]
    assert vocabulary.decode(ids.tolist()) == vocabulary.decode(torch.from_numpy(ids)) == expected


@pytest.mark.parametrize("size", [0, -1, 4])
def test_a_vocabulary_size_that_is_not_possible(size):
    from learndyn.core import text

    with pytest.raises(_error()) as caught:
        text.Vocabulary.build(["b", "a", "<unk>", "a", "c"], size)
    assert str(caught.value) == (
        f"a vocabulary of {size} words cannot be made: the text has 3 different ones; ask for 1 to 3, or for "
        "all (None)"
    )


@given(st.integers(1, 6), st.integers(2, 40), st.integers(0, 5), st.integers(1, 12))
def test_windows_share_out_a_text(columns, positions, rest, length):
    from learndyn.core import text

    rest = min(rest, columns - 1)
    count = columns * positions + rest
    stream = text.TokenStream.cut(torch.arange(count, dtype=torch.int32), columns)
    assert stream.ids.tolist() == [[c * positions + p for p in range(positions)] for c in range(columns)]
    assert stream.columns == columns
    seen: list[list[int]] = [[] for _ in range(columns)]
    for index in range(stream.windows(length)):
        inputs, targets = stream.window(index, length)
        assert inputs.dtype == targets.dtype == torch.int64
        assert inputs.shape == targets.shape
        last = index == stream.windows(length) - 1
        assert inputs.shape[1] == (positions - 1 - index * length if last else length)
        assert torch.equal(targets, inputs + 1)
        for column, row in zip(seen, inputs.tolist(), strict=True):
            column.extend(row)
    assert seen == [[c * positions + p for p in range(positions - 1)] for c in range(columns)]
    if length < positions:
        whole = stream.windows(length, drop_short=True)
        assert stream.window(whole - 1, length)[0].shape[1] == length
        assert stream.windows(length) - whole == ((positions - 1) % length > 0)


def test_wikitext_2_has_its_2929_windows():
    from learndyn.core import text

    stream = text.TokenStream.cut(torch.zeros(2_049_990, dtype=torch.int32), 20)
    assert stream.windows(35) == 2929
    assert stream.windows(35, drop_short=True) == 2928
    assert stream.window(2928, 35)[0].shape == (20, 18)


def test_windows_and_columns_that_are_not_there():
    from learndyn.core import text

    ids = torch.arange(21)
    with pytest.raises(
        _error(), match=r"^the text has 21 tokens, too few for 11 columns: each needs 2 at least$"
    ):
        text.TokenStream.cut(ids, 11)
    with pytest.raises(_error(), match=r"^it cannot be cut into 0 columns; ask for 1 or more$"):
        text.TokenStream.cut(ids, 0, "it")
    stream = text.TokenStream.cut(ids, 2)
    for index in (-1, 3):
        with pytest.raises(
            _error(), match=f"no window {index}: columns of 10 .* windows 0 to 2 of 4 positions"
        ):
            stream.window(index, 4)
    for length, drop in ((0, False), (10, True)):
        with pytest.raises(
            _error(), match=f"^windows of {length} positions .* columns of 10: .* 1 to 9 positions"
        ):
            stream.windows(length, drop_short=drop)


def _corpus(**changes):
    from learndyn.core.corpora import Corpus

    return replace(
        Corpus("fable", ["The fox, the FOX.", "", "A fox: <unk>"] * 4, ["the crow . a fox"] * 3), **changes
    )


def test_language_data_of_a_small_text():
    from learndyn.core import text

    data = text.language_data(_corpus(), train_columns=3, validation_columns=2)
    types = ["<unk>", "fox", "the", ",", ".", "a"]
    assert list(data.vocabulary.types) == types
    words = _plain_tokens("the fox, the fox. a fox <unk>") * 4
    ids = [types.index(word) for word in words]
    assert data.train.ids.tolist() == [ids[:12], ids[12:24], ids[24:]]
    assert data.validation.ids.tolist() == [[2, 0, 4, 5, 1, 2, 0], [4, 5, 1, 2, 0, 4, 5]]
    assert data.name == "fable"
    small = text.language_data(_corpus(), 1, train_columns=3, validation_columns=2)
    assert list(small.vocabulary.types) == ["<unk>", "fox"]
    assert small.train.ids.flatten().tolist() == [int(word == "fox") for word in words]


def test_too_few_tokens_for_the_columns():
    from learndyn.core import text

    with pytest.raises(
        _error(), match=r"^the validation text of fable has 15 tokens, too few for 10 columns"
    ):
        text.language_data(_corpus(), train_columns=3)
    with pytest.raises(_error(), match=r"^the training text of fable has 0 tokens"):
        text.language_data(_corpus(train=['"', " "]))


def test_the_identity_tells_texts_apart():
    from learndyn.core import text

    def identity(corpus, size=None, columns=3):
        return text.language_data(corpus, size, columns, 2).identity

    same = identity(_corpus())
    lines = _corpus().train
    assert same == identity(_corpus()) == identity(_corpus(train=ReadAgain(lines), name="other name"))
    others = [
        identity(_corpus(), 4),
        identity(_corpus(), columns=4),
        identity(_corpus(train=[*lines[:-1], "a fox the"])),
        identity(_corpus(train=[line.replace("A", "an") for line in lines])),
        identity(_corpus(validation=["the crow . a the"] * 3)),
    ]
    assert len({same, *others}) == 1 + len(others)
    data = text.language_data(_corpus(), None, 3, 2)
    wide = replace(data, train=text.TokenStream(data.train.ids.long().mT.contiguous().mT))
    assert wide.identity == same
    assert data.to("cpu").identity == same
    assert data.to("meta").validation.ids.device.type == "meta"


class ReadAgain:
    """Lines that are read anew each time, and are not a list."""

    def __init__(self, lines: list[str], times: int = 1) -> None:
        self.lines, self.times = lines, times

    def __iter__(self) -> Iterator[str]:
        for _ in range(self.times):
            yield from self.lines


def test_a_long_text_takes_little_more_than_its_numbers():
    from learndyn.core import text

    line = " ".join(f"word{i}" for i in range(100))
    corpus = _corpus(train=ReadAgain([line], 3000), validation=[line])
    tracemalloc.start()
    try:
        data = text.language_data(corpus)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert data.train.ids.numel() == 300_000
    assert (
        peak < 2.5 * 4 * 300_000
    )  # a list of the words alone would take 8 bytes each, and more than 50 for each word
