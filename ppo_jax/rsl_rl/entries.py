"""The entries of a torch state dict, taken one by one and checked."""

from typing import Any

import numpy as np

from ppo_jax.policies.models import ModelConfig


class Entries:
    """What is left of a state dict; every entry is taken once, as float32.

    Args:
      model: "actor" or "critic", for messages.
      config: of the model, for messages.
      state_dict: {name: array}.
    """

    def __init__(self, model: str, config: ModelConfig, state_dict: Any) -> None:
        """Starts with all entries."""
        self.model, self.config, self.left = model, config, dict(state_dict)

    def width(self, name: str) -> int | None:
        """Returns the last axis of an entry; None where there is none."""
        entry: Any = self.left.get(name)
        return np.shape(entry)[-1] if np.ndim(entry) else None

    def take(self, name: str, *shape: int | None) -> np.ndarray:
        """Returns an entry of a shape, in which None is any number.

        Raises:
          ValueError: it is missing, not finite, or of another shape.
        """
        if name not in self.left:
            raise ValueError(
                f"the rsl_rl state dict of the {self.model} has no {name!r}: was it "
                "saved by another model?"
            )
        array = np.asarray(self.left.pop(name), np.float32)
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} of the {self.model} is not finite")
        _require_shape(self.model, name, array.shape, shape, self.config)
        return array

    def layer(
        self, index: int, width: int | None, out: int | None, mlp: str = "mlp"
    ) -> dict[str, np.ndarray]:
        """Returns the linear layer at a place of torch's `mlp`."""
        kernel = self.take(f"{mlp}.{2 * index}.weight", out, width).T
        bias = self.take(f"{mlp}.{2 * index}.bias", len(kernel.T))
        return {"kernel": kernel, "bias": bias}

    def require_none_left(self) -> None:
        """Raises ValueError if an entry was not taken."""
        if self.left:
            raise ValueError(
                f"the rsl_rl state dict of the {self.model} holds "
                f"{sorted(self.left)[0]!r}, not used here: was it saved by another "
                "model?"
            )


def _require_shape(
    model: str,
    name: str,
    shape: tuple[int, ...],
    wanted: tuple[int | None, ...],
    config: ModelConfig,
) -> None:
    """Refuses another shape than the wanted one, in which None is any number."""
    fits = [b is None or a == b for a, b in zip(shape, wanted, strict=False)]
    if len(shape) != len(wanted) or not all(fits):
        text = ", ".join("any" if dim is None else str(dim) for dim in wanted)
        field = "rnn_hidden_dim" if name.startswith("rnn.") else "hidden_dims"
        value = getattr(config, field)
        value = list(value) if isinstance(value, tuple) else value
        raise ValueError(
            f"{name!r} of the {model} has the shape {list(shape)} in the rsl_rl state "
            f"dict, but [{text}] with {model}.{field} = {value}: "
            "give the configuration that it was saved with"
        )
