"""What a robot must know of an Isaac Lab task: joints, gains, actions, observations."""

from collections.abc import Iterator, Sequence
from typing import Any

from ppo_jax.envs.deployment import joined

UNKNOWN = float("nan")  # of an action that is not scaled by a number


def deployment(isaac: Any, groups: Sequence[str]) -> dict[str, str]:
    """Returns what the task knows; see `TorchEnv.deployment`.

    Beside mjlab's keys there are, of each action in order, `action_joint_names` (empty:
    it moves no single joint), `action_offset` and `action_types`, the class of its
    term: a JointPositionAction goes to offset + scale * action. Of a direct task, which
    has no managers, only the joints are known.

    Args:
      isaac: a ManagerBasedRLEnv, DirectRLEnv or DirectMARLEnv.
      groups: as `flatten_groups` names them.
    """
    facts: dict[str, str] = {}
    robot = _robot(isaac)
    if robot is not None:
        facts |= joints(robot)
    if hasattr(isaac, "action_manager"):
        facts["command_names"] = joined(isaac.command_manager.active_terms)
        facts |= actions(isaac.action_manager)
        facts |= observations(isaac.observation_manager, groups)
    return facts


def _robot(isaac: Any) -> Any:
    """Returns the articulation called "robot", or the only one; None: neither."""
    articulations = isaac.scene.articulations
    if "robot" in articulations:
        return articulations["robot"]
    return next(iter(articulations.values())) if len(articulations) == 1 else None


def joints(robot: Any) -> dict[str, str]:
    """Returns names, gains and default positions [rad or m] of all joints, in order.

    The gains are those of the configured actuators, before anything is randomised;
    where they leave them to the model's file, what the simulator has.
    """
    from isaaclab.utils.string import resolve_matching_names_values

    gains = {
        "stiffness": robot.data.joint_stiffness.torch[0].tolist(),
        "damping": robot.data.joint_damping.torch[0].tolist(),
    }
    for actuator in robot.cfg.actuators.values():
        ids, names = robot.find_joints(actuator.joint_names_expr)
        for name, values in gains.items():
            given = getattr(actuator, name)
            if given is None:
                continue
            given = given if isinstance(given, dict) else {".*": given}
            places, _, numbers = resolve_matching_names_values(given, names)
            for place, number in zip(places, numbers, strict=True):
                values[int(ids[place])] = number
    return {
        "joint_names": joined(robot.joint_names),
        "joint_stiffness": joined(gains["stiffness"]),
        "joint_damping": joined(gains["damping"]),
        "default_joint_pos": joined(robot.data.default_joint_pos.torch[0].tolist()),
    }


def actions(manager: Any) -> dict[str, str]:
    """Returns of each action what its term does with it."""
    rows: dict[str, list[Any]] = {"names": [], "scale": [], "offset": [], "types": []}
    for name in manager.active_terms:
        term = manager.get_term(name)
        size = term.action_dim
        names = list(getattr(term, "_joint_names", ()))
        rows["names"] += names if len(names) == size else [""] * size
        rows["scale"] += _of_each(getattr(term, "_scale", UNKNOWN), size)
        rows["offset"] += _of_each(getattr(term, "_offset", UNKNOWN), size)
        rows["types"] += [type(term).__name__] * size
    return {
        "action_joint_names": joined(rows["names"]),
        "action_scale": joined(rows["scale"]),
        "action_offset": joined(rows["offset"]),
        "action_types": joined(rows["types"]),
    }


def _of_each(value: Any, size: int) -> list[float]:
    """Returns a number, or a tensor [A] or [N, A], as the numbers of A actions."""
    if not hasattr(value, "tolist"):
        return [float(value)] * size
    return value.reshape(-1, size)[0].tolist()


def observations(manager: Any, groups: Sequence[str]) -> dict[str, str]:
    """Returns the terms that the groups are made of, in order, and their width."""
    terms = list(_terms(manager, groups))
    configs = [config for _, config, _ in terms]
    no_clip = (-float("inf"), float("inf"))
    return {
        "observation_names": joined(name for name, _, _ in terms),
        "observation_dims": joined("x".join(map(str, shape)) for _, _, shape in terms),
        "observation_terms_scale": joined(_scale(x.scale) for x in configs),
        "observation_terms_clip": joined(x.clip or no_clip for x in configs),
        "observation_terms_history_length": joined(x.history_length for x in configs),
        "observation_terms_flatten_history_dim": joined(
            x.flatten_history_dim for x in configs
        ),
    }


def _terms(manager: Any, groups: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """Yields name, configuration and shape of each term of "group" or "group/term"."""
    for path in groups:
        group, _, part = path.partition("/")
        names = manager.active_terms[group]
        configs = manager._group_obs_term_cfgs[group]
        shapes = manager.group_obs_term_dim[group]
        for name, config, shape in zip(names, configs, shapes, strict=True):
            if part in ("", name):
                yield name, config, shape


def _scale(scale: Any) -> Any:
    """Returns the scale of a term, 1 without one; one of many numbers stays such."""
    numbers = scale.tolist() if hasattr(scale, "tolist") else scale
    return 1.0 if numbers is None else numbers
