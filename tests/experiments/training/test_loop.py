"""The training loop: donated states, the best epoch, one compilation."""

from collections import namedtuple

import jax
import numpy as np
import pytest
from small import network

from experiments.data.dataset import Dataset
from experiments.data.in_memory import InMemory
from experiments.data.preprocess import normalise
from experiments.options import builders
from experiments.options.builders import Parts
from experiments.options.train_options import Config
from experiments.runs import inputs
from experiments.system import devices
from experiments.training import jitted, loop, schedules, step_info
from l2t_jax import Method, target_variables

pytestmark = [pytest.mark.usefixtures("quickly_compiled"), pytest.mark.slow]


def dataset(seed: int, size: int) -> Dataset:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 4, 4, 3), dtype=np.uint8)
    return Dataset(images, rng.integers(0, 3, size).astype(np.int32), ("a", "b", "c"))


def methods_to_test() -> dict[str, Method]:
    net, config = network((4, 5)), Config(method="l2t-ww", unroll_steps=1, meta_lr=0.01)
    return {
        "scratch": builders.scratch(config, Parts(None, net)),
        "l2t-ww": builders.l2t_ww(config, Parts(net, net, [(0, 0), (1, 1)])),
    }


def train(
    name: str, epochs: int, accuracies: list[float], monkeypatch, patience: int | None = None
) -> tuple:
    """Trains with these validation accuracies, whatever the network says."""
    net, device = network((4, 5)), devices.one_device()
    compiled = jitted.compile_method(methods_to_test()[name], net, device)
    source = None if name == "scratch" else net.init(jax.random.key(9), np.zeros((1, 4, 4, 3), "f"))
    training = InMemory(dataset(0, 20), device, batch_size=8, seed=1, augment=True)
    seen = iter(accuracies[:epochs])
    monkeypatch.setattr(loop, "accuracy", lambda *args: next(seen))
    parts = dataset(1, 4), dataset(2, 4)
    # Rates that do not depend on the number of epochs: a shorter run is a longer one's beginning.
    schedule = loop.Schedule(epochs, lambda epoch: 0.05 / (epoch + 1), 0, patience)
    return compiled, loop.train(compiled, source, training, *parts, schedule)


@pytest.mark.parametrize("name", ["scratch", "l2t-ww"])
def test_the_best_variables_outlive_the_donated_states(name, monkeypatch):
    """After the best epoch training goes on; what is kept is what a run that ends there gives."""
    accuracies = [0.1, 0.9, 0.3, 0.9]
    _, whole = train(name, 4, accuracies, monkeypatch)
    _, short = train(name, 2, accuracies, monkeypatch)
    _, last = train(name, 4, [0.1, 0.2, 0.3, 0.9], monkeypatch)
    assert whole.best_epoch.epoch == short.best_epoch.epoch == 2
    for kept, ended in zip(
        jax.tree.leaves(whole.variables), jax.tree.leaves(short.variables), strict=True
    ):
        np.testing.assert_array_equal(kept, ended)
    moved = [
        np.any(np.asarray(a) != np.asarray(b))
        for a, b in zip(
            jax.tree.leaves(whole.variables), jax.tree.leaves(last.variables), strict=True
        )
    ]
    assert all(moved)


@pytest.mark.parametrize(
    ("accuracies", "patience", "ends"),
    [
        ([0.1, 0.4, 0.3, 0.4, 0.9], 2, 4),  # as good is not better
        ([0.1, 0.4, 0.3, 0.5, 0.2, 0.2], 2, 6),
        ([0.4, 0.3, 0.9], 1, 2),
        ([0.4, 0.3, 0.2], 3, 3),
    ],
)
def test_patience_ends_a_run_as_a_shorter_run_ends(accuracies, patience, ends, monkeypatch):
    epochs = len(accuracies)
    _, result = train("scratch", epochs, accuracies[:ends], monkeypatch, patience)
    assert [epoch.val_accuracy for epoch in result.epochs] == accuracies[:ends]
    assert result.best_epoch.val_accuracy == max(accuracies[:ends])
    labels = dataset(2, 4).labels
    np.testing.assert_array_equal(result.confusion.sum(axis=1), np.bincount(labels, minlength=3))
    variables = jax.device_get(result.variables)
    predicted = network((4, 5)).apply(variables, normalise(dataset(2, 4).images), train=False)
    right = np.mean(predicted.logits.argmax(axis=1) == labels)
    assert result.test_accuracy == right
    _, short = train("scratch", ends, accuracies, monkeypatch)
    for kept, ended in zip(
        jax.tree.leaves((result.variables, target_variables(result.state))),
        jax.tree.leaves((short.variables, target_variables(short.state))),
        strict=True,
    ):
        np.testing.assert_array_equal(kept, ended)


