"""How far float32 determines the meta-gradient: cosines to float64 along a real run.

    python docs/studies/conditioning.py FOLDER --stage states WEIGHTS IMAGES
    python docs/studies/conditioning.py FOLDER --stage float64 WEIGHTS IMAGES
    python docs/studies/conditioning.py FOLDER --stage float32 WEIGHTS IMAGES
    python docs/studies/conditioning.py FOLDER --stage float32 --ynnpack WEIGHTS IMAGES
    python docs/studies/conditioning.py FOLDER --stage table

The paper's small setting: ResNet-32 → VGG-9 with batch norm, 15 pairs, T = 2, SGD with momentum 0.9
and weight decay 1e-4. The first stage trains and keeps states; the others read them, so that all
see the same ones. XLA reads its flags once, so each kind of arithmetic has a process of its own;
processes of another jaxlib may add to the same folder. A stage compiles one program, and runs it
over states, perturbations and rates, which are its arguments; what is in the folder is not computed
again. The table is of what the folder has.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from unittest import mock

import flax.linen
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax

import l2t_jax
from l2t_jax import pytorch
from l2t_jax.models import cifar_resnet, vgg
from l2t_jax.pytorch import from_torch

FLAG = "--xla_cpu_experimental_ynn_fusion_type="
NO_LIMIT = 1e30  # of the gradient's norm
SCALES = (1e-8, 1e-7, 1e-6, 1e-5)
AVERAGED = 1e-3  # perturbation of the copies that are averaged
PUBLISHED = {"rate": 1.0, "clip": NO_LIMIT}
CURES = {
    "rate × 0.1": {"rate": 0.1, "clip": NO_LIMIT},
    "rate × 0.01": {"rate": 0.01, "clip": NO_LIMIT},
    "clip to 1": {"rate": 1.0, "clip": 1.0},
    "clip to 0.1": {"rate": 1.0, "clip": 0.1},
}


def smooth(network: l2t_jax.Network, activation) -> l2t_jax.Network:
    """The same network with another function for its ReLUs."""

    def init(key, images):
        with mock.patch.object(flax.linen, "relu", activation):
            return network.init(key, images)

    def apply(variables, images, *, train):
        with mock.patch.object(flax.linen, "relu", activation):
            return network.apply(variables, images, train=train)

    return l2t_jax.Network(init, apply)


def method(lr, rate, clip, activation: str) -> l2t_jax.Method:
    """L2T whose meta-optimiser keeps the meta-gradient, beside Adam's own moments.

    Args:
      lr: learning rate of the real steps.
      rate: learning rate of the virtual steps, as a factor of ``lr``.
      clip: largest norm of a virtual step's gradient.
      activation: "relu", or another function of `jax.nn` in the target.
    """

    def sgd(lr):
        return optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(lr, momentum=0.9))

    def virtual(outer, losses, optimizer, params, opt_state, meta):
        if clip is None:
            return l2t_jax.mixed_meta_gradient(outer, losses, optimizer, params, opt_state, meta)
        clipped = optax.chain(optax.clip_by_global_norm(clip), sgd(lr * rate))
        opt_state = (optax.EmptyState(), opt_state)
        return l2t_jax.mixed_meta_gradient(outer, losses, clipped, params, opt_state, meta)

    target = vgg(9, classes=10)
    if activation != "relu":
        target = smooth(target, getattr(jax.nn, activation))
    adam = optax.chain(optax.add_decayed_weights(1e-4), optax.adam(1e-4))
    return l2t_jax.l2t(
        cifar_resnet(32, classes=200),
        target,
        l2t_jax.all_pairs((4, 9, 14), range(5)),
        meta_gradient=virtual,
        optimizer=sgd(lr),
        meta_optimizer=optax.chain(kept(), adam),
    )


def kept() -> optax.GradientTransformation:
    """Passes gradients on, and has the last one as its state."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params), lambda g, state, params=None: (g, g)
    )


def cast(tree, dtype):
    return jax.tree.map(
        lambda a: jnp.asarray(a, dtype if jnp.issubdtype(a.dtype, jnp.floating) else a.dtype), tree
    )


