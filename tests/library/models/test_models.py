"""Bundled networks: layers against their definitions, feature maps, initialisation, weights."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2t_jax import Network, Variables, output_shapes
from l2t_jax._ops import convolution, cpu_convolution, native_convolution, pooling
from l2t_jax._ops.channel_sums import repeat, total
from l2t_jax._ops.window import Window
from l2t_jax.models import cifar_resnet, imagenet_resnet, vgg
from l2t_jax.models.layers import BatchNorm
from l2t_jax.pytorch import from_torch, to_torch, torch_names

KEY = jax.random.key(0)


def shapes(network: Network, size: int) -> tuple[Variables, list[tuple[int, ...]]]:
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(network.init, KEY, images)
    outputs = output_shapes(network, variables, images)
    assert outputs.logits.shape == (2, 7)
    return variables, [feature.shape[1:] for feature in outputs.features]


def count(variables: Variables) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables.params))


@pytest.mark.parametrize(("depth", "blocks"), [(8, 1), (14, 2), (32, 5), (110, 18)])
def test_cifar_resnet_gives_every_block(depth, blocks):
    _, maps = shapes(cifar_resnet(depth, 7), 32)
    assert maps == [(32, 32, 16)] * blocks + [(16, 16, 32)] * blocks + [(8, 8, 64)] * blocks


# Parameters of torchvision's networks with 1000 classes, less those of 993 classes.
@pytest.mark.parametrize(
    ("depth", "parameters", "width"),
    [
        (18, 11_689_512, 1),
        (34, 21_797_672, 1),
        (50, 25_557_032, 4),
        (101, 44_549_160, 4),
        (152, 60_192_808, 4),
    ],
)
def test_imagenet_resnet_is_torchvisions(depth, parameters, width):
    variables, maps = shapes(imagenet_resnet(depth, 7), 224)
    assert maps == [(112, 112, 64)] + [
        (56 // 2**i, 56 // 2**i, 64 * 2**i * width) for i in range(4)
    ]
    assert count(variables) == parameters - 993 * (512 * width + 1)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("depth", "convolutions"), [(9, 8), (11, 8), (13, 10), (16, 13), (19, 16)])
def test_vgg_gives_what_goes_into_each_max_pool(depth, convolutions, batch_norm):
    variables, maps = shapes(vgg(depth, 7, batch_norm=batch_norm), 32)
    assert maps == [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512), (2, 2, 512)]
    kernels = [leaf for leaf in jax.tree.leaves(variables.params) if leaf.ndim == 4]
    assert len(kernels) == convolutions
    assert ("batch_stats" in variables.model_state) == batch_norm


def test_initialisation_is_the_published_one():
    image = jnp.zeros((1, 32, 32, 3), jnp.float32)
    params = vgg(9, 10).init(KEY, image).params
    assert np.std(params["features.25"]["kernel"]) == pytest.approx(
        (2 / (9 * 512)) ** 0.5, rel=0.01
    )
    assert np.std(params["classifier"]["kernel"]) == pytest.approx(0.01, rel=0.05)
    params = cifar_resnet(8, 100).init(KEY, image).params
    assert np.std(params["block5"]["conv2"]["kernel"]) == pytest.approx(
        (2 / (9 * 64)) ** 0.5, rel=0.02
    )
    for part in params["fc"].values():  # uniform within the bound
        assert np.abs(part).max() <= 1 / 8
        assert np.abs(part).max() > 0.95 / 8
    assert not np.any(params["conv1"]["bias"])


@pytest.mark.parametrize("fast_types", [(), ("float64",)])
@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [
        *((1, 3, 1), (2, 3, 1), (2, 3, 2), (3, 3, 1), (3, 7, 2)),
        *((4, 3, 2), (8, 3, 1), (5, 1, 2), (4, 1, 1), (9, 7, 2)),
    ],
)
def test_every_form_and_derivative_of_a_convolution_is_jaxs_own(
    size, kernel, stride, fast_types, monkeypatch
):
    monkeypatch.setattr(cpu_convolution, "FAST_TYPES", fast_types)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((6, size, size, 3)))
    w = jnp.asarray(rng.standard_normal((kernel, kernel, 3, 4)))
    padding = [(kernel // 2,) * 2] * 2

    def native(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def ours(x, w):
        return convolution.convolve(x, w, (stride, stride), padding)

    def gradient(conv):
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w))), argnums=(0, 1))

    def along(conv):
        return lambda x, w: jax.jvp(gradient(conv), (x, w), (2 * x, 3 * w))

    def squared(conv):
        return jax.grad(lambda x, w: sum(jnp.vdot(g, g) for g in gradient(conv)(x, w)), (0, 1))

    def mapped(conv):
        return lambda x, w: jax.vmap(gradient(conv), (0, None))(x[:, None], w)

    def everything(conv):
        return lambda x, w: [f(conv)(x, w) for f in (gradient, along, squared, mapped)]

    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)

    check(ours(x, w), native(x, w))  # outside jit
    jax.tree.map(check, jax.jit(everything(ours))(x, w), jax.jit(everything(native))(x, w))


@pytest.mark.parametrize("stride", [1, 2])
def test_rounded_operands_give_wide_results_in_every_form(stride):
    """The product of rounded operands, forward and in all derivatives; nothing else is rounded."""
    rng = np.random.default_rng(0)
    x, y, w = (
        jnp.asarray(rng.standard_normal(shape), jnp.float32)
        for shape in (
            (2, 5, 5, 3),
            (2, 6 - 3 * (stride - 1), 6 - 3 * (stride - 1), 4),
            (2, 2, 3, 4),
        )
    )
    padding = [(1, 1), (1, 1)]
    window = Window((2, 2), (stride, stride), ((1, 1), (1, 1)), (5, 5))

    def rounded(array):
        return np.asarray(array.astype(jnp.bfloat16), np.float64)

    def conv(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    exact, back = jax.vjp(conv, rounded(x), rounded(w))
    forms = {
        "conv": ((x, w), exact),
        "spread": ((y, w), back(rounded(y))[0]),
        "taps": ((x, y), back(rounded(y))[1]),
    }
    for name, (operands, expected) in forms.items():
        for platform, module in (("native", native_convolution), ("cpu", cpu_convolution)):
            form = partial(
                getattr(module, f"{platform}_{name}"),
                window=window,
                operands="bfloat16",
                precision=None,
            )
            result = jax.jit(form)(*operands)
            assert result.dtype == jnp.float32
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    ours = partial(
        convolution.convolve, strides=(stride, stride), padding=padding, operands=jnp.bfloat16
    )
    assert np.abs(ours(x, w) - conv(x, w)).max() > 1e-3  # or nothing was rounded

    def inner(x, w):
        return jnp.vdot(y, ours(x, w))

    # The gradient by x is linear in w: its tangent along w is itself.
    tangent = jax.jvp(lambda w: jax.grad(inner)(x, w), (w,), (w,))[1]
    np.testing.assert_allclose(tangent, back(rounded(y))[0], rtol=1e-5, atol=1e-5)


def test_sums_over_all_but_the_channels_and_their_derivatives():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4)))

    def normalised(total, repeat):
        def function(x):
            centred = x - repeat(total(x) / 6, x.shape)
            return jnp.sum(jnp.sin(centred * repeat(total(centred**2), x.shape)))

        return function

    def everything(f):
        squared = jax.grad(lambda x: jnp.sum(jax.grad(f)(x) ** 2))
        return lambda x: [f(x), jax.jvp(jax.grad(f), (x,), (2 * x,)), squared(x), jax.vmap(f)(x)]

    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)

    def own_total(x):
        return jnp.sum(x, tuple(range(x.ndim - 1)))

    ours, own = normalised(total, repeat), normalised(own_total, jnp.broadcast_to)
    check(ours(x), own(x))  # outside jit
    jax.tree.map(check, jax.jit(everything(ours))(x), jax.jit(everything(own))(x))


@pytest.mark.parametrize(
    ("size", "window", "stride", "pad"), [(8, 2, 2, 0), (9, 2, 2, 0), (7, 3, 2, 1)]
)
def test_max_pool(size, window, stride, pad):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, size, size + 1, 3)))
    reference = jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, window, window, 1), (1, stride, stride, 1),
        [(0, 0), (pad, pad), (pad, pad), (0, 0)],
    )  # fmt: skip
    np.testing.assert_array_equal(pooling.max_pool(x, window, stride, pad), reference)


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(8, 2, 2), (9, 2, 2), (10, 3, 3), (9, 3, 2), (7, 3, 1)]
)
def test_every_form_and_derivative_of_max_pooling_is_that_of_slices(length, window, stride):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, length, length, 3)))

    def of_slices(x):
        for axis in (1, 2):
            end = x.shape[axis] - window + 1
            parts = [
                jax.lax.slice_in_dim(x, begin, begin + end, stride, axis) for begin in range(window)
            ]
            x = jnp.stack(parts).max(0)
        return x

    def of_slices_of(x, windows):
        assert windows == (window, stride, 0)
        return of_slices(x)

    def everything(pool):
        def loss(x):
            return jnp.sum(jnp.sin(pool(x**2)))

        squared = jax.grad(lambda x: jnp.sum(jax.grad(loss)(x) ** 2))
        along = jax.jvp(jax.grad(loss), (x,), (2 * x,))
        return [loss(x), along, squared(x), jax.vmap(jax.grad(loss))(x[:, None])]

    ours = everything(lambda x: pooling.max_pool(x, window, stride))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), ours, everything(of_slices))
    # A TPU's form, on this platform.
    y = of_slices(x)
    where = pooling.Windows(window, stride, 0)
    for form, values in ((pooling.largest, 2 * x), (pooling.placed, 3 * y)):
        results = [form(f, values, x, windows=where) for f in (pooling.of_windows, of_slices_of)]
        np.testing.assert_allclose(*results, rtol=1e-12)
    # Equal values share alike in both of a CPU's forms.
    equal = jnp.round(x)
    np.testing.assert_array_equal(
        pooling.placed_in_tiles(y, equal, windows=where),
        pooling.placed(pooling.of_slices, y, equal, windows=where),
    )


def test_batch_norm_keeps_pytorchs_running_statistics():
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 4)) * 3 + 1
    norm = BatchNorm()
    variables = norm.init(KEY, jnp.asarray(x), True)
    fresh = {
        "params": variables["params"],
        "batch_stats": {"mean": jnp.zeros(4), "var": jnp.ones(4)},
    }
    y, moved = norm.apply(fresh, jnp.asarray(x), True, mutable=["batch_stats"])
    flat = x.reshape(-1, 4)
    np.testing.assert_allclose(
        y.reshape(-1, 4), (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), rtol=1e-10
    )
    stats = moved["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.1 * flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-12)
    y = norm.apply({"params": variables["params"], **moved}, jnp.asarray(x), False)
    expected = (flat - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    np.testing.assert_allclose(y.reshape(-1, 4), expected, rtol=1e-10)


def test_batch_norm_keeps_its_digits_where_the_mean_is_far_from_zero():
    x = np.random.default_rng(0).standard_normal((64, 4, 4, 12)) + 30
    x[..., 2:] = np.linspace(30, 36, 10)
    norm, flat = BatchNorm(), x.reshape(-1, 12)
    like = norm.init(KEY, jnp.asarray(x, jnp.float32), True)

    def normalised(near):
        stats = {"mean": jnp.float32(near) * jnp.ones(12, jnp.float32), "var": jnp.ones(12)}
        variables = {"params": like["params"], "batch_stats": stats}
        images = jnp.asarray(x, jnp.float32)
        y, back = jax.vjp(
            lambda images: norm.apply(variables, images, True, mutable=["batch_stats"])[0], images
        )
        return y.reshape(-1, 12), back(y**2)[0].reshape(-1, 12)

    y = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    g = y**2
    slope = (g - g.mean(0) - y * (g * y).mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    # After some steps the running mean is near: float32 has its digits.
    for ours, exact in zip(normalised(29), (y, slope), strict=True):
        np.testing.assert_allclose(ours[:, :2], exact[:, :2], atol=1e-4)
    # At the first step it is zero: 30² takes three of them, and channels of one value make no
    # nan, where their variance comes out below zero.
    for ours, exact in zip(normalised(0), (y, slope), strict=True):
        assert np.all(np.isfinite(ours))
        np.testing.assert_allclose(ours[:, :2], exact[:, :2], rtol=5e-3, atol=5e-3)


def test_dropout_draws_from_a_key_in_the_model_state():
    network = vgg(11, 7, batch_norm=False)
    images = jax.random.normal(KEY, (2, 32, 32, 3), jnp.float32)
    variables = network.init(KEY, images)
    # Kernels of 0.01 make tiny logits; larger ones show which units were dropped.
    variables = variables._replace(params=jax.tree.map(lambda p: 5 * p, variables.params))
    apply = jax.jit(network.apply, static_argnames="train")
    first, second = (apply(variables, images, train=True) for _ in range(2))
    np.testing.assert_array_equal(first.logits, second.logits)
    moved = apply(Variables(variables.params, first.model_state), images, train=True)
    assert np.any(moved.logits != first.logits)
    assert np.any(apply(variables, images, train=False).logits != first.logits)


@pytest.mark.parametrize("depth", [9, 16])
def test_the_width_of_a_vgg_scales_every_layer(depth):
    (whole, _), (narrow, _) = (shapes(vgg(depth, 7, width=width), 32) for width in (64, 16))
    for path, leaf in jax.tree_util.tree_leaves_with_path(whole.params):
        found = dict(jax.tree_util.tree_leaves_with_path(narrow.params))[path]
        fixed = (3, 7)  # colours, classes; 3x3 are kernels
        assert found.shape == tuple(n if n in fixed else n // 4 for n in leaf.shape)


@pytest.mark.parametrize("network", [cifar_resnet(14, 7), imagenet_resnet(50, 7), vgg(11, 7)])
def test_weights_travel_to_pytorchs_layout_and_back(network):
    like, _ = shapes(network, 32)
    rng = np.random.default_rng(0)
    filled = jax.tree.map(
        lambda leaf: (
            rng.standard_normal(leaf.shape).astype(np.float32)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
            else leaf
        ),
        like,
    )
    state_dict = to_torch(filled)
    kernels = {name: a for name, a in state_dict.items() if a.ndim == 4}
    assert all(a.shape[2] == a.shape[3] for a in kernels.values())
    back = from_torch(state_dict | {"bn1.num_batches_tracked": np.zeros(())}, like)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(filled), strict=True):
        if jnp.issubdtype(ours.dtype, jnp.floating):
            np.testing.assert_array_equal(ours, theirs)
    assert set(torch_names(like)) == set(state_dict)


def test_names_are_torchvisions():
    names = torch_names(shapes(imagenet_resnet(50, 7), 64)[0])
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.downsample.0.weight",
        "layer3.5.bn3.running_var",
        "layer4.2.conv3.weight",
        "fc.bias",
    } <= set(names)
    assert "conv1.bias" not in names


def test_weights_that_do_not_fit_are_listed():
    like, _ = shapes(cifar_resnet(8, 7), 32)
    state_dict = to_torch(jax.tree.map(lambda leaf: np.zeros(leaf.shape), like))
    del state_dict["bn1.bias"]
    state_dict["fc.weight"] = np.zeros((5, 64))
    state_dict["extra"] = np.zeros(3)
    with pytest.raises(ValueError, match="must be those of the network") as error:
        from_torch(state_dict, like)
    for part in (
        "missing: bn1.bias [16];",
        "fc.weight [5, 64], which must be [7, 64]",
        "unexpected: extra [3]",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cifar_resnet(18, 10), r"6n\+2.*got 18"),
        (lambda: imagenet_resnet(20, 10), "got 20"),
        (lambda: vgg(12, 10), "got 12"),
        (lambda: vgg(9, 0), "classes must .*got 0"),
        (lambda: vgg(9, 10, width=0), "width .* at least 1 .*got 0"),
    ],
)
def test_unknown_networks_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_within_control_flow_are_in_the_cpus_fast_order(stride):
    """XLA reorders only those at a program's top level; others take up to 100 times as long."""

    def loss(images, kernel):
        outputs = convolution.convolve(images, kernel, (stride, stride), [(1, 1), (1, 1)])
        return jnp.sum(outputs**2)

    def hessian_products(images, kernel):
        gradient = jax.grad(loss, (0, 1))
        return jax.jvp(gradient, (images, kernel), (images, kernel))[1]

    @jax.jit
    def now_and_then(due, images, kernel):
        return jax.lax.cond(due, hessian_products, lambda *given: given, images, kernel)

    given = jnp.ones((2, 8, 8, 3), jnp.float32), jnp.ones((3, 3, 3, 4), jnp.float32)
    program = now_and_then.lower(True, *given).compile().as_text()
    orders = re.findall(r" convolution\(.*dim_labels=([^,\s]*)", program)
    assert len(orders) >= 5
    assert set(orders) == {"b01f_01io->b01f"}


def test_images_are_brought_into_a_convolutions_order_by_a_copy_and_not_in_a_loop():
    """XLA's own loop over a whole transposition reads a line of memory for every value."""

    def loss(images, kernel):
        outputs = convolution.convolve(jax.nn.relu(images), kernel, (1, 1), [(1, 1), (1, 1)])
        return jnp.sum(outputs**2)

    given = jnp.ones((4, 8, 8, 16), jnp.float32), jnp.ones((3, 3, 16, 32), jnp.float32)
    # As the commands compile it; by default all copies look like loops.
    options = {"xla_cpu_use_fusion_emitters": False}
    program = jax.jit(jax.grad(loss, 1)).lower(*given).compile(options).as_text()
    by_channels = re.findall(r"= f32\[16,8,8,4\]\{3,2,1,0\} ([\w-]+)\(", program)
    assert by_channels == ["copy"], program