def test_a_step_is_compiled_once_and_takes_the_state_that_it_is_given(monkeypatch):
    compiled, _ = train("scratch", 3, [0.1, 0.2, 0.3], monkeypatch)
    assert compiled.step._cache_size() == 1
    training = InMemory(dataset(0, 20), compiled.devices, batch_size=8, seed=1, augment=False)
    state = jitted.first_state(compiled, None, training, seed=0)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)  # no memory is given twice
    before = jitted.with_learning_rate(state, 0.1, compiled.devices)
    state, *_ = compiled.step(before, None, {"batch": next(training.epoch(0))})
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.inner))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.opt_state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert np.isfinite(jax.tree.leaves(target_variables(state).params)[0]).all()


def test_every_step_has_the_outer_batch_of_the_second_feed():
    """What the loop sees of the outer losses is what the method says with the same two batches."""
    net, device, method = network((4, 5)), devices.one_device(), methods_to_test()["l2t-ww"]
    compiled = jitted.compile_method(method, net, device)
    source = net.init(jax.random.key(9), np.zeros((1, 4, 4, 3), "f"))
    data, steps = dataset(0, 20), 3
    feeds = [
        InMemory(data, device, batch_size=8, seed=seed, augment=True) for seed in inputs.seeds(1, 2)
    ]
    state = jitted.with_learning_rate(
        jitted.first_state(compiled, source, feeds[0], seed=0), 0.05, device
    )
    alone, expected, step = [], [], jax.jit(method.step)
    for batches in zip(*(feed.epoch(0) for feed in feeds), strict=True):
        batch, outer = map(jitted.normalised, batches)
        assert not np.array_equal(batch.images, outer.images)
        alone.append(step(state, source, batch)[1].outer_loss)
        state, info = step(state, source, batch, outer)
        expected.append(info.outer_loss)
    seen: list[np.ndarray] = []
    loop.train(
        compiled,
        source,
        feeds[0],
        dataset(1, 4),
        dataset(2, 4),
        loop.Schedule(1, lambda epoch: 0.05, seed=0),
        more={"outer_batch": feeds[1]},
        on_step=lambda number, info: seen.append(info.outer_loss),
    )
    assert len(seen) == steps
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    assert np.all(abs(np.subtract(expected, alone)) > 1e-3)


def test_the_schedules_are_those_of_the_paper():
    cosine = [*map(schedules.cosine(0.1, 200), (0, 100, 199))]
    np.testing.assert_allclose(cosine, [0.1, 0.05, 0.1 * (1 + np.cos(np.pi * 199 / 200)) / 2])
    risen = [*map(schedules.cosine(0.1, 204, warmup=4), range(204))]
    np.testing.assert_allclose(risen[:5], [0.02, 0.04, 0.06, 0.08, 0.1])
    np.testing.assert_allclose([risen[104], risen[203]], cosine[1:])
    steps = [*map(schedules.step_decay(0.1, 200), range(200))]
    np.testing.assert_allclose(steps, [0.1] * 100 + [0.01] * 50 + [0.001] * 50)
    # Of five epochs half are over after the third has begun, three quarters after the fourth.
    np.testing.assert_allclose([*map(schedules.step_decay(1.0, 5), range(5))], [1, 1, 1, 0.1, 0.01])


def test_what_a_step_did_not_have_is_left_out_of_the_mean():
    Seen = namedtuple("Seen", "loss outer_loss pair_weights norm")
    steps = [
        Seen(np.float32(2), np.float32("nan"), np.array([1.0, np.nan]), np.float32("nan")),
        Seen(np.float32(4), np.float32(6), np.array([3.0, 5.0]), np.float32("nan")),
    ]
    means = step_info.means(steps)
    assert (means["loss"], means["outer_loss"]) == (3, 6)
    assert np.isnan(means["norm"])
    assert means["pair_weights"].tolist() == [2, 5]
