"""What Isaac Lab's tasks register for rsl_rl, as configurations of ours."""

import contextlib
import copy
from collections import Counter

import pytest

pytest.importorskip("isaaclab", reason="needs Isaac Lab: uv sync --extra isaaclab")

import gymnasium
from isaaclab_rl.rsl_rl import handle_deprecated_rsl_rl_cfg
from isaaclab_tasks.utils.hydra import resolve_presets
from isaaclab_tasks.utils.parse_cfg import load_cfg_from_registry

from ppo_jax.configs.isaac_lab import OUR_KEY, RSL_RL_KEY, isaac_config
from ppo_jax.envs.isaac_lab import registered_tasks
from ppo_jax.policies.models import ModelConfig
from ppo_jax.rsl_rl import UnsupportedFeature
from ppo_jax.runs.config import Config
from ppo_jax.runs.config_fields import save, to_dict

CARTPOLE, CAMERA, WALK = (
    "Isaac-Cartpole",
    "Isaac-Cartpole-Camera",
    "IsaacContrib-DrLegs-Walk",
)
OLD_STYLE = "IsaacContrib-Navigation-3DObstacles-ARL-Robot-1"

# What rsl_rl's configurations hold beside what is computed.
NOT_COMPUTED = {
    "device",
    "class_name",
    "algorithm.class_name",
    "logger",
    "wandb_project",
    "neptune_project",
    "resume",
    "load_run",
    "load_checkpoint",
    "torch_compile_mode",
    "store_code_state",
}
# What none of the translated ones may ask for.
# What is not set, since another value is refused.
ALWAYS = {f"{model}.cnn_cfg.flatten": True for model in ("actor", "critic")}
ABSENT = {
    "policy",
    "empirical_normalization",
    "algorithm.rnd_cfg",
    "algorithm.symmetry_cfg",
    "actor.cnn_cfg",
    "critic.cnn_cfg",
}
MODELS = "isaaclab_tasks.core.lift.config.kuka_allegro.agents.models"
CONTRIB = "isaaclab_tasks.contrib"


# Classes that are a kind of something here: {class: (field beside it, its value)}.
CLASSES = {
    f"{MODELS}:SpatialSoftmaxCNNModel": ("cnn_cfg.spatial_softmax", "isaaclab"),
    f"{CONTRIB}.keyboard.agents.models:SharedEncoderMLPModel": (
        "class_name",
        "MLPModel",
    ),
    f"{CONTRIB}.ur10_particle_push.agents.rsl_rl_ppo_cfg"
    ":UR10ParticlePushGaussianDistribution": ("class_name", "GaussianDistribution"),
}
# What such a class decides, whatever is configured.
OTHERWISE = {
    ("IsaacContrib-Keyboard-SO101", "algorithm.share_cnn_encoders"): True,
    ("IsaacContrib-UR10-Particle-Push", "actor.distribution_cfg.std_type"): "sigmoid",
}
RENAMED = {
    "algorithm.use_mixed_precision": (
        "algorithm.precision",
        {False: "default", True: "bfloat16"},
    ),
    "actor.init_temperature": ("actor.cnn_cfg.spatial_softmax_temperature", {}),
}


def agent_keys(task):
    return [key for key in gymnasium.spec(task).kwargs if "_cfg_entry_point" in key]


def without_rsl_rl():
    return [task for task in registered_tasks() if RSL_RL_KEY not in agent_keys(task)]


@pytest.fixture(scope="module")
def translations():
    """{(task, agent key): configuration, or the feature that is missing}."""
    found = {}
    for task in registered_tasks():
        for key in agent_keys(task):
            if key.startswith("rsl_rl"):
                try:
                    found[task, key] = isaac_config(task, key)
                except UnsupportedFeature as error:
                    found[task, key] = error.feature
    return found