def flat(tree) -> np.ndarray:
    return np.concatenate([np.asarray(a, np.float64).ravel() for a in jax.tree.leaves(tree)])


def perturbed(state, scale: float, draw: int):
    """The state with each inner parameter p at p · (1 + scale · N(0, 1))."""
    rng = np.random.default_rng(1000 + draw)
    inner = jax.tree.map(
        lambda p: p * jnp.asarray(1 + scale * rng.standard_normal(p.shape), p.dtype), state.inner
    )
    return state._replace(inner=inner)


class Data:
    """500 photographs, 50 of each class, in random order, and the source's weights."""

    def __init__(self, weights: Path, images: Path, batch: int):
        file = np.load(images)
        kept = np.concatenate([np.flatnonzero(file["labels"] == c)[:50] for c in range(10)])
        mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        self.images = (file["images"][kept] / 255 - np.array(mean)) / np.array(deviation)
        self.labels, self.batch = file["labels"][kept].astype(np.int32), batch
        like = jax.eval_shape(
            cifar_resnet(32, classes=200).init,
            jax.random.key(0),
            jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32),
        )
        raw = pytorch.find_state_dict(pytorch.read(weights.read_bytes()))
        self.source = from_torch(raw, like)

    def take(self, number: int) -> l2t_jax.Batch:
        """The batch of so many real steps, the same ones at any time."""
        rng = np.random.default_rng([7, number])
        at = rng.permutation(len(self.labels))[: self.batch]
        return l2t_jax.Batch(np.float32(self.images[at]), self.labels[at])


def states(args, data: Data) -> None:
    """Trains, and keeps the states at the marks."""
    ours = method(args.lr, 1.0, None, args.activation)
    step = jax.jit(ours.step)
    state = jax.jit(ours.init)(jax.random.key(args.seed), data.source, data.take(0))
    for t in range(max(args.marks) + 1):
        if t in args.marks:
            leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
            np.savez(args.folder / f"state{t}.npz", *leaves)
        state, info = step(state, data.source, data.take(t))
        if t in args.marks:
            print(t, *(f"{k} {getattr(info, k):.4f}" for k in ("loss", "outer_loss")), flush=True)


def measure(args, data: Data) -> None:
    """Appends the meta-gradients of all states in one kind of arithmetic to the folder."""
    dtype = jnp.dtype(args.stage)
    source = cast(data.source, dtype)
    like = jax.eval_shape(
        method(0.1, 1.0, None, args.activation).init, jax.random.key(0), data.source, data.take(0)
    )

    @jax.jit
    def gradient(state, source, batch, rate, clip):
        ours = method(args.lr, rate, clip, args.activation)
        after, info = ours.step(state, source, batch)
        return after.meta_opt_state[0], info

    def note(t: int, what: str, state, batch, *, rate=1.0, clip=NO_LIMIT) -> None:
        if f"{t}|{what}" in found:
            return
        batch = l2t_jax.Batch(cast(batch.images, dtype), batch.labels)
        g, info = gradient(state, source, batch, dtype.type(rate), dtype.type(clip))
        found[f"{t}|{what}"] = np.concatenate([[info.outer_loss, info.gradient_norm], flat(g)])
        line = f"{t} {what}: outer loss {info.outer_loss:.6f}, norm {np.linalg.norm(flat(g)):.6f}"
        print(line, flush=True)
        np.savez(path, **found)

    ynnpack = "on" if args.ynnpack else "off"
    path = args.folder / f"{args.stage}_{ynnpack}_{jaxlib.__version__}.npz"
    found: dict[str, np.ndarray] = dict(np.load(path)) if path.exists() else {}
    marks = {}
    for t in args.marks:
        leaves = list(np.load(args.folder / f"state{t}.npz").values())
        marks[t] = cast(jax.tree.unflatten(jax.tree.structure(like), leaves), dtype), data.take(t)
    perturb = args.stage == "float64" and not args.short
    for t, (state, batch) in marks.items():
        note(t, "base", state, batch)
        note(t, "again", state, batch)
    for draw in range(args.draws if perturb else 0):
        for t, (state, batch) in marks.items():
            for scale in SCALES:
                note(t, f"{scale:g} draw {draw}", perturbed(state, scale, draw), batch)
    for t in () if args.short else args.cured:
        state, batch = marks[t]
        for name, rates in CURES.items():
            note(t, name, state, batch, **rates)
    for t in () if args.short else args.cured:
        state, batch = marks[t]
        for draw in range(args.draws if perturb else 0):
            for name, rates in CURES.items():
                note(t, f"{name}|1e-06 draw {draw}", perturbed(state, 1e-6, draw), batch, **rates)
        for number in range(args.averaged):
            note(t, f"batch {number}", state, data.take(1000 + number))
        for draw in range(args.averaged if perturb else 0):
            note(t, f"copy {draw}", perturbed(state, AVERAGED, draw), batch)


