"""The synthetic next-token task of Tian et al. 2023, Section 6: Syn-Small and Syn-Medium.

Token ids in order: tokens common to all classes, tokens common to the classes of one query, distinct tokens
class by class, queries, next tokens. A class gives weight 1 to every common token that it uses and weights
0.1…1, rising with the id, to its distinct tokens.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, model_validator

from learndyn.core.config import Config
from learndyn.scan_snap.classes import Classes


class TaskConfig(Config):
    """One configuration of the generator; the defaults are the published Syn-Small.

    Attributes:
        queries: Q, the number of last tokens.
        next_per_query: r, the number of next tokens of every query; there are K = Q r classes.
        common: number of contextual tokens common to all classes.
        common_per_query: number of further tokens common to the classes of one query.
        distinct: number of contextual tokens of one class alone.
        sequence_length: T, so that a sequence has T − 1 contextual tokens (the published length counts the
            query among its tokens).
        vocabulary_size: M, if it is to be larger than the number of tokens that the classes need.

    Raises:
        ConfigError: counts that make no valid generator, or a vocabulary smaller than the classes need.
    """

    queries: int = Field(default=2, ge=1)
    next_per_query: int = Field(default=1, ge=1)
    common: int = Field(default=10, ge=0)
    common_per_query: int = Field(default=0, ge=0)
    distinct: int = Field(default=10, ge=1)
    sequence_length: int = Field(default=128, ge=3)
    vocabulary_size: int | None = None

    @model_validator(mode="after")
    def _a_valid_generator(self) -> TaskConfig:
        if self.classes < 2:
            raise ValueError("one query with one next token leaves nothing to predict; give at least two")
        if self.common_per_query and self.next_per_query == 1:
            raise ValueError(
                f"common_per_query = {self.common_per_query} needs next_per_query of 2 or more: "
                "with one next token per query these tokens would be distinct ones"
            )
        if self.vocabulary_size is not None and self.vocabulary_size < self.tokens_needed:
            raise ValueError(
                f"vocabulary_size = {self.vocabulary_size} is smaller than the {self.tokens_needed} tokens "
                "that the classes need"
            )
        return self

    @property
    def classes(self) -> int:
        """K, the number of next tokens."""
        return self.queries * self.next_per_query

    @property
    def tokens_needed(self) -> int:
        """The tokens that occur: contextual ones, queries and next tokens (10 + Q·c + 10 K + Q + K)."""
        return self._first_query + self.queries + self.classes

    @property
    def vocabulary(self) -> int:
        """M: `vocabulary_size`, or as many as are needed (34 for Syn-Small)."""
        return self.tokens_needed if self.vocabulary_size is None else self.vocabulary_size

    @property
    def support(self) -> int:
        """Number of contextual tokens that one class uses: [common | common per query | distinct]."""
        return self.common + self.common_per_query + self.distinct

    @property
    def weights(self) -> Float[np.ndarray, "support"]:
        """Weights of a class's tokens before normalisation, the same for all classes."""
        return np.concatenate(
            [np.ones(self.common + self.common_per_query), np.linspace(0.1, 1, self.distinct)]
        )

    @property
    def probabilities(self) -> Float[np.ndarray, "support"]:
        """P(l|n) over a class's tokens, the same vector for all classes."""
        return self.weights / self.weights.sum()

    @property
    def support_tokens(self) -> Int[np.ndarray, "next support"]:
        """Token ids of the contextual tokens of every class, in the order of `probabilities`."""
        everywhere = np.tile(np.arange(self.common), (self.classes, 1))
        local = (
            self.common + self.query_of[:, None] * self.common_per_query + np.arange(self.common_per_query)
        )
        own = self._first_distinct + np.arange(self.classes * self.distinct).reshape(self.classes, -1)
        return np.concatenate([everywhere, local, own], axis=1)

    @property
    def distinct_support(self) -> slice:
        """Where the distinct tokens lie on the ``support`` axis."""
        return slice(self.common + self.common_per_query, self.support)

    @property
    def query_of(self) -> Int[np.ndarray, "next"]:
        """ψ(n), the query of every class, as an index 0…Q−1."""
        return np.arange(self.classes) // self.next_per_query

    @property
    def query_tokens(self) -> Int[np.ndarray, "query"]:
        """Token ids of the queries."""
        return self._first_query + np.arange(self.queries)

    @property
    def next_tokens(self) -> Int[np.ndarray, "next"]:
        """Token ids of the next tokens."""
        return self._first_query + self.queries + np.arange(self.classes)

    def to_classes(self) -> Classes:
        """The same classes as the theory takes them, all equally likely."""
        probabilities = np.zeros((self.classes, self.vocabulary))
        np.put_along_axis(probabilities, self.support_tokens, self.probabilities[None, :], axis=1)
        return Classes(probabilities, self.query_of)

    @property
    def _first_distinct(self) -> int:
        return self.common + self.queries * self.common_per_query

    @property
    def _first_query(self) -> int:
        return self._first_distinct + self.classes * self.distinct


#: Two queries with one next token each (Figures 4 and 5). The paper says M = 30, the number of contextual
#: tokens; with queries and next tokens M = 34, as the published initial loss ln 34 shows.
SYN_SMALL = TaskConfig()


def syn_medium(queries: int) -> TaskConfig:
    """Two next tokens for every query (Figures 6, 11 and 12, with 1, 3, 5 and 10 queries)."""
    return TaskConfig(queries=queries, next_per_query=2)