def in_isaac_lab(task, key):
    """An agent's settings after Isaac Lab's own conversion, as {path: value}."""
    agent_cfg = resolve_presets(load_cfg_from_registry(task, key))
    agent_cfg = copy.deepcopy(agent_cfg)  # what is deprecated is deleted from it
    return flat(handle_deprecated_rsl_rl_cfg(agent_cfg, "5.5.1").to_dict())


def flat(tree, prefix=""):
    """{path: value} of nested dicts, tuples as lists; observation groups stay whole."""
    values = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value and name != "obs_groups":
            values |= flat(value, f"{path}.")
        else:
            values[path] = list(value) if isinstance(value, tuple) else value
    return values


def test_every_hyper_parameter_is_that_of_rsl_rl(translations):
    """Each is translated, or a fact of rsl_rl's bookkeeping, or not asked for."""
    wrong = {}
    for (task, key), found in translations.items():
        if isinstance(found, str):
            continue
        ours = flat(to_dict(found[0]))
        for path, value in in_isaac_lab(task, key).items():
            if path in ABSENT:
                right = not value
            elif isinstance(value, str) and value in CLASSES:
                name, wanted = CLASSES[value]
                right = ours[f"{path.rpartition('.')[0]}.{name}"] == wanted
            elif (task, path) in OTHERWISE:
                right = ours[path] == OTHERWISE[task, path]
            elif path in RENAMED:
                name, words = RENAMED[path]
                right = ours[name] == words.get(value, value)
            elif path in ALWAYS:
                right = value == ALWAYS[path]
            else:  # of an encoder one number stands for a list of it
                same = (value, [value]) if ".cnn_cfg." in path else (value,)
                right = path in NOT_COMPUTED or ours.get(path, "none") in same
            if not right:
                wrong[task, key, path] = (value, ours.get(path, "no such option"))
    assert wrong == {}


def test_the_run_is_that_of_the_task(translations):
    for (task, _), found in translations.items():
        if not isinstance(found, str):
            config, env_cfg = found
            assert config.task == task
            assert config.num_envs == env_cfg.scene.num_envs


def test_what_is_translated_and_what_is_missing(translations):
    """The counts are facts about Isaac Lab 3.0 and what is supported here."""
    counts = Counter(
        found if isinstance(found, str) else "translated"
        for found in translations.values()
    )
    assert counts == {
        "translated": 99,
        f"{CONTRIB}.multitask_manipulation.agents.ppo:TaskBalancedPPO": 1,
    }
    assert len(registered_tasks()) == 143  # one is ours
    assert len(without_rsl_rl()) == 53


def test_a_task_without_rsl_rl_says_what_it_has():
    for task in without_rsl_rl():
        with pytest.raises(ValueError, match=f"^{task} registers no agent") as error:
            isaac_config(task)
        keys = [key for key in agent_keys(task) if key != "env_cfg_entry_point"]
        assert all(key in str(error.value) for key in keys or ["none at all"])
        assert str(error.value).endswith(f"register {OUR_KEY!r} with the task")


# --- overrides


def test_a_preset_changes_environment_and_agent_together():
    config, env_cfg = isaac_config(CAMERA, overrides=["presets=resnet18"])
    assert config.actor.hidden_dims == (256, 128)
    assert config.actor.class_name == "MLPModel"
    assert "resnet18" in str(env_cfg.observations.policy.to_dict())
    config, env_cfg = isaac_config(CAMERA)
    assert config.actor.class_name == "CNNModel"
    assert "resnet18" not in str(env_cfg.observations.policy.to_dict())


def test_a_physics_preset_changes_environment_and_agent_together():
    newton, newton_env = isaac_config(WALK)
    physx, physx_env = isaac_config(WALK, overrides=["physics=physx"])
    assert newton.actor.distribution_cfg.init_std == 0.2
    assert physx.actor.distribution_cfg.init_std == 0.5
    assert type(newton_env.sim.physics) is not type(physx_env.sim.physics)


