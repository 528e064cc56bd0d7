"""Every name that the library exports."""

import inspect

import l2t_jax.models.torch_formats

PUBLIC = {
    **{module: module.__all__ for module in (l2t_jax, l2t_jax.baselines, l2t_jax.models)},
    l2t_jax.models.torch_formats: ["read", "find_state_dict"],
}
NAMES = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module, names in PUBLIC.items()
    for name in names
    if not inspect.ismodule(getattr(module, name))
}
