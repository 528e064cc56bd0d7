"""Any loss of the task: what `l2t` and its rivals do with it is what they do with the default."""

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
def test_labels_that_are_no_classes_want_a_score_of_their_own(labels, came):
    with pytest.raises(ValueError, match=f"labels {came} came for logits .* another `score`"):
        accuracy(jnp.zeros((5, 3)), labels)


def test_labels_of_another_number_of_samples_are_told():
    method = l2t_jax.baselines.scratch(small.network((6, 4)), optimizer=SGD)
    labels = {"wanted": jnp.zeros((5, 2)), "weight": jnp.zeros(4)}
    with pytest.raises(ValueError, match=r"labels of shape \(5, 2\) and \(4,\) came"):
        method.init(jax.random.key(0), None, Batch(IMAGES, labels))
