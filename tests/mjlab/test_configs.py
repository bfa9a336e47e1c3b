"""mjlab's agents and overrides as configurations of ours."""

import dataclasses

import pytest

pytest.importorskip("mjlab", reason="needs mjlab: uv sync --extra mjlab")

from ppo_jax.configs.mjlab import mjlab_config
from ppo_jax.envs.mjlab_tasks import registered_tasks, resolve_task
from ppo_jax.envs.nested import assign
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import from_dict, to_dict

BALANCE, GO1 = "Mjlab-Cartpole-Balance", "Mjlab-Velocity-Flat-Unitree-Go1"


@pytest.mark.parametrize("task", registered_tasks())
def test_every_agent_is_translated(task):
    """With the numbers that mjlab registers, and ready for a file."""
    config, env_cfg = mjlab_config(task)
    _, agent = resolve_task(task)
    assert config.task == f"mjlab:{task}"
    assert config.num_envs == Config().num_envs, "the one that is registered is no size"
    for name in ("gamma", "lam", "entropy_coef", "desired_kl", "learning_rate"):
        assert getattr(config.algorithm, name) == getattr(agent.algorithm, name)
    assert config.actor.hidden_dims == tuple(agent.actor.hidden_dims)
    assert config.num_steps_per_env == agent.num_steps_per_env
    assert config.obs_groups == {k: tuple(v) for k, v in agent.obs_groups.items()}
    assert config.experiment_name == agent.experiment_name
    assert env_cfg.episode_length_s > 0
    assert from_dict(to_dict(config)) == config


def test_overrides_reach_whom_they_are_for():
    tokens = (
        "env.scene.num_envs=64",
        "agent.algorithm.gamma=0.9",
        "agent.actor.hidden_dims=(16,8)",
        "agent.check_for_nan=false",  # only ours
        "agent.algorithm.timeout_bootstrap=last_value",  # only ours
        "agent.save_interval=7",
    )
    config, env_cfg = mjlab_config(BALANCE, tokens)
    assert env_cfg.scene.num_envs == config.num_envs == 64
    assert config.algorithm.gamma == 0.9
    assert config.actor.hidden_dims == (16, 8)
    assert config.check_for_nan is False
    assert config.algorithm.timeout_bootstrap == "last_value"
    assert config.save_interval == 7
    assert config.simulator.overrides == tokens


@pytest.mark.parametrize("task", [BALANCE, GO1])
def test_play_mode_is_mjlabs_but_its_episodes_end(task):
    trained, _ = resolve_task(task)
    played, _ = resolve_task(task, play_mode=True)
    assert played.episode_length_s == trained.episode_length_s < 100
    assert not played.observations["actor"].enable_corruption
    longer, _ = resolve_task(task, ["env.episode_length_s=99"], play_mode=True)
    assert longer.episode_length_s == 99.0
    again, _ = resolve_task(task)
    assert again.episode_length_s == trained.episode_length_s, (
        "the registry is as it was"
    )


# path from "env": text -> what is there then, in its own type
@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("env.decimation", "2", 2),
        ("env.decimation", "2.0", 2),
        ("env.episode_length_s", "3", 3.0),
        ("env.is_finite_horizon", "True", True),
        ("env.rewards.pose.weight", "-2", -2.0),
        ("env.commands.twist.ranges.lin_vel_x", "[-1, 2]", (-1.0, 2.0)),
        ("env.viewer.origin_type", "world", "WORLD"),
        ("env.viewer.body_name", "123", "123"),
        ("env.events.push_robot", "none", None),
        ("env.seed", "3", 3),
    ],
)
def test_values_take_the_type_of_what_is_there(path, text, expected):
    env_cfg, _ = resolve_task(GO1, [f"{path}={text}"])
    found = env_cfg
    for part in path.split(".")[1:]:
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert (found.name if path.endswith("origin_type") else found) == expected
    assert type(found) is type(expected) or path.endswith("origin_type")


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        ("env.decimation", "many", "give a whole number"),
        ("env.is_finite_horizon", "1", "give true or false"),
        ("env.rewards.pose.func", "f", "give a path inside it"),
        ("env.viewer.origin_type", "moon", "give one of AUTO, WORLD"),
        ("env.commands.twist.ranges.lin_vel_x", "3", "give a sequence such as"),
        ("env.rewards.pos.weight", "1", "did you mean 'pose'"),
        ("env.decimation.more", "1", "'env.decimation' holds no options"),
        ("env", "1", "give a path inside it"),
    ],
)
def test_what_cannot_be_set_is_said(path, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        resolve_task(GO1, [f"{path}={text}"])


def test_a_nested_configuration_needs_no_simulator():
    @dataclasses.dataclass
    class Part:
        size: int = 1
        name: str | None = None

    parts = {"a": Part()}
    assign(parts, "parts.a.name", "none")
    assert parts["a"].name is None
    assign(parts, "parts.a.size", "3")
    assert parts == {"a": Part(3)}
    assign(parts, "parts.a", "none")
    assert parts == {"a": None}
