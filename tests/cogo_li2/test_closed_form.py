"""The closed-form engine trains as the table does."""

import numpy as np
import pytest
import torch

TINY = {"hidden_size": 24, "epochs": 60, "log_dense": 5, "log_every": 20, "seed": (1, 2), "dtype": "float64"}


@pytest.mark.parametrize("test_size", [0.2, None])
@pytest.mark.parametrize("orders", [(7,), (2, 4)])
def test_same_trajectory_as_on_the_table(orders, test_size):
    from learndyn.cogo_li2.training import TrainConfig, train

    config = TrainConfig(orders=orders, test_size=test_size, **TINY)
    table = train(config.replace(engine="grid"))
    closed = train(config.replace(engine="closed_form"))
    np.testing.assert_allclose(closed["weights"], table["weights"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(closed["train_loss"], table["train_loss"], rtol=1e-8)
    assert (
        float(abs(table["weights"][:, -1] - table["weights"][:, 0]).max()) > 0 or table.sizes["snapshot"] == 1
    )


def test_auto_uses_it_where_operations_are_saved_and_only_there():
    from learndyn.cogo_li2.closed_form import ClosedFormStep
    from learndyn.cogo_li2.groups import AbelianGroup

    def pays(size: int, nodes: int) -> bool:
        return ClosedFormStep(AbelianGroup((size,)), None, runs=1).pays(nodes)

    assert pays(127, 512)
    assert pays(71, 512)
    assert not pays(71, 4096)  # q² grows past d²
    assert not pays(23, 512)  # too small for forty kernels


def test_runs_can_be_dropped():
    from learndyn.cogo_li2.closed_form import ClosedFormStep
    from learndyn.cogo_li2.groups import AbelianGroup

    generator = torch.Generator().manual_seed(0)
    cells = torch.rand(3, 49, generator=generator).argsort(1) >= 5
    weights = torch.randn(3, 3, 7, 10, generator=generator, dtype=torch.float64)
    options = {"engine": "closed_form", "dtype": torch.float64}
    step = ClosedFormStep(AbelianGroup((7,)), cells.view(3, 7, 7), runs=3, **options)
    everything = step(weights)[0].clone()
    step.take_runs(torch.tensor([2]))
    torch.testing.assert_close(step(weights[2:])[0], everything[2:])


def test_padding_is_left_out():
    from learndyn.cogo_li2.closed_form import ClosedFormStep
    from learndyn.cogo_li2.groups import AbelianGroup

    generator = torch.Generator().manual_seed(1)
    cells = torch.rand(4, 49, generator=generator).argsort(1) >= 5
    weights = torch.randn(4, 3, 7, 10, generator=generator, dtype=torch.float64)
    widths = (10, 4, 4, 6)
    for run, width in enumerate(widths):
        weights[run, ..., width:] = 0
    options = {"engine": "closed_form", "dtype": torch.float64}
    step = ClosedFormStep(AbelianGroup((7,)), cells.view(4, 7, 7), runs=4, **options)
    expected = step(weights)[0].clone()
    torch.testing.assert_close(step(weights, widths=widths)[0], expected, rtol=1e-12, atol=1e-12)


def test_refused_for_other_networks():
    from learndyn.cogo_li2.training import TrainConfig
    from learndyn.core.config import ConfigError

    with pytest.raises(ConfigError, match=r"closed_form.*sqr"):
        TrainConfig(engine="closed_form", activation="relu")
