"""A trained policy as a file: for a robot, or for rsl_rl."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppo_jax.cli.weights import RSL_RL_SUFFIX
from ppo_jax.runs.students import is_distillation, student_of

if TYPE_CHECKING:
    from ppo_jax.types import Obs, TrainState

ONNX_SUFFIX = ".onnx"


def check(flags: Mapping[str, Any]) -> None:
    """Refuses a file that cannot be written, before anything is played.

    Raises:
      ValueError: the file has neither suffix, or the other flag makes no sense.
      ImportError: what writes it is not installed.
    """
    path = Path(str(flags.get("export", "")))
    if "export" in flags and path.suffix not in (RSL_RL_SUFFIX, ONNX_SUFFIX):
        raise ValueError(
            f"--export {path}: name the file policy{ONNX_SUFFIX}, for a robot, or "
            f"model_N{RSL_RL_SUFFIX}, for rsl_rl"
        )
    if path.suffix == ONNX_SUFFIX:
        from ppo_jax.export import require_onnx

        require_onnx()
    elif "dynamic_batch" in flags:
        raise ValueError(
            f"--dynamic_batch is for --export policy{ONNX_SUFFIX}: leave it away"
        )


def export(
    trainer: Any,
    state: "TrainState",
    key: Any,
    flags: Mapping[str, Any],
    source: Path,
) -> None:
    """Writes a policy for a robot or for rsl_rl, and prints where it is.

    Args:
      trainer: whose environments the policy is tried in.
      state: what was learned.
      key: of the episodes in which it is tried.
      flags: name the file and say how it is written.
      source: folder of the run, or the file of rsl_rl.

    Raises:
      ValueError: the policy cannot be written in this form.
    """
    path = Path(str(flags["export"]))
    if path.suffix == RSL_RL_SUFFIX:
        from ppo_jax.rsl_rl.files import save_model
        from ppo_jax.rsl_rl.student_files import save_distillation

        if is_distillation(trainer.config):
            save_distillation(path, trainer.config, state)
        else:
            save_model(path, trainer.config, state, _image_sizes(trainer))
        print(f"For rsl_rl: {path}")
        return
    from ppo_jax.export import export_policy, observe

    observed = observe(trainer, state, key)
    if is_distillation(trainer.config):
        from ppo_jax.learning.distillation import policy_of

        state = state._replace(**policy_of(state)._asdict())
    written = export_policy(
        path,
        student_of(trainer.config),
        trainer.env.action_space,
        state,
        observed,
        dynamic_batch="dynamic_batch" in flags,
        metadata=deployment(trainer, observed.obs) | {"run_path": str(source)},
    )
    print(f"Exported: {path}, {written.interface}")
    print(
        f"It acts as the policy does, within {written.difference:.1e} of the largest "
        f"action over {written.num_observations} observations."
    )


def deployment(trainer: Any, obs: "Obs") -> dict[str, str]:
    """Returns what the environments know that a robot must know, for the metadata."""
    from ppo_jax.policies.groups import resolve_obs_groups

    groups = resolve_obs_groups(student_of(trainer.config).obs_groups, obs)["actor"]
    tell = getattr(trainer.env, "deployment", None)
    known = tell(groups) if tell else {}
    return known | {"step_dt": f"{trainer.env.step_dt:.9g}"}


def _image_sizes(trainer: Any) -> dict[str, tuple[int, int]]:
    """Returns the height and width of each image that the environments observe."""
    from ppo_jax.runs.trainers import abstract_run

    obs = abstract_run(trainer).obs
    return {name: x.shape[-2:] for name, x in obs.items() if len(x.shape) == 4}
