"""Networks from elsewhere: three ways to write one, layers by path, other people's weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from flax import nnx
from scipy.special import erf, softmax

import l2t_jax
from l2t_jax import Network, Outputs, Variables, concatenate, tokens_to_map, with_token_maps
from l2t_jax.adapters import from_linen, from_nnx, linen_paths, nnx_variables
from l2t_jax.models import imagenet_resnet, vit
from l2t_jax.pytorch import from_torch, to_torch
from l2t_jax.pytorch.hugging_face import torchvision_names

pytestmark = [pytest.mark.usefixtures("quickly_compiled"), pytest.mark.slow]

WIDTHS, CLASSES, MOMENTUM, EPSILON = (4, 6), 3, 0.9, 1e-5


class Linen(nn.Module):
    """Knows nothing of this project: logits alone, and a flag of its own."""

    @nn.compact
    def __call__(self, x, use_running_average):
        for width in WIDTHS:
            x = nn.Conv(width, (3, 3), param_dtype=x.dtype)(x)
            norm = nn.BatchNorm(
                use_running_average, momentum=MOMENTUM, epsilon=EPSILON, param_dtype=x.dtype
            )
            x = norm(x)
            x = nn.tanh(x)
        self.sow("intermediates", "last", x)
        return nn.Dense(CLASSES, param_dtype=x.dtype)(x.mean((1, 2)))


class NNX(nnx.Module):
    def __init__(self, rngs):
        dtype, norm = jnp.float64, {"momentum": MOMENTUM, "epsilon": EPSILON}
        inputs = zip((3, *WIDTHS), WIDTHS, strict=False)
        self.convs = nnx.List(
            [nnx.Conv(i, o, (3, 3), param_dtype=dtype, rngs=rngs) for i, o in inputs]
        )
        self.norms = nnx.List(
            [nnx.BatchNorm(o, param_dtype=dtype, rngs=rngs, **norm) for o in WIDTHS]
        )
        for norm, width in zip(self.norms, WIDTHS, strict=True):  # which are float32 otherwise
            norm.mean = nnx.BatchStat(jnp.zeros(width, dtype))
            norm.var = nnx.BatchStat(jnp.ones(width, dtype))
        self.head = nnx.Linear(WIDTHS[-1], CLASSES, param_dtype=dtype, rngs=rngs)

    def __call__(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = jnp.tanh(norm(conv(x)))
        self.sow(nnx.Intermediate, "last", x)
        return self.head(x.mean((1, 2)))


def by_hand(variables, images, *, train):
    x, maps, stats = images, [], []
    for (kernel, bias, scale, shift), (mean, var) in zip(
        variables.params["layers"], variables.model_state["stats"], strict=True
    ):
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x + bias
        now = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (mean, var)
        moved = (
            MOMENTUM * old + (1 - MOMENTUM) * new for old, new in zip((mean, var), now, strict=True)
        )
        stats.append(tuple(moved) if train else (mean, var))
        x = (x - now[0]) / jnp.sqrt(now[1] + EPSILON) * scale + shift
        maps.append(x)
        x = jnp.tanh(x)
    logits = x.mean((1, 2)) @ variables.params["head"][0] + variables.params["head"][1]
    return Outputs(logits, (maps[0], x), {"stats": stats})


def the_same_three_times(images):
    """Networks and variables: Linen, NNX, a pure function; and how each has its parameters."""
    linen = from_linen(
        Linen(),
        features=["BatchNorm_0", "last"],
        mode=lambda train: {"use_running_average": not train},
    )
    variables = jax.tree.map(jnp.float64, linen.init(jax.random.key(0), images))
    params, stats = variables.params, variables.model_state["batch_stats"]
    norms = [(params[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"]) for i in range(2)]
    module = NNX(nnx.Rngs(1))
    for i, (norm, running) in enumerate(norms):
        for name, value in params[f"Conv_{i}"].items():
            getattr(module.convs[i], name)[...] = value
        for name, value in (norm | running).items():
            getattr(module.norms[i], name)[...] = value
    for name, value in params["Dense_0"].items():
        getattr(module.head, name)[...] = value

    def plain(params):
        layers = [
            (*(params[f"Conv_{i}"][k] for k in ("kernel", "bias")),
             *(params[f"BatchNorm_{i}"][k] for k in ("scale", "bias")))
            for i in range(2)
        ]  # fmt: skip
        return {"layers": layers, "head": [params["Dense_0"][k] for k in ("kernel", "bias")]}

    hand = Variables(plain(params), {"stats": [(r["mean"], r["var"]) for _, r in norms]})
    return [
        (linen, variables, plain),
        (from_nnx(NNX, features=["norms/0", "last"]), nnx_variables(module), plain_of_nnx),
        (Network(lambda key, images: hand, by_hand), hand, lambda params: params),
    ]


def plain_of_nnx(params):
    convs, norms = params["convs"], params["norms"]
    layers = [
        (convs[i]["kernel"], convs[i]["bias"], norms[i]["scale"], norms[i]["bias"])
        for i in range(2)
    ]
    return {"layers": layers, "head": [params["head"][k] for k in ("kernel", "bias")]}


def test_one_step_is_the_same_through_linen_nnx_and_a_pure_function():
    batch = small.batch(0, side=6)
    source = small.network((5, 3), classes=4)
    source_variables = source.init(jax.random.key(2), batch.images)
    pairs = l2t_jax.all_pairs(range(2), range(2))
    optimizers = {
        "optimizer": optax.sgd(0.1, momentum=0.9),
        "meta_optimizer": optax.sgd(1.0),
    }
    ends = []
    for network, variables, plain in the_same_three_times(batch.images):
        fixed = Network(lambda key, images, v=variables: v, network.apply)
        method = l2t_jax.l2t(source, fixed, pairs, **optimizers)
        state = method.init(jax.random.key(3), source_variables, batch)
        step = jax.jit(method.step)
        for seed in (0, 4):
            state, info = step(state, source_variables, small.batch(seed, side=6))
        end = (plain(state.inner.params), state.inner.extra, state.meta_params, info)
        stats = [leaf.tolist() for leaf in jax.tree.leaves(state.model_state)]
        ends.append((*end, sorted(stats, key=len)))
    first, *others = ends
    assert float(first[3].meta_gradient_norm) > 1e-6
    for other in others:
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_paths_that_are_not_there_are_told_with_those_that_are():
    images = jnp.ones((2, 8, 8, 3))
    mode = {"mode": lambda train: {"use_running_average": not train}}
    found = linen_paths(Linen(), images, **mode)
    assert {path: leaf.shape for path, leaf in found.items()} == {
        "Conv_0": (2, 8, 8, 4),
        "BatchNorm_0": (2, 8, 8, 4),
        "Conv_1": (2, 8, 8, 6),
        "BatchNorm_1": (2, 8, 8, 6),
        "last": (2, 8, 8, 6),
        "Dense_0": (2, 3),
    }
    network = from_linen(Linen(), features=["Conv_0", "Conv_7"], **mode)
    variables = network.init(jax.random.key(0), images)
    with pytest.raises(ValueError, match=r"Conv_0 \[2, 8, 8, 4\], Batch.*got Conv_7"):
        network.apply(variables, images, train=False)
    images = images.astype(jnp.float64)
    network = from_nnx(NNX, features=["norms/9"])
    with pytest.raises(ValueError, match=r"norms/0 \[2, 8, 8, 4\].*got norms/9"):
        network.apply(network.init(jax.random.key(0), images), images, train=True)
    for features in ("Conv_0", []):
        with pytest.raises(ValueError, match="features must be paths"):
            from_linen(Linen(), features=features)


def test_nothing_has_to_be_matched():
    """Of two samples: an array of two rows is not taken for logits and feature maps."""
    images = jax.random.normal(jax.random.key(0), (2, 6, 6, 3), jnp.float64)
    module = NNX(nnx.Rngs(0))
    variables, network = nnx_variables(module), from_nnx(NNX)
    for train in (False, True):
        outputs = network.apply(variables, images, train=train)
        module.train() if train else module.eval()
        logits, _ = nnx.capture(module, nnx.Intermediate)(images)
        np.testing.assert_allclose(outputs.logits, logits, rtol=1e-12)
        assert outputs.features == ()
    moved = nnx_variables(module).model_state
    np.testing.assert_allclose(outputs.model_state["norms"][0]["mean"], moved["norms"][0]["mean"])
    mode = {"mode": lambda train: {"use_running_average": not train}}
    linen = from_linen(Linen(), **mode)
    of_linen = linen.init(jax.random.key(0), images)
    chosen = from_linen(Linen(), features=["Conv_0"], **mode).apply(of_linen, images, train=True)
    outputs = linen.apply(of_linen, images, train=True)
    np.testing.assert_array_equal(outputs.logits, chosen.logits)
    assert outputs.features == ()
    sgd = optax.sgd(0.1)
    method = l2t_jax.l2t(linen, network, [(0, 0)], optimizer=sgd, meta_optimizer=sgd)
    with pytest.raises(ValueError, match="source network must give feature maps"):
        method.init(jax.random.key(0), of_linen, l2t_jax.Batch(images, jnp.array([0, 1])))
    with pytest.raises(ValueError, match=r"logits, or \(logits, feature maps\) \(got dict"):
        from_nnx(lambda rngs: Dict()).apply(Variables({}, {}), images, train=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p, s: (p | {"head": {"kernel": p["head"]["kernel"]}}, s), "params .*no head/bias"),
        (
            lambda p, s: ({k: v for k, v in p.items() if k != "norms"}, s),
            "no norms/0/bias; .* and 1 more",
        ),
        (lambda p, s: (p | {"more": jnp.ones(2)}, s), "params .*more, which it does not have"),
        (
            lambda p, s: (p | {"head": p["head"] | {"bias": jnp.ones(7)}}, s),
            r"params .*head/bias of shape \(7,\), not \(3,\)",
        ),
        (lambda p, s: (p, {}), "model_state must be .*no norms/0/mean"),
    ],
)
def test_variables_that_are_not_the_modules_are_told(change, told):
    variables = nnx_variables(NNX(nnx.Rngs(0)))
    network = from_nnx(NNX, features=["last"])
    shapes = jax.ShapeDtypeStruct((1, 6, 6, 3), jnp.float32)
    with pytest.raises(ValueError, match=told):
        jax.eval_shape(
            lambda images: network.apply(Variables(*change(*variables)), images, train=True), shapes
        )


class Dict(nnx.Module):
    def __call__(self, x):
        return {"logits": x}


def test_what_runs_several_times_is_told_apart():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            layer = nn.Dense(3, name="layer")
            return layer(layer(x)).mean((1, 2))

    images = jnp.ones((1, 2, 2, 3))
    assert list(linen_paths(Twice(), images)) == ["layer[0]", "layer[1]"]
    network = from_linen(Twice(), features=["layer[1]", "layer[0]"])
    variables = network.init(jax.random.key(0), images)
    second, first = network.apply(variables, images, train=True).features
    kernel, bias = (variables.params["layer"][name] for name in ("kernel", "bias"))
    np.testing.assert_allclose(second, first @ kernel + bias, rtol=1e-6)
    with pytest.raises(ValueError, match=r"layer\[0\].*got layer"):
        from_linen(Twice(), features=["layer"]).apply(variables, images, train=False)


def test_dropout_of_nnx_draws_anew_and_what_was_sown_does_not_pile_up():
    class Dropped(nnx.Module):
        def __init__(self, rngs):
            self.head = nnx.Linear(3, 8, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            self.sow(nnx.Intermediate, "maps", x)
            return self.drop(self.head(x.mean((1, 2)))), (x,)

    network, images = from_nnx(Dropped), jnp.ones((2, 4, 4, 3))
    variables = network.init(jax.random.key(0), images)
    seen, structure = [], jax.tree.structure(variables.model_state)
    for _ in range(3):
        outputs = network.apply(variables, images, train=True)
        seen.append(np.asarray(outputs.logits))
        variables = variables._replace(model_state=outputs.model_state)
        assert jax.tree.structure(outputs.model_state) == structure
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])
    still = [network.apply(variables, images, train=False).logits for _ in range(2)]
    np.testing.assert_array_equal(*still)


def numpy_vit(weights: dict[str, np.ndarray], images: np.ndarray, patch: int, heads: int):
    """Logits and tokens after each block, from weights under timm's names."""

    def affine(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    b, h, w, c = images.shape
    cut = images.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 5, 2, 4)
    kernel = weights["patch_embed.proj.weight"]
    x = cut.reshape(b, -1, c * patch**2) @ kernel.reshape(len(kernel), -1).T
    x = x + weights["patch_embed.proj.bias"]
    token = np.broadcast_to(weights["cls_token"], (b, 1, x.shape[-1]))
    x = np.concatenate([token, x], 1) + weights["pos_embed"]
    blocks = []
    while f"blocks.{len(blocks)}.norm1.weight" in weights:
        name = f"blocks.{len(blocks)}"
        qkv = affine(norm(x, f"{name}.norm1"), f"{name}.attn.qkv")
        q, k, v = np.moveaxis(qkv.reshape(b, x.shape[1], 3, heads, -1), (2, 3), (0, 2))
        shares = softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -1)
        x = x + affine((shares @ v).swapaxes(1, 2).reshape(x.shape), f"{name}.attn.proj")
        hidden = affine(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        x = x + affine(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, f"{name}.mlp.fc2")
        blocks.append(x)
    return affine(norm(x, "norm")[:, 0], "head"), blocks


def test_the_vision_transformer_is_timms_by_definition_and_weights():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 6, 4, 3))
    network = vit("micro", 5, patch=2)
    drawn = network.init(jax.random.key(0), jnp.asarray(images))
    weights = {k: v + 0.2 * rng.standard_normal(v.shape) for k, v in to_torch(drawn).items()}
    assert weights["pos_embed"].shape == (1, 7, 64)
    outputs = network.apply(from_torch(weights, drawn), jnp.asarray(images), train=True)
    logits, blocks = numpy_vit(weights, images, 2, 4)
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-11)
    assert len(outputs.features) == len(blocks) == 6
    for feature, tokens in zip(outputs.features, blocks, strict=True):
        np.testing.assert_allclose(feature, tokens[:, 1:].reshape(2, 3, 2, 64), rtol=1e-10)


