"""Networks of other libraries as `l2t_jax.Network`: Flax Linen and NNX."""

from l2t_jax.adapters.linen import from_linen, linen_paths
from l2t_jax.adapters.nnx import from_nnx, nnx_variables

__all__ = ["from_linen", "from_nnx", "linen_paths", "nnx_variables"]
