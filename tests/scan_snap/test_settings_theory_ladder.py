"""What the notebook on the theory ladder refuses before anything is computed."""

import pytest

from learndyn.core.config import ConfigError
from learndyn.scan_snap.settings_theory_ladder import TheoryLadder


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"vocabulary": 41}, "vocabulary_size = 41 is smaller than the 42 tokens that the classes need"),
        ({"classes": 1}, "classes = 1: must be greater than or equal to 2"),
        ({"lengths": [128, 2]}, "sequence_length = 2: must be greater than or equal to 3"),
        ({"horizon": 5.0}, "horizon = 5 is less than one iteration"),
        ({"explorer_sizes": [[10, 30]]}, "vocabulary of 30 tokens is smaller than the 31"),
        ({"rate_ratios": [1.0, -1.0]}, "must be greater than 0"),
        ({"momentum": 1.0}, "momentum = 1.0: must be less than 1"),
    ],
)
def test_parameters_that_cannot_be_computed(parameters, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        TheoryLadder.from_notebook(parameters)
    assert "\n" not in str(caught.value)