def test_overrides_reach_environment_and_agent():
    config, env_cfg = isaac_config(
        f"isaaclab:{CARTPOLE}",
        overrides=[
            "env.scene.num_envs=64",
            "env.sim.dt=0.01",
            "agent.algorithm.gamma=0.5",
            "agent.actor.hidden_dims=[8, 4]",
            "agent.algorithm.schedule=fixed",
            "agent.obs_groups={'actor': ['policy']}",
        ],
    )
    assert (env_cfg.sim.dt, env_cfg.scene.num_envs, config.num_envs) == (0.01, 64, 64)
    assert config.algorithm.gamma == 0.5
    assert config.algorithm.schedule == "fixed"
    assert config.actor.hidden_dims == (8, 4)
    assert config.obs_groups == {"actor": ("policy",)}


def test_overrides_do_not_stay():
    before, env_before = isaac_config(CARTPOLE)
    isaac_config(CARTPOLE, overrides=["env.sim.dt=0.5", "agent.algorithm.gamma=0.5"])
    after, env_after = isaac_config(CARTPOLE)
    assert before == after
    assert env_before.sim.dt == env_after.sim.dt != 0.5


def test_a_part_is_replaced_by_name_and_then_changed():
    overrides = ["env.sim.physics.num_substeps=7", "env.sim.physics=newton_kamino"]
    _, env_cfg = isaac_config(CARTPOLE, overrides=overrides)
    assert "Kamino" in type(env_cfg.sim.physics.solver_cfg).__name__
    assert env_cfg.sim.physics.num_substeps == 7


@pytest.mark.parametrize(
    ("token", "read", "wanted"),
    [
        (
            "agent.algorithm.timeout_bootstrap=last_value",
            lambda config: config.algorithm.timeout_bootstrap,
            "last_value",
        ),
        ("agent.keep_checkpoints=9", lambda config: config.keep_checkpoints, 9),
        ("agent.logger=none", lambda config: config.logger, "none"),
        ("agent.gamma=0.5", lambda config: config.algorithm.gamma, 0.5),
        (
            "agent.actor.distribution_cfg.learn_std=false",
            lambda config: config.actor.distribution_cfg.learn_std,
            False,
        ),
    ],
)
def test_an_option_that_only_we_have_is_set_here(token, read, wanted):
    config, _ = isaac_config(CARTPOLE, overrides=[token, "env.decimation=3"])
    assert read(config) == wanted != read(isaac_config(CARTPOLE)[0])


def test_settings_of_before_version_4_can_be_overridden():
    overrides = ["agent.policy.actor_hidden_dims=[8]", "agent.critic.hidden_dims=[4]"]
    config, _ = isaac_config(OLD_STYLE, overrides=overrides)
    assert config.actor.hidden_dims == (8,)
    assert config.critic.hidden_dims == (4,)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("env.sim.ddt=0.1", "no option 'env.sim.ddt': did you mean 'dt'"),
        ("env.smi.dt=0.1", "no option 'env.smi.dt': did you mean 'sim'"),
        ("env.sim.dt.x=1", "no option 'env.sim.dt.x': 'env.sim.dt' holds no options"),
        ("env.sim.phsics=newton_kamino", "'env.sim.phsics': did you mean 'physics'"),
        ("agent.algorithm.gama=1", "'agent.algorithm.gama': did you mean 'gamma'"),
        ("agent.max_iteration=1", "'agent.max_iteration': did you mean 'max_iter"),
        (
            "agent.num_envs=3",
            "'agent.num_envs=3' is not the agent's: give env.scene.nu",
        ),
        ("agent=other", "'agent' has no alternatives: give a path inside it"),
        ("agent.algorithm.gamma=2", "algorithm.gamma = 2.* is not allowed"),
        ("agent.logger=neptune", "logger = 'neptune' is not allowed"),
        ("gamma=0.9", "'gamma=0.9' is no override of a task: give env.path=value"),
        ("env.sim.dt", "'env.sim.dt' is no override of a task"),
        ("physics=bullet", "bullet"),
        ("env.sim.physics=bullet", "Unknown preset 'bullet' for env.sim.physics"),
    ],
)
def test_an_override_that_cannot_be_is_refused(token, message):
    with pytest.raises(ValueError, match=message):
        isaac_config(CARTPOLE, overrides=[token])


