"""The experiments of the notebook: what they start from, and which settings are refused."""

from __future__ import annotations

import numpy as np
import pytest


def test_memorisation_starts_at_an_exact_solution() -> None:
    from learndyn.cogo_li2 import norms
    from learndyn.cogo_li2.settings_what_training_finds import WhatTrainingFinds, memorisation_runs

    settings = WhatTrainingFinds(memorisation_epochs=3, memorisation_seeds=2)
    runs = memorisation_runs(settings)
    assert runs["start"].values.tolist() == ["noise", "noise", "exact", "no weight decay"]
    assert runs["weight_decay"].values.tolist() == [1e-3, 1e-3, 1e-3, 0.0]
    start = runs.isel(epoch=0)
    assert (start["order"] == 49).all()
    assert (start["train_accuracy"] > 1 - 1e-5).all()
    assert float(start["squared_norm"][2]) == pytest.approx(norms.memorisation_norm(7), rel=1e-5)
    assert abs(float(start["train_loss"][2])) < 1e-5
    # Noise moves the loss off zero, and two draws differ; the run without weight decay has the first draw.
    assert (start["train_loss"][[0, 1, 3]] > 1e-3).all()
    assert float(start["train_loss"][0]) != float(start["train_loss"][1])
    assert float(start["train_loss"][0]) == pytest.approx(float(start["train_loss"][3]), rel=1e-5)


def test_small_group_trains_the_product_of_decays_and_seeds() -> None:
    from learndyn.cogo_li2.settings_what_training_finds import WhatTrainingFinds, small_group

    settings = WhatTrainingFinds(
        moduli=(7, 11), widths=(10, 14), weight_decays=(1e-3, 3e-3), seeds=2, epochs=20
    )
    runs = small_group(settings, 11)
    assert sorted(set(runs["weight_decay"].values.tolist())) == [1e-3, 3e-3, 0.02]
    assert runs.sizes["run"] == 6
    assert runs["order"].sizes["frequency"] == 5
    assert "weights" not in runs
    assert np.isnan(runs["test_loss"]).all()
    assert not settings.covers_reference
    assert WhatTrainingFinds().covers_reference
    assert not WhatTrainingFinds(learning_rate=0.002).covers_reference


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (64,)}, "widths has 1 values for 4 moduli"),
        ({"moduli": (7, 8), "widths": (9, 9)}, "moduli must be odd, not 8"),
        ({"epochs": 0}, "epochs"),
        ({"memorisation_modulus": 8}, "must be odd"),
    ],
)
def test_bad_settings_are_refused(change: dict, message: str) -> None:
    from learndyn.cogo_li2.settings_what_training_finds import WhatTrainingFinds
    from learndyn.core.config import ConfigError

    with pytest.raises(ConfigError, match=message):
        WhatTrainingFinds(**change)
