"""rsl_rl's model files of a student and a teacher. Needs torch, not rsl_rl."""

import os
from pathlib import Path
from typing import Any

from ppo_jax.rsl_rl.contents import read_policy
from ppo_jax.rsl_rl.files import read_file
from ppo_jax.rsl_rl.memory import TORCH_OPTIMIZERS, import_torch
from ppo_jax.rsl_rl.weights import policy_from_rsl_rl, policy_to_rsl_rl
from ppo_jax.runs.config import Config
from ppo_jax.types import Params, TrainState


def load_teacher(path: Path, config: Config) -> tuple[Params, Any]:
    """Returns parameters and statistics of the policy in a `model_*.pt`, as a teacher.

    It is the actor of PPO, or the student of distillation.

    Args:
      path: of a `model_*.pt`.
      config: of the distillation.

    Raises:
      ImportError: torch is not installed.
      ValueError: it is no such file, or holds another network.
    """
    try:
        return policy_from_rsl_rl(config, "teacher", read_policy(read_file(path)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_distillation(path: Path, config: Config, state: TrainState) -> None:
    """Writes a `model_*.pt` that rsl_rl's DistillationRunner loads.

    The optimizer begins anew there: rsl_rl's remembers other parameters.

    Raises:
      ImportError: torch is not installed.
    """
    torch = import_torch()
    models = {}
    for name in ("student", "teacher"):
        written = policy_to_rsl_rl(
            config, name, state.params[name], state.obs_stats[name]
        )
        models[f"{name}_state_dict"] = {k: torch.tensor(x) for k, x in written.items()}
    weights = [
        torch.nn.Parameter(x)
        for key, x in models["student_state_dict"].items()
        if not key.startswith("obs_normalizer.")
    ]
    kind = TORCH_OPTIMIZERS[config.algorithm.optimizer].class_name
    optimizer = getattr(torch.optim, kind)(weights, lr=float(state.learning_rate))
    saved = models | {
        "optimizer_state_dict": optimizer.state_dict(),
        "iter": max(int(state.iteration) - 1, 0),
        "infos": None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(saved, temporary)
    os.replace(temporary, path)
