"""Linen modules that do more than layers: sown values, parts of one mode only, noise."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from flax import nnx

import l2t_jax
from l2t_jax import Variables
from l2t_jax.adapters import from_linen, from_nnx, nnx_variables

pytestmark = pytest.mark.usefixtures("quickly_compiled")

KEY, IMAGES = jax.random.key(0), jnp.ones((2, 4, 4, 3))


class Sower(nn.Module):
    """Sows into a collection of its own, in some modes; also beside a statistic."""

    collection: str = "losses"
    when: tuple[bool, ...] = (False, True)

    @nn.compact
    def __call__(self, x, train):
        layer = nn.Dense(4, param_dtype=x.dtype, name="layer")
        norm = nn.BatchNorm(not train, param_dtype=x.dtype, name="norm")
        x = jnp.tanh(norm(layer(x)))
        pair = self.variable("carry", "pair", lambda: (jnp.zeros(()), jnp.ones(3)))
        if train and not self.is_initializing():
            pair.value = (pair.value[0] + 1, pair.value[1])
        if train in self.when:
            self.sow(self.collection, "activity", jnp.square(x).mean())
            self.sow(self.collection, "activity", x)
        return nn.Dense(3, param_dtype=x.dtype)(x.mean((1, 2))), (x,)


SOWN = [("losses", (False, True)), ("losses", (True,)), ("losses", (False,))]
SOWN += [("batch_stats", (False, True)), ("batch_stats", (True,)), ("intermediates", (True,))]


@pytest.mark.parametrize(("collection", "when"), SOWN)
def test_what_is_sown_anywhere_is_no_state(collection, when):
    """One trace for many steps, as a scan and step by step; the other state moves."""
    network = from_linen(Sower(collection, when))
    batch = small.batch(0)
    batch = batch._replace(images=batch.images.astype(jnp.float32))  # as Flax's statistics are
    method = l2t_jax.baselines.scratch(network, optimizer=optax.sgd(0.1))
    state = first = method.init(KEY, None, batch)
    assert set(state.model_state) == {"batch_stats", "carry"}
    assert set(state.model_state["batch_stats"]) == {"norm"}
    traces = 0

    @jax.jit
    def step(state):
        nonlocal traces
        traces += 1
        return method.step(state, None, batch)[0]

    for _ in range(3):
        state = step(state)
    assert traces == 1
    assert jax.tree.structure(state) == jax.tree.structure(first)
    assert float(state.model_state["carry"]["pair"][0]) == 3
    assert np.any(state.model_state["batch_stats"]["norm"]["mean"])
    scanned, _ = jax.lax.scan(lambda state, _: (step(state), ()), first, None, 3)
    for a, b in zip(jax.tree.leaves(scanned), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_state_that_was_sown_into_before_does_not_grow():
    """Variables of the module's own `init` hold what it sowed."""
    network, module = from_linen(Sower()), Sower()
    collections = dict(module.init(KEY, IMAGES, train=False))
    variables = Variables(collections.pop("params"), collections)
    assert "losses" in collections
    for _ in range(3):
        outputs = network.apply(variables, IMAGES, train=True)
        assert jax.tree.structure(outputs.model_state) == jax.tree.structure(collections)
        variables = Variables(variables.params, outputs.model_state)


