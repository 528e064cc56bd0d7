"""Networks that compute in half of float32: what the method makes and sums is wide."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

import l2t_jax
from l2t_jax import Batch, Network, baselines
from l2t_jax._ops.convolution import convolve
from l2t_jax.adapters import from_linen
from l2t_jax.models import cifar_resnet, vgg

pytestmark = [pytest.mark.usefixtures("quickly_compiled"), pytest.mark.slow]

HALVES = [jnp.bfloat16, jnp.float16]
PAIRS = ((0, 0), (1, 1), (0, 1))


class Half(nn.Module):
    """Computes in ``dtype``, with parameters in ``param_dtype``, as Flax's own layers do."""

    widths: tuple[int, ...]
    classes: int
    dtype: jnp.dtype
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, train):
        maps, types = [], {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for width in self.widths:
            x = nn.tanh(nn.Conv(width, (3, 3), **types)(x))
            maps.append(x)
        return nn.Dense(self.classes, **types)(x.mean((1, 2))), tuple(maps)


def batch():
    images, labels = small.batch(0)
    return Batch(images.astype(jnp.float32), labels)


def setting(dtype, param_dtype=jnp.float32, **options):
    source = from_linen(Half((4, 5), 4, dtype, param_dtype))
    target = from_linen(Half((6, 3), 3, dtype, param_dtype))
    options = {"optimizer": optax.sgd(0.01), "meta_optimizer": optax.adam(1e-3)} | options
    method = l2t_jax.l2t(source, target, PAIRS, **options)
    variables = source.init(jax.random.key(0), batch().images)
    return method, variables, method.init(jax.random.key(1), variables, batch())


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("param_dtype", [jnp.float32, "half"])
@pytest.mark.parametrize("meta_every", [1, 2])
def test_meta_parameters_and_projections_are_float32_and_move(dtype, param_dtype, meta_every):
    param_dtype = dtype if param_dtype == "half" else param_dtype
    method, variables, state = setting(dtype, param_dtype, meta_every=meta_every)
    own = (state.inner.extra, state.meta_params)
    assert {leaf.dtype for leaf in jax.tree.leaves(own)} == {jnp.dtype(jnp.float32)}
    traces = []

    def traced(*given):
        traces.append(given)
        return method.step(*given)

    step, first = jax.jit(traced), state
    for _ in range(30):
        state, info = step(state, variables, batch())
    assert len(traces) == 1
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype
        assert np.isfinite(b).all()
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a.bias - b.bias).min()),
        (first.meta_params.where, first.inner.extra),
        (state.meta_params.where, state.inner.extra),
        is_leaf=lambda node: isinstance(node, l2t_jax.Affine),
    )
    assert min(jax.tree.leaves(moved)) > 1e-6
    assert np.isfinite(float(info.loss))


@pytest.mark.parametrize("dtype", [*HALVES, jnp.float64])
def test_all_heads_start_wide(dtype):
    wide = jnp.promote_types(dtype, jnp.float32)
    maps = [jnp.ones((2, 4, 4, c), dtype) for c in (3, 5)]
    pooled, key = l2t_jax.pool(maps), jax.random.key(0)
    networks = (
        *(l2t_jax.softmax_channels(), l2t_jax.uniform_channels()),
        *(l2t_jax.affine_pairs(), l2t_jax.constant_pairs(), l2t_jax.uniform_pairs()),
    )
    for inputs in (pooled, [features.astype(dtype) for features in pooled]):
        for network in networks:
            params = network.init(key, inputs)
            made = (params, network.apply(params, inputs))
            assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {wide}
    projections = l2t_jax.init_projections(key, [(0, 1)], maps, maps)
    errors = l2t_jax.channel_errors(projections, maps, maps, [(0, 1)])
    outputs = l2t_jax.Outputs(jnp.ones((2, 3), dtype), tuple(maps), ())
    head = baselines.distillation().init(key, outputs, outputs)
    made = (
        *(pooled, projections, errors, l2t_jax.matching_loss(errors, errors), head),
        *(baselines.distillation().apply(head, outputs, outputs),),
        *(baselines.attention_loss(maps, maps, [(0, 1)]), baselines.attention_map(maps[0])),
        l2t_jax.cross_entropy(outputs.logits, jnp.array([0, 2])),
        l2t_jax.accuracy(outputs.logits, jnp.array([0, 2])),
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {wide}


@pytest.mark.parametrize("dtype", HALVES)
def test_means_and_errors_are_those_of_the_rounded_maps(dtype):
    """Against NumPy in float64: nothing but the feature maps themselves is rounded."""
    rng = np.random.default_rng(0)
    source, target = (jnp.asarray(rng.standard_normal((2, 32, 32, c)) + 40, dtype) for c in (3, 4))
    kernel, bias = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((4, 3), 3))
    exact = [np.asarray(array, np.float64) for array in (source, target, kernel, bias)]
    np.testing.assert_allclose(l2t_jax.pool([source])[0], exact[0].mean((1, 2)), rtol=1e-6)
    projection = l2t_jax.Affine(kernel, bias)
    (errors,) = l2t_jax.channel_errors([projection], [source], [target], [(0, 0)])
    expected = np.square(exact[1] @ exact[2] + exact[3] - exact[0]).mean((1, 2))
    np.testing.assert_allclose(errors, expected, rtol=1e-5)