def test_an_alternative_of_a_part_that_is_not_there_is_refused():
    """The task has a second camera, which has a renderer, by another choice only."""
    token = "env.scene.wrist_camera.renderer_cfg=default"
    with pytest.raises(ValueError, match=f"^{token}: .* has no such part"):
        isaac_config("Isaac-Lift-KukaAllegro-Camera", overrides=[token])


def test_play_mode_is_that_of_the_task():
    task = "Isaac-Velocity-Flat-AnymalD"
    config, env_cfg = isaac_config(task, play_mode=True)
    assert config.num_envs == env_cfg.scene.num_envs <= 50
    assert not env_cfg.observations.policy.enable_corruption
    config, _ = isaac_config(task, None, ["env.scene.num_envs=60"], play_mode=True)
    assert config.num_envs == 60


# --- which agent


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("rsl_rl_with_simetry_cfg_entry_point", "'rsl_rl_with_symmetry_cfg_entry_p"),
        ("env_cfg_entry_point", "registers no agent configuration 'env_cfg"),
        ("skrl_cfg_entry_point", "is no configuration of ppo_jax or rsl_rl"),
        ("sb3_cfg_entry_point", "is no configuration of ppo_jax or rsl_rl"),
    ],
)
def test_an_agent_that_is_not_there_is_refused(key, message):
    with pytest.raises(ValueError, match=message):
        isaac_config(CARTPOLE, key)


def test_a_task_that_is_not_there_is_refused():
    with pytest.raises(
        ValueError, match=r"no task 'Isaac-Cartpol': .*'Isaac-Cartpole'"
    ):
        isaac_config("Isaac-Cartpol")


OURS = Config(
    num_steps_per_env=8,
    keep_checkpoints=7,
    logger="none",
    actor=ModelConfig(hidden_dims=(4,)),
)


@contextlib.contextmanager
def registered(entry_point):
    """The id of a task that registers `entry_point` as ours, beside rsl_rl's."""
    task = "Test-Cartpole-Ours"
    kwargs = gymnasium.spec(CARTPOLE).kwargs | {OUR_KEY: entry_point}
    gymnasium.register(task, gymnasium.spec(CARTPOLE).entry_point, kwargs=kwargs)
    try:
        yield task
    finally:
        del gymnasium.registry[task]


@pytest.mark.parametrize("form", ["object", "callable", "yaml"])
def test_a_task_may_register_a_configuration_of_ours(form, tmp_path):
    """It goes before rsl_rl's, and can be overridden as that can."""
    save(OURS, tmp_path / "agent.yaml")
    entry_points = {
        "object": OURS,
        "callable": lambda: OURS,
        "yaml": str(tmp_path / "agent.yaml"),
    }
    overrides = ["agent.algorithm.gamma=0.5", "env.scene.num_envs=16"]
    with registered(entry_points[form]) as task:
        config, _ = isaac_config(task, overrides=overrides)
        with pytest.raises(ValueError, match=r"'agent.algorithm.gama'"):
            isaac_config(task, overrides=["agent.algorithm.gama=1"])
        theirs, _ = isaac_config(task, RSL_RL_KEY)
    assert (config.task, config.num_envs, config.num_steps_per_env) == (task, 16, 8)
    assert (config.keep_checkpoints, config.logger) == (7, "none")
    assert config.actor.hidden_dims == (4,)
    assert config.algorithm.gamma == 0.5
    assert theirs.num_steps_per_env == 16
