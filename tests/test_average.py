"""The moving average of weights: its numbers by hand, and that it lies where the weights do and waits for none."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch

from genomic_vit.training.average import RecentAverage


class Net(L.LightningModule):
    """One weight, one statistic and one counter."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("batches", torch.tensor(0))


def step(callback, module, number):
    callback.on_train_batch_end(SimpleNamespace(global_step=number), module, {}, None, number - 1)


def begun(decay):
    module, callback = Net(), RecentAverage(decay)
    callback.setup(None, module, "fit")
    return module, callback


@pytest.mark.parametrize(("decay", "kept"), [(0.99, [2 / 11, 3 / 12, 4 / 13]), (0.2, [2 / 11, 0.2, 0.2]), (0, [0] * 3)])
def test_the_average_by_hand(decay, kept):
    module, callback = begun(decay)
    callback.on_fit_start(None, module)
    wanted = None
    for number, share in enumerate([0, *kept], start=1):
        module.weight.data.fill_(number**2)
        module.mean.fill_(-(number**2))
        module.batches.fill_(number)
        step(callback, module, number)
        wanted = share * wanted + (1 - share) * number**2 if number > 1 else 1.0
        average = callback._average_model
        torch.testing.assert_close(average.module.weight.data, torch.full((2,), wanted))
        assert float(average.module.mean) == pytest.approx(-wanted)
        assert average.module.batches == average.n_averaged == number


def test_it_is_where_the_weights_are_and_asks_them_nothing():
    """The meta device stands for a GPU: it holds no values, so whoever fetches one, as a wait would, gets an error."""
    module, callback = begun(0.99)
    module.to("meta")  # as the trainer does after setup
    with pytest.raises(NotImplementedError, match="meta"):
        step(callback, module, 1)
    module, callback = begun(0.99)
    module.to("meta")
    callback.on_fit_start(None, module)
    for number in range(1, 4):
        step(callback, module, number)
    assert {tensor.device.type for tensor in callback._average_model.module.state_dict().values()} == {"meta"}
    assert callback._average_model.n_averaged.device.type == "cpu" and callback._average_model.n_averaged == 3
    with pytest.raises(RuntimeError, match="meta"):
        float(module.mean)
