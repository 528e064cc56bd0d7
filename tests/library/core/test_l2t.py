"""One iteration of the scheme: its meta-gradient, its state, and what it leaves alone."""

from inspect import unwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from oracles import dot, finite_difference, random_like

import l2t_jax
from l2t_jax import Batch, MetaParams, Network, Outputs, Variables

pytestmark = [pytest.mark.usefixtures("quickly_compiled"), pytest.mark.slow]

PAIRS = ((0, 1), (1, 0), (2, 1))
SGD = optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(0.1, momentum=0.9))


def last_gradient() -> optax.GradientTransformation:
    """Keeps the gradient as its state and moves nothing."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda updates, state, params=None: (jax.tree.map(jnp.zeros_like, updates), updates),
    )


def setting(*, meta_optimizer=None, **options):
    """A method over small networks, and a state whose momentum and meta-networks have moved."""
    source, target = small.network((4, 3, 5), classes=4), small.network((6, 4))
    options = {"optimizer": SGD, "meta_optimizer": meta_optimizer or last_gradient()} | options
    method = l2t_jax.l2t(source, target, PAIRS, **options)
    variables = source.init(jax.random.key(0), small.batch(0).images)
    state = method.init(jax.random.key(1), variables, small.batch(0))
    draw = random_like(state.meta_params, 2)
    moved = jax.tree.map(lambda p, d: p + 0.1 * d, state.meta_params, draw)
    state, _ = method.step(state._replace(meta_params=moved), variables, small.batch(1))
    return method, variables, state


def virtual_loss(
    method_state, variables, meta_params, batch, outer_batch, steps, scheme, unlabelled=None
):
    """The outer loss as a plain function of the meta-parameters, written a second time."""
    source, target = small.network((4, 3, 5), classes=4), small.network((6, 4))
    seen = batch.images if unlabelled is None else jnp.concatenate([batch.images, unlabelled])
    features = source.apply(variables, seen, train=False).features

    def outputs(inner, images):
        return target.apply(Variables(inner.params, method_state.model_state), images, train=True)

    def task(inner, batch):
        log = jax.nn.log_softmax(outputs(inner, batch.images).logits)
        return -jnp.mean(log[jnp.arange(len(batch.labels)), batch.labels])

    def matching(inner):
        total = 0.0
        maps = outputs(inner, seen).features
        for i, (m, n) in enumerate(PAIRS):
            pooled = features[m].mean((1, 2))
            what, where = meta_params.what[i], meta_params.where[i]
            w = jax.nn.softmax(pooled @ what.kernel + what.bias)
            lam = jnp.clip(pooled @ where.kernel + where.bias, 0, 6)[:, 0]
            shape = (*maps[n].shape[:3], features[m].shape[-1])
            s = jax.image.resize(features[m], shape, "bilinear", antialias=False)
            d = maps[n] @ inner.extra[i].kernel + inner.extra[i].bias - s
            total += jnp.mean(lam * jnp.sum(w * jnp.mean(d**2, (1, 2)), 1))
        return 0.5 * total

    inner, state = method_state.inner, method_state.opt_state
    losses = {
        "two_stage": [matching] * steps + [lambda i: task(i, batch)],
        "bilevel": [lambda i: task(i, batch) + matching(i)] * steps,
        "matching_only": [matching] * steps,
    }[scheme]
    for loss in losses:
        updates, state = SGD.update(jax.grad(loss)(inner), state, inner)
        inner = optax.apply_updates(inner, updates)
    return task(inner, outer_batch)


@pytest.mark.parametrize(
    "meta_gradient", [l2t_jax.mixed_meta_gradient, l2t_jax.reverse_meta_gradient]
)
@pytest.mark.parametrize(
    ("steps", "scheme", "other_batch", "extra"),
    [
        (1, "two_stage", False, None),
        (2, "two_stage", True, None),
        (2, "two_stage", True, 3),
        (3, "bilevel", False, None),
        (1, "matching_only", True, 3),
    ],
)
def test_the_meta_gradient_of_a_step_is_that_of_finite_differences(
    meta_gradient, steps, scheme, other_batch, extra
):
    method, variables, state = setting(
        meta_gradient=meta_gradient, unroll_steps=steps, scheme=getattr(l2t_jax, scheme)
    )
    batch, outer = small.batch(3), small.batch(4) if other_batch else None
    unlabelled = extra and small.batch(6).images[:extra]
    after, info = jax.jit(method.step)(state, variables, batch, outer, unlabelled)
    gradient = after.meta_opt_state

    def loss(meta_params):  # from the state after the real step, as the method has it
        return virtual_loss(
            after, variables, meta_params, batch, outer or batch, steps, scheme, unlabelled
        )

    assert float(info.outer_loss) == pytest.approx(float(loss(state.meta_params)), rel=1e-12)
    direction = random_like(gradient, 5)
    numeric = finite_difference(loss, state.meta_params, direction, 1e-5)
    assert dot(gradient, direction) == pytest.approx(numeric, rel=1e-6)
    norm = np.sqrt(dot(gradient, gradient))
    assert norm > 1e-5
    assert float(info.meta_gradient_norm) == pytest.approx(norm, rel=1e-12)


def test_the_virtual_steps_leave_no_trace():
    """Parameters, momentum and model state are those of one real step alone."""
    method, variables, state = setting()
    batch = small.batch(3)
    after, info = jax.jit(method.step)(state, variables, batch)
    plain, plain_info = setting(unroll_steps=0)[0].step(state, variables, batch)
    for part in ("inner", "model_state", "opt_state"):
        chex.assert_trees_all_close(getattr(after, part), getattr(plain, part), rtol=1e-13)
    assert float(info.loss) == pytest.approx(float(plain_info.loss), rel=1e-13)
    expected = float(info.task_loss + 0.5 * info.matching_loss)
    assert float(info.loss) == pytest.approx(expected, rel=1e-13)


def test_the_meta_step_is_taken_in_the_first_of_every_k_iterations():
    """Every other iteration is the real step alone, and says that it saw no outer loss."""
    adam = optax.adam(1e-2)
    every, variables, state = setting(meta_optimizer=adam, meta_every=3)
    always = setting(meta_optimizer=adam)[0]
    state = state._replace(iteration=jnp.array(3, jnp.int32))
    step = jax.jit(every.step)
    for number in range(3, 8):
        before = state
        expected, info = always.step(before, variables, small.batch(number))
        state, seen = step(state, variables, small.batch(number))
        assert int(state.iteration) == number + 1
        assert bool(seen.meta_step) == (number % 3 == 0)
        if number % 3:
            expected = expected._replace(
                meta_params=before.meta_params, meta_opt_state=before.meta_opt_state
            )
            assert np.isnan([seen.outer_loss, seen.meta_gradient_norm]).all()
            info = info._replace(outer_loss=0.0, meta_gradient_norm=0.0, meta_step=False)
            seen = seen._replace(outer_loss=0.0, meta_gradient_norm=0.0)
        chex.assert_trees_all_close((state, seen), (expected, info), rtol=1e-10, atol=1e-14)
    with pytest.raises(ValueError, match=r"meta_every.*\(got 0\)"):
        setting(meta_every=0)
    for given in ({"meta_every": 1.5}, {"unroll_steps": 2.5}, {"pairs": [(0.9, 1.2)]}):
        given = {"pairs": [(0, 0)], "optimizer": optax.sgd(0.1), "meta_optimizer": adam} | given
        with pytest.raises(TypeError, match="as an integer"):
            unwrap(l2t_jax.l2t)(None, None, given.pop("pairs"), **given)


@pytest.mark.parametrize("every", [1, 2])
def test_no_meta_step_is_taken_before_its_time(every):
    adam = optax.adam(1e-2)
    late, variables, state = setting(meta_optimizer=adam, meta_from=2, meta_every=every)
    always = setting(meta_optimizer=adam, meta_every=every)[0]
    state = state._replace(iteration=jnp.zeros((), jnp.int32))
    step = jax.jit(late.step)
    for number in range(4):
        before = state
        state, seen = step(before, variables, small.batch(number))
        assert bool(seen.meta_step) == (number >= 2 and number % every == 0)
        if number < 2:
            chex.assert_trees_all_equal(state.meta_params, before.meta_params)
        else:
            expected, _ = always.step(before, variables, small.batch(number))
            chex.assert_trees_all_close(state, expected, rtol=1e-10, atol=1e-14)
    with pytest.raises(ValueError, match=r"meta_from.*\(got -1\)"):
        setting(meta_from=-1)


def test_images_without_labels_take_part_in_the_matching_alone():
    """The real loss is the task's on the batch and the matching's on all images, in one pass."""
    method, variables, state = setting()
    batch, extra = small.batch(3), small.batch(6).images[:3]
    images = jnp.concatenate([batch.images, extra])
    after, info = jax.jit(method.step)(state, variables, batch, unlabelled=extra)
    # The same images with labels: what their labels are moves the task's loss alone.
    labelled = Batch(images, jnp.concatenate([batch.labels, jnp.zeros(3, batch.labels.dtype)]))
    _, whole = method.step(state, variables, labelled)
    assert float(info.matching_loss) == pytest.approx(float(whole.matching_loss), rel=1e-12)
    np.testing.assert_allclose(info.pair_weights, whole.pair_weights, rtol=1e-12)
    target = small.network((6, 4))
    outputs = target.apply(Variables(state.inner.params, state.model_state), images, train=True)
    log = jax.nn.log_softmax(outputs.logits)[: len(batch.labels)]
    task = -jnp.mean(log[jnp.arange(len(batch.labels)), batch.labels])
    assert float(info.task_loss) == pytest.approx(float(task), rel=1e-12)
    chex.assert_trees_all_close(after.model_state, outputs.model_state, rtol=1e-12)
    for wrong in (extra[:0], extra[:, :-1]):
        with pytest.raises(ValueError, match="unlabelled images must be"):
            method.step(state, variables, batch, unlabelled=wrong)


def is_inner(part):
    return isinstance(part, l2t_jax.Inner)


def test_no_virtual_matching_steps_equal_plain_training():
    """T=0: one SGD step on the sum of both losses, meta-parameters untouched."""
    adam = optax.chain(optax.add_decayed_weights(1e-2), optax.adam(1e-2))
    method, variables, state = setting(
        unroll_steps=0, what=l2t_jax.uniform_channels(), where=l2t_jax.uniform_pairs()
    )
    source, target = small.network((4, 3, 5), classes=4), small.network((6, 4))
    penalties = {"fm": (0.5, l2t_jax.baselines.feature_matching(PAIRS))}
    baseline = l2t_jax.baselines.with_penalties(source, target, penalties, optimizer=SGD)

    def named(tree):  # the projections, and their momentum, by the penalty's name
        return jax.tree.map(
            lambda part: part._replace(extra={"fm": part.extra}) if is_inner(part) else part,
            tree,
            is_leaf=is_inner,
        )

    plain = l2t_jax.baselines.State(named(state.inner), state.model_state, named(state.opt_state))
    for seed, more in ((3, {}), (4, {"unlabelled": small.batch(6).images})):
        state, info = method.step(state, variables, small.batch(seed), **more)
        plain, plain_info = baseline.step(plain, variables, small.batch(seed), **more)
        assert float(info.loss) == pytest.approx(float(plain_info.loss), rel=1e-13)
    chex.assert_trees_all_close(named(state.inner), plain.inner, rtol=1e-12)
    learned, variables, state = setting(unroll_steps=0, meta_optimizer=adam)
    after, info = learned.step(state, variables, small.batch(3))
    chex.assert_trees_all_equal(after.meta_params, state.meta_params)
    assert float(info.meta_gradient_norm) == 0.0


def test_scratch_ignores_the_source():
    _, variables, state = setting()
    target = small.network((6, 4))
    method = l2t_jax.baselines.scratch(target, optimizer=SGD)
    batch = small.batch(3)
    state = method.init(jax.random.key(0), None, batch)
    after, info = jax.jit(method.step)(state, None, batch)
    assert info.penalties == {}
    assert float(info.loss) == float(info.task_loss)
    again, _ = method.step(state, variables, batch)
    chex.assert_trees_all_close(after.inner, again.inner, rtol=1e-12)


def test_the_source_runs_once_a_step_and_gets_no_gradient():
    runs = []
    source = small.network((4, 3, 5), classes=4)

    def counted(variables, images, *, train):
        runs.append(train)
        return source.apply(variables, images, train=train)

    _, variables, state = setting()
    method = l2t_jax.l2t(
        Network(source.init, counted),
        small.network((6, 4)),
        PAIRS,
        optimizer=SGD,
        meta_optimizer=last_gradient(),
    )

    def loss(variables):
        return method.step(state, variables, small.batch(3))[1].loss

    gradient = jax.grad(loss)(variables)
    assert runs == [False]
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_one_trace_serves_a_whole_run():
    method, variables, state = setting(meta_optimizer=optax.adam(1e-3))
    step = jax.jit(chex.assert_max_traces(method.step, n=1))
    for seed in range(4):
        state, _ = step(state, variables, small.batch(seed))


def test_seeds_can_be_mapped():
    method, variables, _ = setting(meta_optimizer=optax.adam(1e-3))
    keys = jax.random.split(jax.random.key(7), 3)
    batch = small.batch(1)
    states = jax.vmap(method.init, in_axes=(0, None, None))(keys, variables, batch)
    step = jax.jit(jax.vmap(method.step, in_axes=(0, None, None)))
    mapped, infos = step(states, variables, batch)
    assert infos.pair_weights.shape == (3, len(PAIRS))
    for i, key in enumerate(keys):
        alone, _ = method.step(method.init(key, variables, batch), variables, batch)
        chex.assert_trees_all_close(
            alone, jax.tree.map(lambda leaf, i=i: leaf[i], mapped), rtol=1e-9, atol=1e-12
        )


def test_what_is_switched_off_has_no_parameters():
    _, _, state = setting(what=l2t_jax.uniform_channels(), where=l2t_jax.constant_pairs())
    assert state.meta_params.what == ()
    assert state.meta_params.where.shape == (len(PAIRS),)
    assert isinstance(state.meta_params, MetaParams)


def flat_features(network: Network) -> Network:
    def apply(variables, images, *, train):
        outputs = network.apply(variables, images, train=train)
        return Outputs(
            outputs.logits, tuple(f.mean((1, 2)) for f in outputs.features), outputs.model_state
        )

    return Network(network.init, apply)


def test_what_does_not_fit_is_told():
    source, target = small.network((4, 3, 5), classes=4), small.network((6, 4))
    batch = small.batch(0)
    variables = source.init(jax.random.key(0), batch.images)
    optimizers = {"optimizer": SGD, "meta_optimizer": optax.adam(1e-3)}

    def start(pairs, source=source, target=target, batch=batch):
        l2t_jax.l2t(source, target, pairs, **optimizers).init(jax.random.key(0), variables, batch)

    with pytest.raises(ValueError, match=r"pairs must .*got none"):
        start([])
    with pytest.raises(ValueError, match=r"got \(0, 2\)"):
        start([(0, 2)])
    with pytest.raises(ValueError, match=r"feature map 0 must .*got \(5, 6\)"):
        start(PAIRS, target=flat_features(target))
    with pytest.raises(ValueError, match="the same number of samples"):
        start(PAIRS, batch=Batch(batch.images, batch.labels[:3]))
    with pytest.raises(ValueError, match=r"unroll_steps.*\(got -1\)"):
        l2t_jax.l2t(source, target, PAIRS, unroll_steps=-1, **optimizers)
    method, variables, state = setting()
    with pytest.raises(ValueError, match="the same number of samples"):
        method.step(state, variables, Batch(batch.images[:2], batch.labels))
