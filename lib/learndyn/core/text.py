"""From lines of text to streams of token numbers: tokenizer, vocabulary, columns, windows.

The way that word-level language models are fed: the whole text is one stream, cut into ``columns``
contiguous pieces that are read side by side; a batch is a window of the same few positions of every column,
its targets the same window one position later. Nothing is shuffled or drawn.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from jaxtyping import Int, Int32, Int64
from torch import Tensor

from learndyn.core.corpora import Corpus
from learndyn.core.errors import PlainError

#: What stands for every word that a vocabulary does not have; its number is 0. WikiText's own is the same.
UNKNOWN = "<unk>"

_SPACED = "'.,()!?"
_DROPPED = ";:"


class TextError(PlainError):
    """A vocabulary, a stream or a window that cannot be made of a text; the message says why."""


def tokenize(line: str) -> list[str]:
    """Split a line into words and punctuation, the tokenizer known as "basic English".

    Lower case; each of ``' . , ( ) ! ?`` is a token; ``"`` is deleted; ``<br />``, ``;`` and ``:`` become
    spaces; what is between white space is a token. The end of a line is none.
    """
    line = line.lower().replace('"', "").replace("<br />", " ")
    for mark in _SPACED:  # one replacement after another: three times as fast as str.translate
        line = line.replace(mark, f" {mark} ")
    for mark in _DROPPED:
        line = line.replace(mark, " ")
    return line.split()


def tokens(lines: Iterable[str]) -> Iterable[str]:
    """The tokens of lines, one after another, never all in memory."""
    return chain.from_iterable(map(tokenize, lines))


class _Numbers(dict[str, int]):
    def __missing__(self, token: str) -> int:
        return 0


@dataclass(frozen=True)
class Vocabulary:
    """The numbers of words.

    Args:
        types: the words by number; the first is `UNKNOWN`.
    """

    types: tuple[str, ...]

    @classmethod
    def build(cls, tokens: Iterable[str], size: int | None = None) -> Vocabulary:
        """The most frequent words of a text: `UNKNOWN`, then by falling frequency, ties alphabetical.

        Args:
            size: how many words to keep, `UNKNOWN` not counted (so the vocabulary has ``size + 1`` entries);
                None keeps all.

        Raises:
            TextError: a size below 1 or above the number of different words.
        """
        counts = Counter(tokens)
        counts.pop(UNKNOWN, None)
        if size is not None and not 1 <= size <= len(counts):
            raise TextError(
                f"a vocabulary of {size:,} words cannot be made: the text has {len(counts):,} different "
                f"ones; ask for 1 to {len(counts):,}, or for all (None)"
            )
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        return cls((UNKNOWN, *ranked[:size]))

    @cached_property
    def _numbers(self) -> _Numbers:
        return _Numbers((token, number) for number, token in enumerate(self.types))

    def __len__(self) -> int:
        return len(self.types)

    def encode(self, tokens: Iterable[str]) -> Int32[np.ndarray, " position"]:
        """The number of each token, 0 for one that is not in the vocabulary; tokens may be a generator."""
        return np.fromiter(map(self._numbers.__getitem__, tokens), np.int32)

    def decode(self, ids: Int[Tensor, " position"] | Sequence[int]) -> list[str]:
        """The words with these numbers."""
        return [self.types[i] for i in (ids.tolist() if isinstance(ids, Tensor) else ids)]


@dataclass(frozen=True)
class TokenStream:
    """A text as columns that are read side by side.

    Args:
        ids: token numbers ``[column, position]``, any integer type.
    """

    ids: Int[Tensor, "column position"]

    @classmethod
    def cut(
        cls,
        ids: Int[np.ndarray, " position"] | Int[Tensor, " position"],
        columns: int,
        name: str = "the text",
    ) -> TokenStream:
        """One long text as that many contiguous columns of equal length; the tokens left over are dropped.

        Args:
            name: of the text, for the error.

        Raises:
            TextError: no column, or fewer than two tokens for each (a token and its target).
        """
        if columns < 1:
            raise TextError(f"{name} cannot be cut into {columns} columns; ask for 1 or more")
        if len(ids) < 2 * columns:
            raise TextError(
                f"{name} has {len(ids):,} tokens, too few for {columns:,} columns: each needs 2 at least"
            )
        positions = len(ids) // columns
        return cls(torch.as_tensor(ids)[: columns * positions].reshape(columns, positions))

    @property
    def columns(self) -> int:
        """Number of columns."""
        return self.ids.shape[0]

    def windows(self, length: int, *, drop_short: bool = False) -> int:
        """How many windows of that length there are, with or without a short one at the end.

        Every position but the last of a column has a target, so there are ``positions − 1`` to share out.

        Raises:
            TextError: a length below 1; none are left.
        """
        targets = self.ids.shape[1] - 1
        if length < 1 or (drop_short and targets < length):
            raise TextError(
                f"windows of {length:,} positions cannot be cut from columns of {targets + 1:,}: a window "
                f"has 1 to {targets:,} positions"
            )
        return targets // length if drop_short else -(-targets // length)

    def window(
        self, index: int, length: int
    ) -> tuple[Int64[Tensor, "column position"], Int64[Tensor, "column position"]]:
        """The ``index``-th of the windows that follow one another, and the tokens to be predicted there.

        The last one may be shorter.

        Raises:
            TextError: there is no such window.
        """
        count = self.windows(length)
        if not 0 <= index < count:
            raise TextError(
                f"there is no window {index:,}: columns of {self.ids.shape[1]:,} tokens have the windows 0 "
                f"to {count - 1:,} of {length:,} positions"
            )
        start = index * length
        end = min(start + length, self.ids.shape[1] - 1)
        return self.ids[:, start:end].long(), self.ids[:, start + 1 : end + 1].long()

    def to(self, device: torch.device | str) -> TokenStream:
        """The same on another device."""
        return replace(self, ids=self.ids.to(device))


@dataclass(frozen=True)
class LanguageData:
    """What a language model is trained on and judged by.

    Args:
        train, validation: their columns.
        vocabulary: of the training text.
        name: of the text.
    """

    train: TokenStream
    validation: TokenStream
    vocabulary: Vocabulary
    name: str

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the streams and the vocabulary: equal data, equal identity, on any device."""
        digest = hashlib.sha256("\n".join(self.vocabulary.types).encode())
        for stream in (self.train, self.validation):
            ids = stream.ids.to("cpu", torch.int32).contiguous()
            digest.update(repr(tuple(ids.shape)).encode())
            digest.update(ids.numpy())
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> LanguageData:
        """The same on another device."""
        return replace(self, train=self.train.to(device), validation=self.validation.to(device))


def language_data(
    corpus: Corpus, vocabulary_size: int | None = None, train_columns: int = 20, validation_columns: int = 10
) -> LanguageData:
    """A text as streams, with the vocabulary of its training part.

    The training text is read twice (to count, to number), the validation text once; of either only the
    numbers stay in memory, 4 bytes for each token.

    Args:
        vocabulary_size: most frequent words to keep, `UNKNOWN` not counted; None keeps all.
        train_columns, validation_columns: how many columns to read side by side.

    Raises:
        TextError: more words asked for than there are; too few tokens for so many columns.
        DataError: a file of the text cannot be read.
    """
    vocabulary = Vocabulary.build(tokens(corpus.train), vocabulary_size)
    streams = [
        TokenStream.cut(vocabulary.encode(tokens(lines)), columns, f"the {split} text of {corpus.name}")
        for split, lines, columns in (
            ("training", corpus.train, train_columns),
            ("validation", corpus.validation, validation_columns),
        )
    ]
    return LanguageData(streams[0], streams[1], vocabulary, corpus.name)
