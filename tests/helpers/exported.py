"""Every name that the library exports."""

import inspect

import l2t_jax
from l2t_jax import adapters, baselines, models, pytorch

PUBLIC = {module: module.__all__ for module in (l2t_jax, adapters, baselines, models, pytorch)}
NAMES = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module, names in PUBLIC.items()
    for name in names
    if not inspect.ismodule(getattr(module, name))
}
