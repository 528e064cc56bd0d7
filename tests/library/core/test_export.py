"""Programs that leave Python: exported with a batch of any size, written, read back, called."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

import l2t_jax
from l2t_jax import Batch
from l2t_jax._ops import convolution
from l2t_jax._ops.pooling import max_pool
from l2t_jax.adapters import from_linen
from l2t_jax.models.layers import BatchNorm, Conv

pytest.importorskip("flatbuffers", reason="jax.export writes programs by flatbuffers")
pytestmark = [pytest.mark.usefixtures("quickly_compiled"), pytest.mark.slow]

PLATFORMS = [("cpu",), ("cpu", "cuda", "tpu")]
SIZES = (1, 2, 5)


def exported(function, platforms, *shapes):
    """A function's program after a way through bytes; they hold leaves, not optax's structures."""
    leaves, treedef = jax.tree.flatten(shapes)
    results = None

    def flat(*leaves):
        nonlocal results
        found, results = jax.tree.flatten(function(*jax.tree.unflatten(treedef, leaves)))
        return found

    data = export.export(jax.jit(flat), platforms=platforms)(*leaves).serialize()
    program = export.deserialize(data)
    return lambda *inputs: jax.tree.unflatten(results, program.call(*jax.tree.leaves(inputs)))


def shape(*sizes, dtype=jnp.float64):
    return jax.ShapeDtypeStruct(sizes, dtype)


def draw(seed, *sizes):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(sizes))


@pytest.mark.parametrize("platforms", PLATFORMS, ids="-".join)
@pytest.mark.parametrize(
    ("size", "kernel", "channels"), [(6, 3, 4), (6, 3, 130), (2, 3, 4), (4, 1, 4)]
)
def test_gradients_of_a_convolution_take_a_batch_of_any_size(size, kernel, channels, platforms):
    """Of every form that CPUs choose, to the second order, against JAX's own convolution."""
    padding = [(kernel // 2,) * 2] * 2

    def derivatives(conv):
        gradient = jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w))), (0, 1))
        return lambda x, w: [gradient(x, w), jax.jvp(gradient, (x, w), (2 * x, 3 * w))[1]]

    def own(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    ours = derivatives(lambda x, w: convolution.convolve(x, w, padding=padding))
    (b,) = export.symbolic_shape("b")
    shapes = shape(b, size, size, 3), shape(kernel, kernel, 3, channels)
    call, expected = exported(ours, platforms, *shapes), jax.jit(derivatives(own))
    w = draw(1, *shapes[1].shape)
    for batch in SIZES:
        x = draw(batch, batch, size, size, 3)
        for a, e in zip(*map(jax.tree.leaves, (call(x, w), expected(x, w))), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-11)


def test_images_of_any_size_too():
    def gradient(x, w):
        def loss(x, w):
            return jnp.sum(jnp.sin(convolution.convolve(x, w, (2, 2), [(1, 1)] * 2)))

        return jax.grad(loss, (0, 1))(x, w)

    b, h, w = export.symbolic_shape("b, 2*h, 2*w")
    call = exported(gradient, ("cpu",), shape(b, h, w, 3), shape(3, 3, 3, 4))
    x, kernel = draw(0, 3, 6, 4, 3), draw(1, 3, 3, 3, 4)
    for a, e in zip(call(x, kernel), jax.jit(gradient)(x, kernel), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_batch_norm_of_single_positions_keeps_its_types(dtype):
    """Its running variance is unbiased by a count that may be 1."""
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), jnp.ones((2, 4), dtype), False)

    def moved(variables, x):
        return norm.apply(variables, x, True, mutable=["batch_stats"])[1]["batch_stats"]

    (b,) = export.symbolic_shape("b")
    call = exported(moved, ("cpu",), variables, shape(b, 4, dtype=dtype))
    for batch in SIZES:
        x = draw(batch, batch, 4).astype(dtype)
        for a, e in zip(
            *map(jax.tree.leaves, (call(variables, x), moved(variables, x))), strict=True
        ):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, e, rtol=1e-6 if dtype == jnp.float32 else 1e-13)


class Small(nn.Module):
    """The layers of the bundled networks, a few of each."""

    classes: int

    @nn.compact
    def __call__(self, x, train):
        maps = []
        for width in (3, 4):
            x = nn.tanh(BatchNorm()(Conv(width, 3, use_bias=True)(x), train))
            maps.append(x)
            x = max_pool(x, 2, 2)
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(self.classes, param_dtype=x.dtype)(x), tuple(maps)


@pytest.mark.parametrize("platforms", PLATFORMS, ids="-".join)
def test_the_whole_step_takes_a_batch_of_any_size(platforms):
    source, target = from_linen(Small(4)), from_linen(Small(3), rngs=("dropout",))
    method = l2t_jax.l2t(
        source, target, [(0, 1), (1, 0)], unroll_steps=1,
        optimizer=optax.sgd(0.01, momentum=0.9), meta_optimizer=optax.sgd(0.1),
    )  # fmt: skip

    def batch(size):
        labels = np.random.default_rng(size).integers(0, 3, size)
        return Batch(draw(size, size, 8, 8, 3), jnp.asarray(labels))

    variables = jax.jit(source.init)(jax.random.key(0), batch(2).images)
    state = jax.jit(method.init)(jax.random.key(1), variables, batch(2))
    (b,) = export.symbolic_shape("b")
    any_size = Batch(shape(b, 8, 8, 3), shape(b, dtype=jnp.int64))
    call = exported(
        method.step, platforms, *jax.eval_shape(lambda *a: a, state, variables), any_size
    )
    found = call(state, variables, batch(3))
    expected = jax.jit(method.step)(state, variables, batch(3))
    for a, e in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert a.dtype == e.dtype
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12)
    assert float(found[1].meta_gradient_norm) > 0