def test_attention_of_large_and_dead_float16_maps_is_finite():
    """A square of 300 is no float16, nor is the bound under a dead map's norm."""
    for value in (300.0, 0.0):
        maps = jnp.full((1, 2, 2, 3), value, jnp.float16)
        loss = lambda x, maps=maps: baselines.attention_loss([x], [2 * maps + 1], [(0, 0)])  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(maps)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_the_meta_gradient_is_that_of_the_rounded_features():
    """With features rounded to bfloat16, all else is as exact as it is with wide ones."""
    keep = optax.GradientTransformation(  # the gradient becomes the state
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda updates, state, params=None: (jax.tree.map(jnp.zeros_like, updates), updates),
    )
    source, target = small.network((4, 5), classes=4), small.network((6, 3))

    def rounded(after):
        def apply(variables, images, *, train):
            outputs = source.apply(variables, images, train=train)
            maps = tuple(f.astype(jnp.bfloat16).astype(after) for f in outputs.features)
            return outputs._replace(features=maps)

        return Network(source.init, apply)

    data, ends = small.batch(0), []
    variables = source.init(jax.random.key(0), data.images)
    for after in (jnp.bfloat16, jnp.float32):
        method = l2t_jax.l2t(
            rounded(after), target, PAIRS, optimizer=optax.sgd(0.1), meta_optimizer=keep
        )
        state = method.init(jax.random.key(1), variables, data)
        state, info = jax.jit(method.step)(state, variables, data)
        ends.append(state.meta_opt_state)
        assert float(info.meta_gradient_norm) > 1e-6
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [1, 3])
def test_rounded_operands_ask_for_no_more_where_the_context_spans_the_lowering(size):
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((size, size, 3, 4), jnp.float32)
    edge = (size // 2, size // 2)

    def curvature(images, kernel):
        def loss(kernel):
            return jnp.sum(convolve(images, kernel, (1, 1), [edge, edge], jnp.bfloat16) ** 2)

        return jax.jvp(jax.grad(loss), (kernel,), (kernel,))

    with jax.default_matmul_precision("float32"):
        lowered = jax.jit(curvature).trace(images, kernel).lower(lowering_platforms=("tpu",))
    products = [
        line
        for line in lowered.as_text().splitlines()
        if re.search(r"stablehlo\.(dot_general|convolution)", line)
    ]
    assert len(products) >= 3
    assert all("xbf16>" in line and "HIGH" not in line for line in products)


@pytest.mark.parametrize("mode", ["mixed", "low_memory", "reverse", "finite_difference"])
def test_on_accelerators_every_product_of_a_step_is_as_exact_as_asked(mode):
    """In programs lowered for them: the forward passes, and all derivatives of every order."""
    source, target = cifar_resnet(8, classes=5), vgg(9, classes=3, width=4)
    penalty = baselines.distillation()
    learning = l2t_jax.l2t(
        source,
        target,
        PAIRS,
        optimizer=optax.sgd(0.1, momentum=0.9),
        meta_optimizer=optax.adam(1e-3),
        meta_gradient=getattr(l2t_jax, f"{mode}_meta_gradient"),
    )
    rival = baselines.with_penalties(
        source, target, {"lwf": (1.0, penalty)}, optimizer=optax.sgd(0.1)
    )
    given = Batch(
        jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    )
    variables = jax.eval_shape(source.init, jax.random.key(0), given.images)

    def products(precision: str | None, platform: str, method) -> set[str]:
        """What the products say of their precision."""
        state = jax.eval_shape(method.init, jax.random.key(1), variables, given)

        def step(*given):
            with jax.default_matmul_precision(precision):
                return method.step(*given)

        lowered = jax.jit(step).trace(state, variables, given).lower(lowering_platforms=(platform,))
        found = [
            re.sub(r"#stablehlo<precision (\w+)>", r"\1", line).partition("precision")[2]
            for line in lowered.as_text().splitlines()
            if re.search(r"stablehlo\.(dot_general|convolution)", line)
        ]
        assert len(found) > 30
        return {re.findall(r"\[(\w+, \w+)\]", words + "[none, none]")[0] for words in found}

    for platform in ("tpu", "cuda"):
        assert products("float32", platform, learning) == {"HIGHEST, HIGHEST"}
        # Resizing is exact whatever is asked, as `jax.image.resize` is.
        asked = {"HIGH, HIGH", "HIGHEST, HIGHEST"}
        assert products("tensorfloat32", platform, learning) == asked
    assert products("float32", "tpu", rival) == {"HIGHEST, HIGHEST"}
