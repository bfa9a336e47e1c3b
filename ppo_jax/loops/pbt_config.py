"""How a population evolves, as configuration."""

from dataclasses import dataclass

from ppo_jax.options import check_options, option, positive


def _quantile(value: float) -> str | None:
    return None if 0 < value <= 0.5 else "a number above 0, up to 0.5"


@dataclass(frozen=True)
class PBTConfig:
    """How a population evolves; another value is another program."""

    bounds: tuple[tuple[str, float, float], ...] = option(
        (), "(name, low, high) of each dynamic scalar that is explored"
    )
    perturbation_interval: int = option(
        10, "iterations between two exchanges", positive
    )
    quantile_fraction: float = option(
        0.25, "part of the members that is replaced, by as many of the best", _quantile
    )

    def __post_init__(self) -> None:
        """Checks every field."""
        check_options(self)
        if not self.bounds:
            return
        from ppo_jax.types import Hyperparams

        for name, low, high in self.bounds:
            if name not in Hyperparams._fields:
                raise ValueError(
                    f"{name} cannot be explored: only "
                    f"{', '.join(Hyperparams._fields)} can, without compiling anew"
                )
            if not low < high:
                raise ValueError(f"{name} is explored from {low} to {high}: give more")
