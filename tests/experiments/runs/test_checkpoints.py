"""Checkpoints: runs go on exactly from every point, and damage never passes."""

import resource
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import network

from experiments.data.batches import Repeated
from experiments.data.dataset import Dataset
from experiments.data.in_memory import InMemory
from experiments.options import builders
from experiments.options.train_options import Config
from experiments.runs import checkpoints, snapshot_io
from experiments.runs.checkpoints import Checkpoints, Saved
from experiments.system import devices
from experiments.system.errors import RunFailedError
from experiments.training import jitted, loop, step_info
from l2t_jax import baselines, cross_entropy

pytestmark = pytest.mark.slow

EPOCHS, STEPS = 3, 3


def dataset(seed: int, size: int) -> Dataset:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 4, 4, 3), dtype=np.uint8)
    return Dataset(images, rng.integers(0, 2, size).astype(np.int32), ("a", "b", "c"))


@pytest.fixture(scope="module", params=["scratch", "l2t-ww", "l2t-ww with outer batches"])
def training(request):
    """A function that trains, from a point on where one is given."""
    net, device = network((4, 5)), devices.one_device()
    name, _, outer = request.param.partition(" ")
    config = Config(method=name, unroll_steps=1, meta_lr=0.01, meta_every=2)
    scratch = config.method == "scratch"
    parts = builders.Parts(None if scratch else net, net, [(0, 0), (1, 1)])
    method = config.entry().build(config, parts)
    compiled = jitted.compile_method(method, net, device)
    source = None if scratch else net.init(jax.random.key(9), np.zeros((1, 4, 4, 3), "f"))
    feed = InMemory(dataset(0, 20), device, batch_size=8, seed=1, augment=True)
    assert feed.steps == STEPS
    more = {}
    if outer:
        # Fewer batches than the training has, so that they run on from epoch to epoch.
        other = InMemory(dataset(0, 10), device, batch_size=5, seed=2, augment=True)
        more["outer_batch"] = Repeated(other, STEPS)
    schedule = loop.Schedule(EPOCHS, lambda epoch: 0.05 / (epoch + 1), seed=0)
    parts = dataset(1, 9), dataset(2, 9)
    batch = jitted.blank(compiled, feed)
    state = jax.eval_shape(compiled.init, jax.random.key(0), source, batch)
    _, info, _ = jax.eval_shape(compiled.step, state, source, {"batch": batch})
    return SimpleNamespace(
        run=partial(loop.train, compiled, source, feed, *parts, schedule, more=more),
        state=state,
        info=info,
    )


def figures_of(result):
    """All that a run gives but its times."""
    epochs = [epoch._replace(seconds=0) for epoch in result.epochs]
    best = result.best_epoch._replace(seconds=0)
    return jax.device_get(result._replace(epochs=epochs, best_epoch=best, seconds=0))


def same(a, b):
    """Asserts that two results are bit-identical."""
    left, right = (jax.tree.flatten(figures_of(result)) for result in (a, b))
    assert left[1] == right[1]
    for one, other in zip(left[0], right[0], strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == np.asarray(other).dtype


def test_a_run_goes_on_exactly_from_every_point(training, tmp_path):
    kept = []
    whole = training.run(
        on_point=lambda take, ended: kept.append((snapshot_io.save(take()), ended))
    )
    assert [ended for _, ended in kept] == [False, False, False, True] * EPOCHS
    on_disk = Checkpoints(tmp_path / "checkpoints")
    for number, (saved, _) in enumerate(kept):
        on_disk.write(number, saved)
        on_disk.wait()
        assert on_disk.numbers() == [*range(number + 1)][-checkpoints.KEEP :]
        found = on_disk.newest(snapshot_io.expected(training.state))
        begin = snapshot_io.load(found, training.state, training.info)
        assert (begin.epoch * STEPS + begin.step) == number + 1 - (number + 1) // (STEPS + 1)
        same(training.run(begin=begin), whole)
    on_disk.close()


ARRAYS = {"a['x']": np.arange(6, dtype="f").reshape(2, 3), "b": np.array(3, np.int32),
          "none": np.zeros((0, 4)), "half": np.ones(5, jnp.bfloat16)}  # fmt: skip


@pytest.fixture
def three(tmp_path):
    """A folder with three checkpoints."""
    kept = Checkpoints(tmp_path / "checkpoints")
    for number in (3, 5, 8):
        kept.write(number, Saved(ARRAYS | {"n": np.full(1000, number)}, {"number": number}))
    kept.wait()
    yield kept
    kept.close()


def test_what_is_written_is_read_and_the_rest_is_cleared_away(three):
    for name in ("step-000000001", "step-000000009.orbax-checkpoint-tmp-7"):
        (three.folder / name).mkdir()
    found = three.newest(ARRAYS)
    assert found.record == {"number": 8}
    assert found.arrays.keys() == ARRAYS.keys() - {"none"} | {"n"}
    for name in found.arrays.keys() & ARRAYS.keys():
        np.testing.assert_array_equal(found.arrays[name], ARRAYS[name])
        assert found.arrays[name].dtype == ARRAYS[name].dtype
    write(three, 9)
    assert sorted(path.name for path in three.folder.iterdir()) == [
        name for number in (5, 8, 9) for name in (f"step-{number:09d}", f"step-{number:09d}.sha256")
    ]


def write(kept, number):
    noise = np.random.default_rng(0).integers(0, 256, 10_000, np.uint8)  # does not compress
    kept.write(number, Saved(ARRAYS | {"noise": noise}, {"number": number}))
    kept.wait()


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, cut, lambda path: path.unlink()])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(damage, three):
    """Every file of the newest one in turn."""
    newest = three.folder / "step-000000008"
    for path in sorted(path for path in newest.rglob("*") if path.is_file()):
        content = path.read_bytes()
        damage(path)
        told = []
        found = three.newest(ARRAYS, told.append)
        (line,) = told
        assert line.startswith(f"checkpoint {newest} is skipped: ")
        assert str(path.relative_to(three.folder)) in line
        assert found.record["number"] == 5
        np.testing.assert_array_equal(found.arrays["n"], np.full(1000, 5))
        path.write_bytes(content)
    assert three.newest(ARRAYS).record["number"] == 8
    damage(newest.with_name("step-000000008.sha256"))
    assert three.newest(ARRAYS, lambda text: None).record["number"] == 5


