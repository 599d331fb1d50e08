"""Groups, the learning rate over a run, and the averaged weights."""

from __future__ import annotations

import math

import pytest
import torch

from leyolo.models.network import build
from leyolo.models.transfer import from_torch
from leyolo.nn import BatchNorm, ConvBNAct
from leyolo.train.optimizer import averaged, ema_decay, learning_rate, make_optimizer
from leyolo.train.prepare import class_prior, fit_statistics, freeze, from_checkpoint, from_scratch, training_mode
from leyolo.train.settings import make


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 13, 130, 5000])
def test_learning_rate(schedule: str, steps: int) -> None:
    """A run of any length reaches the user's rate, rises in a line, falls to the end value, and never passes either."""
    settings = make({"data": "d", "lr": 0.3, "schedule": schedule, "warmup": 0.05, "lr_final": 0.1})
    rates = [learning_rate(settings, step, steps) for step in range(steps)]
    rising = round(0.05 * steps)
    assert max(rates) == rates[rising] == pytest.approx(0.3)
    assert rates[:rising] == pytest.approx([0.3 * (i + 1) / (rising + 1) for i in range(rising)])
    assert all(a > b for a, b in zip(rates[rising:], rates[rising + 1 :], strict=False))
    assert learning_rate(settings, steps, steps) == pytest.approx(0.03)
    middle = rising + (steps - rising) / 2
    assert learning_rate(settings, middle, steps) == pytest.approx(0.3 * 0.55)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_users_rate_and_decay_on_kernels_only(name: str) -> None:
    network = build("n", 3)
    freeze(network, 2)
    optimizer = make_optimizer(network, make({"data": "d", "optimizer": name, "lr": 0.123, "weight_decay": 0.01}))
    decayed, plain = (group["params"] for group in optimizer.param_groups)
    assert [group["lr"] for group in optimizer.param_groups] == [0.123, 0.123]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert {p.ndim for p in decayed} == {4}
    assert {p.ndim for p in plain} == {1}
    learning = [p for p in network.parameters() if p.requires_grad]
    assert len(decayed) + len(plain) == len(learning)
    for index, layer in enumerate(network.layers):
        assert all(p.requires_grad for n, p in layer.named_parameters() if "conv.bias" not in n) == (index >= 2)


def test_no_rate_of_ones_own_is_the_default_of_the_optimizer() -> None:
    assert make({"data": "d"}).base_lr == 2e-3
    assert make({"data": "d", "optimizer": "sgd"}).base_lr == 1e-2


def test_biases_before_a_batch_norm_do_not_learn_but_the_last_ones_do() -> None:
    network = build("m", 3)
    freeze(network, 0)
    for module in network.modules():
        if isinstance(module, ConvBNAct) and module.conv.bias is not None:
            assert module.conv.bias.requires_grad == (module.bn is None)
    assert not any(p.requires_grad for index in network.config.unused for p in network.layers[index].parameters())


def test_frozen_layers_keep_their_statistics() -> None:
    network = build("n", 3)
    freeze(network, 3)
    training_mode(network, 3)
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    changed = {name for name, value in network.named_buffers() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith(("layers.0.", "layers.1.", "layers.2.")) for name in changed)


def test_ema_decay_ramps_and_fits_the_run() -> None:
    assert ema_decay(0.9999, 1, 10**9) == pytest.approx(2 / 11)
    assert ema_decay(0.9999, 10**8, 10**9) == 0.9999
    assert ema_decay(0.9999, 130, 130) == pytest.approx(1 - 10 / 130)
    assert ema_decay(0.9999, 5, 5) == 0.0
    assert all(0 <= ema_decay(0.9999, n, 100) <= ema_decay(0.9999, n + 1, 100) < 1 for n in range(1, 100))


def test_averaged_weights() -> None:
    """Against the recurrence, statistics included; the first update copies."""
    network = build("n", 2)
    average = averaged(network, 0.9999, steps=1000)
    mine = {name: value.clone() for name, value in network.state_dict().items()}
    for update in range(4):
        with torch.no_grad():
            for value in network.state_dict().values():
                value += torch.randn_like(value)
        average.update_parameters(network)
        decay = 0.0 if update == 0 else ema_decay(0.9999, update, 1000)
        for name, value in network.state_dict().items():
            mine[name] = decay * mine[name] + (1 - decay) * value
    for name, value in average.module.state_dict().items():
        assert torch.allclose(value, mine[name], rtol=1e-5, atol=1e-6), name


def test_statistics_average_over_a_tenth_of_a_short_run() -> None:
    network = build("n", 2)
    for steps, momentum in ((3, 1.0), (100, 0.1), (10_000, 0.03)):
        fit_statistics(network, steps)
        assert {m.momentum for m in network.modules() if isinstance(m, BatchNorm)} == {momentum}


@pytest.mark.parametrize("head", ["leyolo", "yolox"])
def test_other_classes_keep_every_tensor_but_the_last_class_layer(head: str) -> None:
    """Known classes keep their row wherever it moves; a new one starts as the mean of all, at the prior."""
    old = from_torch(build("n", 4, head), {0: "cat", 1: "Dog", 2: "cup", 3: "bus"})
    network = from_checkpoint(old, ["bird", "dog"], head, 320)
    last = "2" if head == "yolox" else "3"
    for name, value in network.state_dict().items():
        if not (name.startswith("head.cls.") and f".{last}.conv." in name):
            assert torch.equal(value, torch.from_numpy(old.state[name])), name
    for level, stride in enumerate((8, 16, 32)):
        weight, bias = (network.state_dict()[f"head.cls.{level}.{last}.conv.{leaf}"] for leaf in ("weight", "bias"))
        before, before_bias = (
            torch.from_numpy(old.state[f"head.cls.{level}.{last}.conv.{leaf}"]) for leaf in ("weight", "bias")
        )
        assert torch.equal(weight[1], before[1])
        assert bias[1] == before_bias[1]
        assert torch.allclose(weight[0], before.mean(0), atol=1e-6)
        prior = 0.01 if head == "yolox" else 5 / 2 / (320 / stride) ** 2
        expected = math.log(prior / (1 - prior)) if head == "yolox" else math.log(prior)
        assert float(bias[0]) == pytest.approx(expected, rel=1e-5)
        assert class_prior(head, 2, 320, stride) == pytest.approx(expected)


def test_the_same_classes_keep_everything() -> None:
    old = from_torch(build("n", 2), {0: "a", 1: "b"})
    state = from_checkpoint(old, ["a", "b"], "leyolo", 64).state_dict()
    assert all(torch.equal(value, torch.from_numpy(old.state[name])) for name, value in state.items())


def test_another_head_keeps_the_body() -> None:
    old = from_torch(build("n", 2), {0: "a", 1: "b"})
    network = from_checkpoint(old, ["a", "b"], "yolox", 64)
    assert network.head_name == "yolox"
    assert all(
        torch.equal(value, torch.from_numpy(old.state[f"layers.{name}"]))
        for name, value in network.layers.state_dict().items()
    )
    assert from_scratch("n", 2, "yolox", 64).head_width == network.head_width