def test_a_vision_transformer_without_class_token_reads_all_patches():
    network = vit("micro", 5, patch=4, class_token=False)
    images = jnp.ones((2, 8, 8, 3))
    variables = network.init(jax.random.key(0), images)
    assert variables.params["pos_embed"].shape == (1, 4, 64)
    assert network.apply(variables, images, train=False).features[-1].shape == (2, 2, 2, 64)
    with pytest.raises(ValueError, match="multiples of the patch, 4"):
        network.apply(variables, images[:, :6], train=False)
    for options in ({"size": "huge"}, {"patch": 0}, {"classes": 0}):
        with pytest.raises(ValueError, match=r"must .*\(got"):
            vit(**({"size": "micro", "classes": 5, "patch": 4} | options))


def test_tokens_become_maps_or_are_told():
    tokens = jnp.arange(14.0).reshape(2, 7, 1)
    maps = tokens_to_map(tokens, prefix=1, grid=(2, 3))
    np.testing.assert_array_equal(maps[1, :, :, 0], [[8, 9, 10], [11, 12, 13]])
    for options, message in [
        ({}, r"fill a square \(got 7"),
        ({"grid": (2, 3)}, r"tokens must be 6 for a grid of \(2, 3\)"),
        ({"prefix": -1}, r"prefix must .*\(got -1"),
        ({"prefix": 8}, "fill a square"),
    ]:
        with pytest.raises(ValueError, match=message):
            tokens_to_map(tokens, **options)
    with pytest.raises(ValueError, match="tokens must be of rank 3"):
        tokens_to_map(tokens[0])


