"""Any loss of the task: what `l2t` and its rivals do with it is what they do with the default."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from oracles import dot, finite_difference, random_like

import l2t_jax
from l2t_jax import Batch, Network, Outputs, Variables, accuracy, cross_entropy

pytestmark = pytest.mark.usefixtures("quickly_compiled")

PAIRS = ((0, 1), (1, 0))
SGD = optax.sgd(0.1, momentum=0.9)
RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.standard_normal((5, 4, 4, 3)))


def smoothed(logits, labels):
    wanted = optax.smooth_labels(jax.nn.one_hot(labels, 3), 0.1)
    return optax.softmax_cross_entropy(logits, wanted).mean()


def multi_label(logits, labels):
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean()


def regression(outputs, labels):
    """Labels of two kinds, one with a weight for each sample."""
    return jnp.mean(labels["weight"][:, None] * jnp.square(outputs - labels["wanted"]))


def dense(network: Network) -> Network:
    """The same network with logits at each position of its first map."""

    def apply(variables, images, *, train):
        outputs = network.apply(variables, images, train=train)
        logits = outputs.features[0][..., :3] + outputs.logits[:, None, None]
        return Outputs(logits, outputs.features, outputs.model_state)

    return Network(network.init, apply)


CLASSES = jnp.asarray(RNG.integers(0, 3, 5))
LOSSES = {
    "label smoothing": (smoothed, CLASSES, accuracy),
    "multi-label": (multi_label, jnp.asarray(RNG.integers(0, 2, (5, 3)) * 1.0), multi_label),
    "regression": (
        regression,
        {"wanted": jnp.asarray(RNG.standard_normal((5, 3))), "weight": jnp.arange(1.0, 6.0)},
        regression,
    ),
    "segmentation": (cross_entropy, jnp.asarray(RNG.integers(0, 3, (5, 4, 4))), accuracy),
}


@pytest.mark.parametrize("name", list(LOSSES))
def test_l2t_trains_on_any_loss(name):
    """The meta-gradient is that of the loss, by finite differences through the whole step."""
    loss, labels, score = LOSSES[name]
    source, target = small.network((4, 5), classes=4), small.network((6, 4))
    target = dense(target) if name == "segmentation" else target
    keep = optax.GradientTransformation(  # the gradient becomes the state
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda updates, state, params=None: (jax.tree.map(jnp.zeros_like, updates), updates),
    )
    options = {"task_loss": loss, "score": score, "unroll_steps": 1}
    method = l2t_jax.l2t(source, target, PAIRS, optimizer=SGD, meta_optimizer=keep, **options)
    batch = Batch(IMAGES, labels)
    variables = source.init(jax.random.key(0), IMAGES)
    state = method.init(jax.random.key(1), variables, batch)
    moved = random_like(state.meta_params, 2)
    state = state._replace(
        meta_params=jax.tree.map(lambda p, d: p + d / 10, *(state.meta_params, moved))
    )
    step = jax.jit(method.step)
    after, info = step(state, variables, batch)
    first = Variables(state.inner.params, state.model_state)
    logits = target.apply(first, IMAGES, train=True).logits
    assert float(info.task_loss) == pytest.approx(float(loss(logits, labels)), rel=1e-12)
    assert float(info.score) == pytest.approx(float(score(logits, labels)), rel=1e-12)
    direction = random_like(state.meta_params, 3)

    # The meta-gradient does not flow through the real step, which is therefore taken back.
    def outer(meta_params):
        features = source.apply(variables, IMAGES, train=False).features
        weights, _ = l2t_jax.error_weights(
            l2t_jax.softmax_channels(), l2t_jax.affine_pairs(), meta_params, features, PAIRS
        )

        def run(inner):
            return target.apply(Variables(inner.params, after.model_state), IMAGES, train=True)

        def matching(inner, weights):
            errors = l2t_jax.channel_errors(inner.extra, features, run(inner).features, PAIRS)
            return 0.5 * l2t_jax.matching_loss(errors, weights)

        def task(inner, weights):
            return loss(run(inner).logits, labels)

        end, _ = l2t_jax.unroll([matching, task], SGD, after.inner, after.opt_state, weights)
        return task(end, weights)

    numeric = finite_difference(jax.jit(outer), state.meta_params, direction, 1e-5)
    assert abs(numeric) > 1e-6
    assert dot(after.meta_opt_state, direction) == pytest.approx(numeric, rel=1e-5)


def test_losses_of_the_rivals():
    loss, labels, score = LOSSES["regression"]
    method = l2t_jax.baselines.scratch(
        small.network((6, 4)), optimizer=SGD, task_loss=loss, score=score
    )
    state = method.init(jax.random.key(1), None, Batch(IMAGES, labels))
    seen = []
    for _ in range(5):
        state, info = method.step(state, None, Batch(IMAGES, labels))
        seen.append(float(info.task_loss))
        assert float(info.score) == float(info.task_loss)
    assert seen[-1] < seen[0]


@pytest.mark.parametrize("ignored", [None, 7])
def test_smoothed_and_weighted_cross_entropy_is_that_of_numpy(ignored):
    logits, labels = RNG.standard_normal((6, 4)), np.array([0, 3, 3, 1, 2, 0])
    labels = labels if ignored is None else np.append(labels[:5], ignored)
    weights, share = np.array([0.5, 1.0, 3.0, 0.2]), 0.3
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    counted = [i for i in range(6) if labels[i] != ignored]
    wanted = [(1 - share) * -log[i, labels[i]] - share * log[i].mean() for i in counted]
    options = {"ignore_label": ignored, "label_smoothing": share}
    given = jnp.asarray(logits), jnp.asarray(labels)
    assert float(cross_entropy(*given, **options)) == pytest.approx(np.mean(wanted), rel=1e-12)
    mean = np.average(wanted, weights=weights[labels[counted]])
    found = cross_entropy(*given, **options, class_weights=weights)
    assert float(found) == pytest.approx(mean, rel=1e-12)
    none = cross_entropy(given[0], given[1] * 0 + 7, ignore_label=7, class_weights=weights)
    assert float(none) == 0
    with pytest.raises(ValueError, match=r"must have shape \(4,\), one a class"):
        cross_entropy(*given, class_weights=weights[:3])
    with pytest.raises(ValueError, match=r"0 to below 1 \(got 1.0\)"):
        cross_entropy(*given, label_smoothing=1.0)


def test_dense_classes_are_classes_at_every_position():
    logits, labels = jnp.asarray(RNG.standard_normal((2, 3, 4))), jnp.array([[0, 1, 2], [3, 0, 1]])
    flat = logits.reshape(6, 4), labels.ravel()
    log = np.asarray(flat[0]) - np.log(np.exp(np.asarray(flat[0])).sum(1, keepdims=True))
    expected = -log[np.arange(6), np.asarray(flat[1])].mean()
    assert float(cross_entropy(logits, labels)) == pytest.approx(expected, rel=1e-13)
    assert float(cross_entropy(*flat)) == pytest.approx(expected, rel=1e-13)
    right = np.mean(np.asarray(flat[0]).argmax(1) == np.asarray(flat[1]))
    assert float(accuracy(logits, labels)) == float(accuracy(*flat)) == right


@pytest.mark.parametrize(
    ("labels", "came"),
    [
        (jnp.zeros((5, 3)), r"float64\[5, 3\]"),
        (jnp.zeros(5), r"float64\[5\]"),
        ({"a": jnp.zeros(5, int), "b": jnp.zeros(5, int)}, r"int64\[5\] and int64\[5\]"),
        ((), "none"),
    ],
)
def test_labels_that_are_no_classes_want_a_loss_and_a_score_of_their_own(labels, came):
    for function, argument in ((cross_entropy, "task_loss"), (accuracy, "score")):
        wanted = f"labels must be integers .*{came}.* another `{argument}`"
        with pytest.raises(ValueError, match=wanted):
            function(jnp.zeros((5, 3)), labels)


def test_where_logits_are_no_numbers_nothing_is_right():
    logits = jnp.array([[jnp.nan, jnp.nan], [0.0, 1.0]])
    assert float(accuracy(logits, jnp.array([0, 1]))) == 0.5
    assert np.isnan(cross_entropy(logits, jnp.array([0, 1])))


def test_no_samples_are_no_loss():
    nothing = jnp.zeros((0, 3)), jnp.zeros(0, int)
    assert float(cross_entropy(*nothing)) == float(accuracy(*nothing)) == 0


def test_labels_of_another_number_of_samples_are_told():
    method = l2t_jax.baselines.scratch(small.network((6, 4)), optimizer=SGD)
    labels = {"wanted": jnp.zeros((5, 2)), "weight": jnp.zeros(4)}
    with pytest.raises(ValueError, match=r"labels of shape \(5, 2\) and \(4,\)"):
        method.init(jax.random.key(0), None, Batch(IMAGES, labels))


IGNORED = [(255, np.uint8), (255, np.int32), (-1, np.int32), (-1, np.int64), (-100, np.int8)]


@pytest.mark.parametrize(("ignored", "dtype"), IGNORED)
def test_ignored_labels_take_no_part(ignored, dtype):
    """Loss, gradient and score are those of the other positions alone."""
    logits = jnp.asarray(RNG.standard_normal((2, 3, 4)))
    labels = jnp.asarray(np.array([[0, ignored, 2], [ignored, 3, 1]]).astype(dtype))
    kept = np.asarray(labels) != ignored
    options = {"ignore_label": ignored}
    loss, gradient = jax.jit(jax.value_and_grad(partial(cross_entropy, **options)))(logits, labels)
    alone = jax.value_and_grad(cross_entropy)(logits[kept], labels[kept])
    assert float(loss) == pytest.approx(float(alone[0]), rel=1e-14)
    np.testing.assert_allclose(gradient[kept], alone[1], rtol=1e-13)
    np.testing.assert_array_equal(gradient[~kept], 0)
    right = np.mean(np.asarray(logits[kept]).argmax(-1) == np.asarray(labels[kept]))
    assert float(accuracy(logits, labels, **options)) == right


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_ignored_has_no_derivative(value):
    """Although its logits are no numbers."""
    logits, labels = jnp.array([[0.0, 1.0], [value, 0.0]]), jnp.array([0, 255])
    loss, gradient = jax.value_and_grad(partial(cross_entropy, ignore_label=255))(logits, labels)
    alone = jax.value_and_grad(cross_entropy)(logits[:1], labels[:1])
    assert float(loss) == pytest.approx(float(alone[0]))
    np.testing.assert_allclose(gradient, np.pad(alone[1], ((0, 1), (0, 0))))


def test_smoothing_and_temperature_may_be_learned():
    """Their derivatives are those of finite differences."""
    logits, labels = jnp.asarray(RNG.standard_normal((2, 4, 3))), jnp.array([0, 2, 1, 1])
    functions = (
        lambda s: cross_entropy(logits[0], labels, label_smoothing=s),
        lambda t: l2t_jax.baselines.distillation_loss(*logits, temperature=t),
    )
    for function in functions:
        slope = jax.jit(jax.grad(function))(0.5)
        expected = (float(function(0.5 + 1e-6)) - float(function(0.5 - 1e-6))) / 2e-6
        assert float(slope) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("kind", [list, np.array, jnp.array])
def test_a_compiled_loss_may_have_any_constants(kind):
    given, weights = (jnp.asarray(RNG.standard_normal((2, 2))), jnp.array([0, 1])), kind([1.0, 2.0])
    smoothing = jnp.array(0.1) if kind is jnp.array else 0.1
    loss = partial(cross_entropy, class_weights=weights, label_smoothing=smoothing)
    assert float(jax.jit(loss)(*given)) == pytest.approx(float(loss(*given)))


def test_weights_of_classes_are_not_below_zero():
    with pytest.raises(ValueError, match=r"class_weights must be 0 or more \(got -1"):
        cross_entropy(jnp.zeros((2, 2)), jnp.array([0, 1]), class_weights=[-1.0, 1.0])


def test_where_all_labels_are_ignored_nothing_is_learned():
    logits, labels = jnp.ones((3, 4)), jnp.full(3, 255)
    loss, gradient = jax.value_and_grad(partial(cross_entropy, ignore_label=255))(logits, labels)
    assert float(loss) == float(accuracy(logits, labels, ignore_label=255)) == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("label", [-1, -2, 4, 255])
@pytest.mark.parametrize("ignored", [None, 7])
def test_labels_that_are_no_class_are_never_counted_as_one(label, ignored):
    logits, labels = (
        jnp.asarray(RNG.standard_normal((3, 4))),
        jnp.array([0, label, 7 if ignored else 2]),
    )
    loss = partial(cross_entropy, ignore_label=ignored)
    value, gradient = jax.jit(jax.value_and_grad(loss))(logits, labels)
    assert np.isnan(value)
    assert np.isnan(gradient[1]).all()
    assert np.isnan(jax.jit(partial(accuracy, ignore_label=ignored))(logits, labels))
    smallest = labels.astype(jnp.uint8)  # which 300 classes do not fit
    assert np.isfinite(cross_entropy(jnp.ones((3, 300)), smallest % 200))


@pytest.mark.slow
def test_l2t_learns_from_the_labels_that_are_not_ignored():
    """A step on half-labelled positions is that on a loss which was told so by weights."""
    labels = jnp.asarray(RNG.integers(0, 3, (5, 4, 4)))
    kept = jnp.asarray(RNG.integers(0, 2, labels.shape))

    def weighed(logits, labels):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.sum(kept * losses) / jnp.sum(kept)

    ends = []
    for loss, given in (
        (weighed, labels),
        (partial(cross_entropy, ignore_label=-1), jnp.where(kept == 1, labels, -1)),
    ):
        source, target = small.network((4, 5), classes=4), dense(small.network((6, 4)))
        method = l2t_jax.l2t(
            source, target, PAIRS, optimizer=SGD, meta_optimizer=SGD, task_loss=loss,
            score=partial(accuracy, ignore_label=-1),
        )  # fmt: skip
        batch = Batch(IMAGES, given)
        variables = source.init(jax.random.key(0), IMAGES)
        state = method.init(jax.random.key(1), variables, batch)
        after, info = jax.jit(method.step)(state, variables, batch)
        ends.append((after, info._replace(score=0)))
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
