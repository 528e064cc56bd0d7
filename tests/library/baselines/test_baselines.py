"""The rivals' losses against plain NumPy and finite differences; several sources as one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from oracles import bilinear, dot, finite_difference, random_like

import l2t_jax
from l2t_jax import Outputs, Variables, baselines, join_variables

pytestmark = [pytest.mark.usefixtures("quickly_compiled"), pytest.mark.slow]

SGD = optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(0.1, momentum=0.9))
PAIRS = [(0, 0), (1, 0), (1, 1)]


def draw(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


def normalised(maps: np.ndarray) -> np.ndarray:
    energy = (maps**2).mean(axis=-1).ravel()
    return energy / np.sqrt((energy**2).sum())


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    powers = np.exp(logits / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def check_gradient(loss, x, seed: int) -> None:
    direction = random_like(x, seed)
    numeric = finite_difference(loss, x, direction)
    assert abs(numeric) > 1e-4
    assert dot(jax.grad(loss)(x), direction) == pytest.approx(numeric, rel=1e-6)


def test_attention_transfer_agrees_with_numpy():
    source, target = draw(0, (3, 6, 4, 5), (3, 2, 2, 7)), draw(1, (3, 3, 5, 2), (3, 4, 4, 3))
    expected = 0.0
    for m, n in PAIRS:
        for b in range(3):
            theirs, ours = np.asarray(source[m][b]), np.asarray(target[n][b])
            difference = normalised(bilinear(theirs, *ours.shape[:2])) - normalised(ours)
            expected += (difference**2).mean() / 3
    loss = baselines.attention_loss(source, target, PAIRS)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    check_gradient(lambda maps: baselines.attention_loss(*maps, PAIRS), (source, target), 2)


def test_a_dead_map_has_a_gradient_of_zero():
    dead, alive = [jnp.zeros((2, 3, 3, 4))], draw(3, (2, 3, 3, 4))
    gradient = jax.grad(lambda maps: baselines.attention_loss(alive, maps, [(0, 0)]))(dead)
    np.testing.assert_array_equal(gradient[0], 0)


@pytest.mark.parametrize("classes", [None, (2, 3)])
def test_distillation_agrees_with_numpy(classes):
    theirs, ours, maps, kernel = draw(4, (4, 5), (4, 5), (4, 2, 3, 6), (6, 5))
    groups = [slice(0, 5)] if classes is None else [slice(0, 2), slice(2, 5)]

    def expected(logits):
        total = 0.0
        for group in groups:
            p, q = (softened(np.asarray(x)[:, group], 3.0) for x in (theirs, logits))
            total += 9 * (p * np.log(p / q)).sum() / 4
        return total

    def loss(logits):
        return baselines.distillation_loss(theirs, logits, temperature=3.0, classes=classes)

    np.testing.assert_allclose(loss(ours), expected(ours), rtol=1e-12)
    check_gradient(loss, ours, 5)
    penalty = baselines.distillation(3.0, classes)
    source, target = Outputs(theirs, (), ()), Outputs(ours, (maps,), ())
    head = penalty.init(jax.random.key(0), source, target)
    assert head.kernel.shape == (6, 5)
    head = head._replace(kernel=kernel)
    logits = np.asarray(maps).mean((1, 2)) @ np.asarray(kernel) + np.asarray(head.bias)
    np.testing.assert_allclose(penalty.apply(head, source, target), expected(logits), rtol=1e-12)


def test_what_does_not_fit_is_told():
    logits = jnp.zeros((2, 5))
    with pytest.raises(ValueError, match=r"classes must .* 5 logits"):
        baselines.distillation_loss(logits, logits, classes=(2, 2))
    with pytest.raises(ValueError, match="same shape"):
        baselines.distillation_loss(logits, logits[:, :4])
    with pytest.raises(ValueError, match=r"temperature must .*got 0\.0"):
        baselines.distillation(0.0)
    outputs = Outputs(logits, (), ())
    with pytest.raises(ValueError, match=r"must have a feature map .*target with none"):
        baselines.distillation().init(jax.random.key(0), outputs, outputs)


def test_penalties_add_up_each_with_its_weight():
    source, target = small.network((4, 3), classes=4), small.network((6, 5))
    batch = small.batch(0)
    variables = source.init(jax.random.key(0), batch.images)
    parts = {
        "lwf": (0.7, baselines.distillation()),
        "at": (20.0, baselines.attention_transfer(PAIRS)),
    }
    method = baselines.with_penalties(source, target, parts, optimizer=SGD)
    state = method.init(jax.random.key(1), variables, batch)
    after, info = jax.jit(method.step)(state, variables, batch)
    total = info.task_loss + 0.7 * info.penalties["lwf"] + 20 * info.penalties["at"]
    np.testing.assert_allclose(info.loss, total, rtol=1e-13)
    assert info.penalties["at"] > 0
    moved = jax.tree.map(lambda a, b: np.any(a != b), after.inner, state.inner)
    assert all(jax.tree.leaves(moved))


def test_finetuning_begins_with_all_but_the_classifier():
    source, target = small.network((4, 3), classes=4), small.network((4, 3), classes=3)
    batch = small.batch(0)
    drawn = source.init(jax.random.key(0), batch.images)
    variables = Variables(drawn.params, random_like(drawn.model_state, 1))
    method = baselines.finetune(source, target, optimizer=SGD)
    state = method.init(jax.random.key(1), variables, batch)
    chex.assert_trees_all_equal(state.inner.params["layers"], variables.params["layers"])
    chex.assert_trees_all_equal(state.model_state, variables.model_state)
    assert state.inner.params["head"].shape == (3, 3)
    pointers = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(variables)}
    taken = jax.tree.leaves((state.inner, state.model_state))
    assert not pointers & {leaf.unsafe_buffer_pointer() for leaf in taken}
    for other in (small.network((4, 5)), small.network((4, 3, 2))):
        method = baselines.finetune(source, other, optimizer=SGD)
        with pytest.raises(ValueError, match=r"architecture.*got .*params\.layers"):
            method.init(jax.random.key(1), variables, batch)


@pytest.mark.parametrize("name", ["l2t", "fm", "at"])
def test_two_copies_of_a_source_are_one_with_its_pairs_doubled(name):
    source, target, batch = small.network((4, 3), classes=4), small.network((6, 5)), small.batch(0)
    one = source.init(jax.random.key(0), batch.images)
    doubled = [(source, one, PAIRS + PAIRS)]
    offset = [(m + 2, n) for m, n in PAIRS]
    both = l2t_jax.concatenate([source, source])
    doubled.append((both, join_variables([one, one]), PAIRS + offset))

    def method(source, pairs):
        if name == "l2t":
            optimizers = {"optimizer": SGD, "meta_optimizer": optax.adam(1e-2)}
            return l2t_jax.l2t(source, target, pairs, unroll_steps=1, **optimizers)
        penalty = {"fm": baselines.feature_matching, "at": baselines.attention_transfer}[name]
        return baselines.with_penalties(
            source, target, {name: (0.5, penalty(pairs))}, optimizer=SGD
        )

    results = []
    for network, variables, pairs in doubled:
        made = method(network, pairs)
        state = jax.jit(made.init)(jax.random.key(1), variables, batch)
        for seed in (1, 2):
            state, info = jax.jit(made.step)(state, variables, small.batch(seed))
        results.append((state, info))
    chex.assert_trees_all_close(*results, rtol=1e-12, atol=1e-14)


def test_fixed_weights_of_pairs_and_channels_agree_with_numpy():
    source, target = draw(0, (3, 4, 4, 5), (3, 4, 4, 7)), draw(1, (3, 4, 4, 2), (3, 4, 4, 3))
    levels, shares = draw(2, (3,))[0], draw(3, (5,), (7,), (7,))
    outputs = [Outputs((), tuple(maps), ()) for maps in (source, target)]
    matching = baselines.feature_matching(PAIRS, pair_weights=levels, channel_weights=shares)
    projections = matching.init(jax.random.key(0), *outputs)
    expected = 0.0
    for (m, n), level, share, layer in zip(PAIRS, levels, shares, projections, strict=True):
        kernel, bias = np.asarray(layer.kernel), np.asarray(layer.bias)
        ours = np.asarray(target[n]) @ kernel.reshape(kernel.shape[-2:]) + bias
        errors = ((np.asarray(source[m]) - ours) ** 2).mean(axis=(1, 2))
        expected += float(level) * (errors @ np.asarray(share)).mean()
    found = matching.apply(projections, *outputs)
    assert float(found) == pytest.approx(expected, rel=1e-12)
    check_gradient(
        lambda levels: baselines.feature_matching(
            PAIRS, pair_weights=levels, channel_weights=shares
        ).apply(projections, *outputs),
        levels,
        4,
    )


def test_fixed_weights_must_be_one_for_each_pair_and_channel():
    outputs = Outputs((), tuple(draw(0, (3, 4, 4, 5), (3, 4, 4, 7))), ())
    with pytest.raises(ValueError, match=r"pair_weights must have shape \(3,\).*got \(2,\)"):
        baselines.feature_matching(PAIRS, pair_weights=jnp.ones(2))
    with pytest.raises(ValueError, match="channel_weights must be 3"):
        baselines.feature_matching(PAIRS, channel_weights=[jnp.ones(5)])
    wrong = baselines.feature_matching(PAIRS, channel_weights=[jnp.ones(5)] * 3)
    with pytest.raises(ValueError, match=r"pair \(1, 0\) must have shape \(7,\)"):
        wrong.init(jax.random.key(0), outputs, outputs)