def test_foreign_tokens_take_part_beside_maps():
    class Tokens(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            maps = nn.Conv(4, (2, 2), strides=(2, 2), name="stem", param_dtype=images.dtype)(images)
            x = jnp.pad(maps.reshape(len(maps), -1, 4), ((0, 0), (1, 0), (0, 0)))
            x = nn.Dense(8, name="mix", param_dtype=x.dtype)(x)
            return x[:, 0, :3]

    foreign = with_token_maps(from_linen(Tokens(), features=["stem", "mix"]), prefix=1)
    source = concatenate([small.network((4,)), foreign])
    batch = small.batch(0)
    variables = source.init(jax.random.key(0), batch.images)
    shapes = [f.shape for f in source.apply(variables, batch.images, train=False).features]
    assert shapes == [(5, 4, 4, 4), (5, 2, 2, 4), (5, 2, 2, 8)]
    method = l2t_jax.l2t(
        source, foreign, l2t_jax.all_pairs(range(3), range(2)),
        optimizer=optax.sgd(0.1), meta_optimizer=optax.adam(1e-2),
    )  # fmt: skip
    state = method.init(jax.random.key(1), variables, batch)
    _, info = jax.jit(method.step)(state, variables, batch)
    assert float(info.meta_gradient_norm) > 0


@pytest.mark.parametrize("depth", [18, 50])
def test_hugging_faces_names_are_torchvisions(depth):
    """Written from their ResNet's modules: every name of ours is reached, each once."""
    layers, blocks = (2, (2, 2, 2, 2)) if depth == 18 else (3, (3, 4, 6, 3))
    names = [f"resnet.embedder.embedder.{part}" for part in ("convolution", "normalization")]
    for stage, count in enumerate(blocks):
        for block in range(count):
            base = f"resnet.encoder.stages.{stage}.layers.{block}"
            inner = [f"{base}.layer.{i}" for i in range(layers)]
            if block == 0 and (stage or depth == 50):
                inner.append(f"{base}.shortcut")
            names += [f"{i}.{part}" for i in inner for part in ("convolution", "normalization")]
    leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    full = [f"{n}.weight" for n in names if n.endswith("convolution")]
    full += [f"{n}.{leaf}" for n in names if n.endswith("normalization") for leaf in leaves]
    full += ["classifier.1.weight", "classifier.1.bias"]
    network = imagenet_resnet(depth, 7)
    like = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((1, 64, 64, 3), jnp.float32))
    wanted = to_torch(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like))
    ours = torchvision_names(dict.fromkeys(full))
    counted = {name for name in ours if not name.endswith("num_batches_tracked")}
    assert counted == set(wanted)
    assert len(ours) == len(full)
    assert torchvision_names({"classifier.1.weight": 1, "a": 2}) == {
        "classifier.1.weight": 1,
        "a": 2,
    }
