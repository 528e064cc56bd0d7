"""Five iterations of l2t-ww on simulated devices, as a program: what test_devices.py compares.

Usage: python tests/helpers/on_devices.py FOLDER NETWORKS DTYPE,... COUNT,... [COORDINATOR PROCESS]

For every precision and every number of devices a file gets all leaves of the final state and the
infos of all iterations, and what the compiled step says of itself. With a coordinator this is one
of two processes, which bring half of the devices each.
"""

import itertools
import sys

import jax
import numpy as np
from small import network as small_network

from experiments.data.dataset import Dataset
from experiments.data.in_memory import InMemory
from experiments.options.builders import Parts
from experiments.options.train_options import Config
from experiments.system import devices
from experiments.training import jitted
from l2t_jax import Network
from l2t_jax.models import cifar_resnet

ITERATIONS = 5
NETWORKS = {
    "small": (small_network((5, 6)), [(0, 0), (1, 1)]),
    "resnet": (cifar_resnet(8, classes=3), [(0, 0), (2, 1)]),
}


def in_precision(inner: Network, dtype: str) -> Network:
    """The network in another precision than the images come in."""
    return Network(
        lambda key, images: inner.init(key, images.astype(dtype)),
        lambda variables, images, *, train: inner.apply(
            variables, images.astype(dtype), train=train
        ),
    )


def five_iterations(name: str, dtype: str, everywhere: devices.Devices) -> dict[str, np.ndarray]:
    """Trains, and returns all that came of it by name."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    data = Dataset(images, rng.integers(0, 3, 24).astype(np.int32), ("a", "b", "c"))
    network = in_precision(NETWORKS[name][0], dtype)
    config = Config(method="l2t-ww", lr=0.01, meta_lr=0.01, unroll_steps=1)
    method = config.entry().build(config, Parts(network, network, NETWORKS[name][1]))
    compiled = jitted.compile_method(method, network, everywhere)
    training = InMemory(data, everywhere, batch_size=8, seed=0, augment=True)
    like = jax.eval_shape(network.init, jax.random.key(0), images[:8].astype("float32"))
    drawn = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype), like)
    # Running variances are positive.
    positive = jax.tree.map(lambda leaf: abs(leaf) + 0.5, drawn.model_state)
    source_variables = everywhere.replicate(drawn._replace(model_state=positive))
    state = jitted.first_state(compiled, source_variables, training, seed=0)
    state = jitted.with_learning_rate(state, config.lr, everywhere)
    batches = itertools.chain(training.epoch(0), training.epoch(1))
    step, infos = None, []
    for batch in itertools.islice(batches, ITERATIONS):
        if step is None:
            step = compiled.step.lower(state, source_variables, {"batch": batch}).compile()
        state, info, _ = step(state, source_variables, {"batch": batch})
        infos.append(info)
    figures = {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path((state, infos))
    }
    return figures | {
        "flops": step.cost_analysis()["flops"],
        "share": batch.images.addressable_shards[0].data.shape[0],
    }


def main(
    folder: str, networks: str, dtypes: str, counts: str, coordinator: str = "", process: str = ""
) -> None:
    sizes = [int(count) for count in counts.split(",")]
    jax.config.update("jax_num_cpu_devices", max(sizes) // (2 if coordinator else 1))
    if coordinator:
        devices.join(coordinator, 2, int(process))
    for dtype in dtypes.split(","):
        jax.config.update("jax_enable_x64", dtype == "float64")
        for size in sizes:
            everywhere = devices.over(jax.devices()[:size])
            for name in networks.split(","):
                figures = five_iterations(name, dtype, everywhere)
                if devices.is_first_process():
                    np.savez(f"{folder}/{name}-{dtype}-{size}.npz", **figures)


if __name__ == "__main__":
    main(*sys.argv[1:])