def test_without_a_whole_checkpoint_nothing_is_overwritten(three):
    before = sorted(three.folder.rglob("*"))
    with pytest.raises(ValueError, match="must have a checkpoint") as error:
        three.newest(ARRAYS | {"b": np.zeros(3)}, lambda text: None)
    assert "step-000000003: b must be float64 of shape (3,) (got int32 of shape ())" in str(
        error.value
    )
    assert sorted(three.folder.rglob("*")) == before


def test_damaged_ones_go_when_a_whole_one_is_newer(three):
    (three.folder / "step-000000008" / "manifest.ocdbt").unlink()
    assert three.newest(ARRAYS, lambda text: None).record["number"] == 5
    write(three, 6)
    assert three.numbers() == [3, 5, 6, 8]  # the damaged one is still the newest
    write(three, 9)
    assert three.numbers() == [5, 6, 9]


def test_what_cannot_be_written_is_told_and_the_last_one_stays(three):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(RunFailedError, match=r"cannot be written .*step-000000008$"):
            write(three, 9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert three.newest(ARRAYS).record["number"] == 8
    three.close()
    assert {path.name[:14] for path in three.folder.iterdir()} == {
        f"step-{number:09d}" for number in (3, 5, 8)
    }


def test_random_keys_are_kept():
    tree = {"rng": jax.random.key(5), "more": [jax.random.split(jax.random.key(6), 3)]}
    arrays = {name: np.array(leaf) for name, leaf in snapshot_io.named(tree, "t").items()}
    again = snapshot_io.restore(arrays, jax.eval_shape(lambda: tree), "t")
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(again), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(jax.random.key_data(a), jax.random.key_data(b))


def test_batches_that_are_not_finite_are_named_or_dropped():
    """A loss that is no number where class 2 is in the batch, which it is once an epoch."""
    net, device = network((4, 5)), devices.one_device()

    def task_loss(logits, labels):
        return cross_entropy(logits, labels) * jnp.where(jnp.any(labels == 2), jnp.nan, 1.0)

    config = Config(method="scratch")
    method = baselines.scratch(net, optimizer=builders.sgd(config), task_loss=task_loss)
    data = dataset(0, 24)
    data.labels[7] = 2
    feed = InMemory(data, device, batch_size=8, seed=1, augment=False)
    has_two = [[bool(np.any(b.labels == 2)) for b in feed.epoch(e)] for e in range(EPOCHS)]
    assert [sum(batches) for batches in has_two] == [1] * EPOCHS
    schedule = loop.Schedule(EPOCHS, lambda epoch: 0.05, seed=0)
    parts = dataset(1, 9), dataset(2, 9)
    plain = jitted.compile_method(method, net, device)
    where = f"the task's loss became nan in step {has_two[0].index(True) + 1} of epoch 1"
    with pytest.raises(RunFailedError, match=where):
        loop.train(plain, None, feed, *parts, schedule)
    # What dropping has to come to: the other batches alone.
    state = jitted.first_state(plain, None, feed, seed=0)
    state = jitted.with_learning_rate(state, 0.05, device)
    seen = []
    for epoch in range(EPOCHS):
        for batch in feed.epoch(epoch):
            if not np.any(batch.labels == 2):
                state, info, _ = plain.step(state, None, {"batch": batch})
                seen.append(float(info.loss))
    dropping = jitted.compile_method(method, net, device, drop=True)
    result = loop.train(dropping, None, feed, *parts, schedule, drop_at_most=EPOCHS)
    assert result.dropped == EPOCHS
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(result.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose([e.train["loss"] for e in result.epochs],
                               np.reshape(seen, (EPOCHS, -1)).mean(1), rtol=1e-6)  # fmt: skip
    with pytest.raises(RunFailedError, match=r"of epoch 3 after 2 dropped batches"):
        loop.train(dropping, None, feed, *parts, schedule, drop_at_most=EPOCHS - 1)


INF, NAN = np.float32("inf"), np.float32("nan")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"loss": INF, "matching_loss": INF}, "the matching loss became inf"),
        ({"meta_gradient_norm": NAN}, "the meta-gradient's norm became nan"),
        ({"pair_weights": np.array([1, np.nan])}, "a pair's weight became nan"),
        ({"meta_step": np.array(False), "outer_loss": NAN}, None),
    ],
)  # fmt: skip
def test_what_was_not_finite_first_is_named(changed, text):
    from l2t_jax.l2t import Info

    one = np.float32(1)
    info = Info(one, one, one, one, one, np.ones(2), one, one, np.array(True))._replace(**changed)
    assert bool(step_info.all_finite(info)) == (text is None)
    if text is not None:
        assert step_info.first_not_finite(info) == text
