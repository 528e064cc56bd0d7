"""The derivative of other people's optimisers, where they have one and where they have none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import l2t_jax
from l2t_jax.optimizers import apply_gradient

pytestmark = pytest.mark.usefixtures("quickly_compiled")

MODES = {
    "reverse": l2t_jax.reverse_meta_gradient,
    "mixed": l2t_jax.mixed_meta_gradient,
    "low-memory": l2t_jax.low_memory_meta_gradient,
}
RNG = np.random.default_rng(0)
X, Y = np.hstack([RNG.standard_normal((6, 3)), np.ones((6, 1))]), RNG.standard_normal((6, 2))
FIRST = {
    "a": RNG.standard_normal((4, 4)),  # the last row is a bias
    "b": RNG.standard_normal((4, 2)),
    "idle": RNG.standard_normal(2),
}
DEAD = np.zeros((4, 4))
DEAD[3, 1] = -100


def errors(params):
    """Of each sample; the last layer sees ReLUs, and "idle" is seen by nobody."""
    x, y = X.astype(params["a"].dtype), Y.astype(params["a"].dtype)
    return jnp.mean(jnp.square(jax.nn.relu(x @ params["a"]) @ params["b"] - y), axis=1)


def weighted(params, weights):
    return jnp.mean(weights * errors(params))


def plain(params, weights):
    del weights
    return jnp.mean(errors(params))


def outer(params, weights):
    """Looks at all parameters, at dead and idle ones too."""
    everything = sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(params))
    return plain(params, weights) + 0.1 * everything


def only_matrices(tree):
    return jax.tree.map(lambda leaf: leaf.ndim == 2, tree)


def frozen(tree):
    return {name: "frozen" if name == "a" else "free" for name in tree}


ADAM = optax.adam(0.01)
OPTIMIZERS = {
    "momentum": optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1, 0.9)),
    "nesterov, schedule": optax.sgd(optax.cosine_decay_schedule(0.1, 9), 0.9, nesterov=True),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=0.01),
    "clip_by_global_norm": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9)),
    "adaptive_grad_clip": optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(0.1, 0.9)),
    "clip_by_block_rms": optax.chain(optax.clip_by_block_rms(1.0), optax.sgd(0.1, 0.9)),
    "adam": ADAM,
    "adamw, masked": optax.adamw(0.01, mask=only_matrices),
    "nadam": optax.nadam(0.01),
    "rmsprop": optax.rmsprop(0.01, momentum=0.9, centered=True),
    "adagrad": optax.adagrad(0.1),
    "adabelief": optax.adabelief(0.01),
    "novograd": optax.novograd(0.01),
    "lamb": optax.lamb(0.01),
    "lars": optax.lars(0.1, weight_decay=0.01),
    "sm3": optax.sm3(0.1),
    "adafactor": optax.adafactor(0.01),
    "lion": optax.lion(0.01),
    "MultiSteps": optax.MultiSteps(ADAM, 2).gradient_transformation(),
    "averaged": optax.chain(ADAM, optax.ema(0.9)),
    "multi_transform": optax.multi_transform({"free": ADAM, "frozen": optax.set_to_zero()}, frozen),
}
FIT = {jnp.float32: 2e-3, jnp.bfloat16: 0.25}


@pytest.mark.parametrize("dtype", FIT, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_in_every_mode(name, dtype):
    """Ordinary parameters, a dead unit, and all weights 0: no NaN, and modes that agree."""
    optimizer = OPTIMIZERS[name]

    @jax.jit
    def gradients(params, weights):
        gradient = jax.grad(plain)(params, weights)  # one real step, as l2t takes
        params, state = apply_gradient(optimizer, gradient, optimizer.init(params), params)
        losses = [weighted, plain]
        found = [mode(outer, losses, optimizer, params, state, weights) for mode in MODES.values()]
        return params, found

    for dead, weight in ((False, 1), (True, 1), (False, 0)):
        first = FIRST | {"a": FIRST["a"] + dead * DEAD}
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), first)
        weights = jnp.asarray(weight * np.linspace(0.5, 2, 6), dtype)
        after, found = jax.tree.map(np.float32, gradients(params, weights))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, found)))
        (value, reverse), *others = found
        scale = max(np.abs(reverse).max(), 1e-6)
        for other, gradient in others:
            np.testing.assert_allclose(other, value, rtol=FIT[dtype])
            assert np.abs(gradient - reverse).max() <= FIT[dtype] * scale