def table(folder: Path) -> None:
    """Prints all that the folder has, against float64 without YNNPACK of the same state."""
    kinds = {path.stem: dict(np.load(path)) for path in sorted(folder.glob("float*.npz"))}
    right = next(found for name, found in kinds.items() if name.startswith("float64_off"))
    print("| step | arithmetic | what | outer loss | norm | cosine | relative error |")
    print("| ---: | --- | --- | ---: | ---: | ---: | ---: |")
    for kind, found in kinds.items():
        for key, values in found.items():
            t, what, *draw = key.split("|")
            alone = "draw" in what or what.startswith("copy")
            reference = right.get(f"{t}|base" if alone else f"{t}|{what}")
            if reference is None or (what == "again" and (values == found[f"{t}|base"]).all()):
                continue
            g, r = values[2:], reference[2:]
            cosine = g @ r / np.linalg.norm(g) / np.linalg.norm(r)
            error = np.linalg.norm(g - r) / np.linalg.norm(r)
            name = ", ".join([what, *draw])
            print(
                f"| {t} | {kind.replace('_', ' ')} | {name} | {values[0]:.5f} "
                f"| {np.linalg.norm(g):.4f} | {cosine:.5f} | {error:.2e} |"
            )
    means(kinds, right)


def means(kinds: dict, right: dict) -> None:
    """Prints the cosine of means over batches to float64's, beside the mean cosine of one batch."""
    print("\n| step | arithmetic | batches | cosine of one, mean | cosine of the means |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for kind, found in kinds.items():
        for t in sorted({key.split("|")[0] for key in found}, key=int):
            keys = [k for k in found if k.startswith(f"{t}|batch ") and k in right]
            if not keys or found is right:
                continue
            got, want = (np.array([f[k][2:] for k in keys]) for f in (found, right))
            each = (
                np.sum(got * want, 1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
            )
            a, b = got.mean(0), want.mean(0)
            both = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            print(f"| {t} | {kind} | {len(keys)} | {each.mean():.4f} | {both:.4f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where states and gradients are kept")
    parser.add_argument("weights", type=Path, nargs="?", help="ResNet-32 of 200 classes")
    parser.add_argument("images", type=Path, nargs="?", help="npz of images [N, 32, 32, 3], labels")
    parser.add_argument("--stage", choices=("states", "float64", "float32", "table"))
    parser.add_argument("--ynnpack", action="store_true", help="leave YNNPACK on")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--activation", default="relu", help="of the target, from jax.nn")
    parser.add_argument("--marks", type=int, nargs="+", default=[0, 5, 20, 100])
    parser.add_argument(
        "--cured", type=int, nargs="*", default=[0, 5], help="marks to try cures at"
    )
    parser.add_argument("--averaged", type=int, default=8, help="how many batches and copies")
    parser.add_argument("--quick", action="store_true", help="compile in a third of the time")
    parser.add_argument("--short", action="store_true", help="no perturbations and no cures")
    args = parser.parse_intermixed_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.stage == "table":
        table(args.folder)
        return
    # Importing the library sets the flag for some versions; JAX has not started yet.
    others = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if FLAG not in flag]
    os.environ["XLA_FLAGS"] = " ".join(others if args.ynnpack else [*others, FLAG])
    if args.stage == "float64":
        jax.config.update("jax_enable_x64", True)
    if args.quick:
        jax.config.update("jax_disable_most_optimizations", True)
    {"states": states}.get(args.stage, measure)(args, Data(args.weights, args.images, args.batch))


if __name__ == "__main__":
    main()
