"""The generator of the published experiments against its description, written out in plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learndyn.core.config import ConfigError
from learndyn.scan_snap.task import SYN_SMALL, TaskConfig, syn_medium

tasks = st.builds(
    TaskConfig,
    queries=st.integers(2, 4),
    next_per_query=st.integers(2, 3),
    common=st.integers(0, 4),
    common_per_query=st.integers(0, 3),
    distinct=st.integers(1, 5),
)


def _described(task):
    """Weights by (class, token id), query and next-token ids: the ids are handed out one after the other."""
    free = iter(range(10_000))
    everywhere = [next(free) for _ in range(task.common)]
    local = [[next(free) for _ in range(task.common_per_query)] for _ in range(task.queries)]
    own = [[next(free) for _ in range(task.distinct)] for _ in range(task.queries * task.next_per_query)]
    weights = []
    for query in range(task.queries):
        for k in range(task.next_per_query):
            row = dict.fromkeys(everywhere + local[query], 1.0)
            for i, token in enumerate(own[query * task.next_per_query + k]):
                row[token] = 0.1 + 0.9 * i / max(task.distinct - 1, 1)
            total = sum(row.values())
            weights.append({token: weight / total for token, weight in row.items()})
    queries = [next(free) for _ in range(task.queries)]
    labels = [next(free) for _ in weights]
    return weights, queries, labels, next(free)


@given(tasks)
def test_ids_and_probabilities_are_those_of_the_description(task):
    weights, queries, labels, needed = _described(task)
    assert task.vocabulary == task.tokens_needed == needed
    assert task.query_tokens.tolist() == queries
    assert task.next_tokens.tolist() == labels
    classes = task.to_classes()
    assert classes.probabilities.shape == (task.classes, needed)
    for n, row in enumerate(weights):
        assert task.support_tokens[n].tolist() == list(row)
        np.testing.assert_allclose(task.probabilities, list(row.values()), rtol=1e-12)
        expected = np.zeros(needed)
        expected[list(row)] = list(row.values())
        np.testing.assert_allclose(classes.probabilities[n], expected, rtol=1e-12)
        assert task.query_of[n] == classes.query[n] == n // task.next_per_query


@given(tasks)
def test_the_kinds_of_tokens_are_what_their_names_say(task):
    classes = task.to_classes()
    for n in range(task.classes):
        own = task.support_tokens[n, task.distinct_support]
        shared = task.support_tokens[n, : task.distinct_support.start]
        assert sorted(own) == np.flatnonzero(classes.distinct[n]).tolist()
        assert classes.common[shared].all()
        assert not classes.common[own].any()


def test_published_sizes():
    assert SYN_SMALL.vocabulary == 34
    assert {queries: syn_medium(queries).vocabulary for queries in (1, 3, 5, 10)} == {
        1: 33,
        3: 79,
        5: 125,
        10: 240,
    }
    assert TaskConfig(next_per_query=2, common_per_query=5).vocabulary == 10 + 2 * 5 + 10 * 4 + 2 + 4
    np.testing.assert_allclose(SYN_SMALL.probabilities[:10], 0.0645, atol=5e-5)
    np.testing.assert_allclose(SYN_SMALL.probabilities[[10, 19]], [0.0065, 0.0645], atol=5e-5)


def test_a_larger_vocabulary_adds_tokens_that_never_occur():
    larger = SYN_SMALL.replace(vocabulary_size=50)
    assert larger.vocabulary == 50
    np.testing.assert_array_equal(larger.to_classes().probabilities[:, 34:], 0)
    np.testing.assert_array_equal(
        larger.to_classes().probabilities[:, :34], SYN_SMALL.to_classes().probabilities
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"queries": 0}, "TaskConfig.queries = 0: must be greater than or equal to 1"),
        ({"distinct": 0}, "TaskConfig.distinct = 0: must be greater than or equal to 1"),
        ({"common": -1}, "TaskConfig.common = -1"),
        ({"queries": 2.5}, "TaskConfig.queries = 2.5: must be a whole number"),
        ({"sequence_length": 2}, "TaskConfig.sequence_length = 2: must be greater than or equal to 3"),
        ({"queries": 1}, "leaves nothing to predict"),
        ({"common_per_query": 5}, "common_per_query = 5 needs next_per_query of 2 or more"),
        ({"vocabulary_size": 33}, "vocabulary_size = 33 is smaller than the 34 tokens that the classes need"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(values, sentence):
    with pytest.raises(ConfigError) as caught:
        TaskConfig(**values)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