def test_what_an_nnx_module_sows_is_no_state_either():
    class Loss(nnx.Variable):
        pass

    class SowerNNX(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(3, 4, rngs=rngs)

        def __call__(self, x):
            x = self.layer(x)
            self.sow(Loss, "activity", x.mean())
            self.sow(nnx.BatchStat, "other", x.mean())
            return x.mean((1, 2)), (x,)

    network, traces = from_nnx(SowerNNX), 0
    variables = network.init(KEY, IMAGES)

    @jax.jit
    def apply(variables):
        nonlocal traces
        traces += 1
        return network.apply(variables, IMAGES, train=True).model_state

    for _ in range(3):
        variables = Variables(variables.params, apply(variables))
    assert traces == 1
    assert variables.model_state == {}
    used = SowerNNX(nnx.Rngs(0))
    used.kept = nnx.Intermediate((jnp.ones(2),))  # as an older Flax leaves behind
    network.apply(nnx_variables(used), IMAGES, train=True)


@pytest.mark.parametrize("name", ["rngs", "evaluation_rngs"])
def test_streams_are_names_and_not_letters(name):
    with pytest.raises(ValueError, match=rf"^{name} must be a sequence .* \(got 'dropout'\)"):
        from_linen(Sower(), **{name: "dropout"})


def test_perturbations_are_no_state():
    """They have a batch's size, which another batch need not have."""

    class Perturbed(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = self.perturb("x", nn.Dense(3)(x))
            return x.mean((1, 2)), (x,)

    network = from_linen(Perturbed())
    variables = network.init(KEY, IMAGES)
    assert variables.model_state == {}
    assert network.apply(variables, IMAGES[:1], train=True).logits.shape == (1, 3)


class InTraining(nn.Module):
    """An auxiliary head and a statistic that evaluation does not know."""

    @nn.compact
    def __call__(self, x, train):
        x = jnp.tanh(nn.Dense(4, name="layer", param_dtype=x.dtype)(x))
        logits = nn.Dense(3, name="head", param_dtype=x.dtype)(x.mean((1, 2)))
        if train:
            late = self.variable("late", "mean", jnp.zeros, (4,), x.dtype)
            if not self.is_initializing():
                late.value = x.mean((0, 1, 2))
            auxiliary = nn.Dense(3, name="auxiliary", param_dtype=x.dtype)
            logits = logits + 0.1 * auxiliary(x.mean((1, 2)) - late.value)
        return logits, (x,)


def test_parts_that_exist_in_training_only_are_made_and_trained():
    batch = small.batch(0)
    network = from_linen(InTraining())
    variables = network.init(KEY, batch.images)
    assert set(variables.params) == {"layer", "head", "auxiliary"}
    np.testing.assert_array_equal(variables.model_state["late"]["mean"], 0)
    evaluated = InTraining().init(jax.random.split(KEY, 1)[0], batch.images, train=False)["params"]
    for name, drawn in evaluated.items():  # the parts of both modes are drawn as before
        np.testing.assert_array_equal(drawn["kernel"], variables.params[name]["kernel"])
    method = l2t_jax.baselines.scratch(network, optimizer=optax.sgd(0.1))
    state = first = method.init(KEY, None, batch)
    for _ in range(2):
        state, _ = jax.jit(method.step)(state, None, batch)
    assert np.any(state.model_state["late"]["mean"])
    for name in first.inner.params:
        before, after = (s.inner.params[name]["kernel"] for s in (first, state))
        assert np.any(before != after)
    trained = l2t_jax.target_variables(state)
    assert network.apply(trained, batch.images, train=False).logits.shape == (5, 3)


def test_variables_that_lack_a_part_of_one_mode_are_told():
    network = from_linen(InTraining())
    params = InTraining().init(KEY, IMAGES, train=False)["params"]
    with pytest.raises(ValueError, match=r"auxiliary.*`init` of this network") as error:
        network.apply(Variables(params, {"late": {}}), IMAGES, train=True)
    assert "training pass" in str(error.value)
    params = network.init(KEY, IMAGES).params
    with pytest.raises(ValueError, match=r"late/mean.*`init` of this network"):
        network.apply(Variables(params, {"late": {}}), IMAGES, train=True)


class Noisy(nn.Module):
    """Draws in every pass; drops units where it is given a key for it."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4)(x)
        x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        x = nn.Dropout(0.5, deterministic=not self.has_rng("dropout"))(x)
        return x.mean((1, 2)), (x,)


def test_noise_in_evaluation_is_drawn_where_it_is_asked_for():
    network = from_linen(Noisy(), rngs=("noise", "dropout"), evaluation_rngs=("noise",))
    variables = network.init(KEY, IMAGES)

    def run(variables, train):
        return network.apply(variables, IMAGES, train=train)

    first, again = (run(variables, False).features[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.std(first - nn.Dense(4).apply({"params": variables.params["Dense_0"]}, IMAGES)) > 0.5
    assert not np.any(first == 0)  # no key for dropout, which training has
    training = run(variables, True)
    assert np.any(training.features[0] == 0)
    moved = Variables(variables.params, training.model_state)
    assert not np.any(run(moved, False).features[0] == first)


@pytest.mark.parametrize(
    ("options", "train", "parts"),
    [
        ({}, False, ["noise", "an evaluation pass", "`evaluation_rngs`"]),
        ({"rngs": ("noise",)}, False, ["noise", "an evaluation pass", "`evaluation_rngs`"]),
        ({"rngs": ("dropout",)}, True, ["noise", "a training pass", "`rngs`"]),
        ({"evaluation_rngs": ("noise",)}, True, ["noise", "a training pass", "`rngs`"]),
    ],
)
def test_streams_without_a_key_are_told(options, train, parts):
    network = from_linen(Noisy(), **options)
    with pytest.raises(ValueError, match="draws random numbers") as error:
        network.apply(network.init(KEY, IMAGES), IMAGES, train=train)
    for part in parts:
        assert part in str(error.value)


def test_a_state_without_the_keys_of_its_streams_is_told():
    network = from_linen(Noisy(), rngs=("dropout", "noise"), evaluation_rngs=("noise",))
    params = network.init(KEY, IMAGES).params
    for train, missing in ((False, "noise"), (True, "dropout, noise")):
        with pytest.raises(ValueError, match=rf"'rng_keys' \(got none for {missing}\).* `init`"):
            network.apply(Variables(params, {}), IMAGES, train=train)


def test_state_that_moves_in_evaluation_is_told():
    class Counting(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            count = self.variable("counts", "calls", jnp.zeros, ())
            count.value += 1
            x = nn.Dense(3)(x)
            return x.mean((1, 2)), (x,)

    network = from_linen(Counting())
    variables = network.init(KEY, IMAGES)
    network.apply(variables, IMAGES, train=True)
    with pytest.raises(ValueError, match="changes its state in an evaluation pass"):
        network.apply(variables, IMAGES, train=False)
