"""What the notebooks refuse with their parameters, before anything is computed."""

import pytest

from learndyn.core.config import ConfigError
from learndyn.scan_snap.settings_ingredients import Ingredients
from learndyn.scan_snap.settings_real_text import RealText
from learndyn.scan_snap.settings_theory_ladder import TheoryLadder


@pytest.mark.parametrize(
    ("settings", "parameters", "sentence"),
    [
        (TheoryLadder, {"vocabulary": 41}, "vocabulary_size = 41 is smaller than the 42 tokens"),
        (TheoryLadder, {"classes": 1}, "classes = 1: must be greater than or equal to 2"),
        (TheoryLadder, {"lengths": [128, 2]}, "sequence_length = 2: must be greater than or equal to 3"),
        (TheoryLadder, {"horizon": 5.0}, "horizon = 5 is less than one iteration"),
        (TheoryLadder, {"explorer_times": [10.0]}, "has 10000 and others of 10, 100, .* as time, not 10"),
        (TheoryLadder, {"explorer_classes": [3, 10]}, "others of 2, 5, 10 as classes, not 3, 10"),
        (TheoryLadder, {"rate_ratios": [1.0, -1.0]}, "must be greater than 0"),
        (TheoryLadder, {"momentum": 1.0}, "momentum = 1.0: must be less than 1"),
        (Ingredients, {"queries": 1}, "leaves nothing to predict"),
        (Ingredients, {"frozen_classes": 50, "frozen_vocabulary": 150}, "150 tokens is smaller than the 151"),
        (Ingredients, {"precisions": [1.0, 0.1]}, "never passes 1.0"),
        (Ingredients, {"lengths": [1, 32]}, "must be greater than or equal to 2"),
        (RealText, {"directory": "nowhere"}, "neither text nor rate_texts names WikiText"),
        (RealText, {"directory": "nowhere", "text": "wikitext2"}, "data directory nowhere is not there"),
    ],
)
def test_parameters_that_cannot_be_computed(settings, parameters, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        settings.from_notebook(parameters)
    assert "\n" not in str(caught.value)
