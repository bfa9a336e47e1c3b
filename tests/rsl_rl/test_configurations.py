"""rsl_rl's configurations, as ours."""

import math
from dataclasses import MISSING

import pytest
import yaml

from ppo_jax.learning.config import SymmetryConfig
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.rsl_rl import UnsupportedFeature, config_from_rsl_rl
from ppo_jax.runs.config import (
    AlgorithmConfig,
    Config,
    DistillationAlgorithm,
    hyperparams,
)
from ppo_jax.runs.config_fields import from_dict, override, to_yaml


def runner(algorithm=None, actor=None, critic=None, **others):
    """A runner's configuration as Isaac Lab's `to_dict()` gives it."""
    return {
        "class_name": "OnPolicyRunner",
        "seed": 7,
        "device": "cuda:0",
        "num_steps_per_env": 16,
        "max_iterations": 150,
        "save_interval": 50,
        "experiment_name": "cartpole",
        "run_name": "",
        "obs_groups": {"actor": ["policy"], "critic": ["policy", "height"]},
        "clip_actions": 2.0,
        "check_for_nan": False,
        "logger": "wandb",
        "wandb_project": "isaaclab",
        "resume": False,
        "load_run": ".*",
        "load_checkpoint": "model_.*.pt",
        "torch_compile_mode": None,
        "policy": {},
        "empirical_normalization": {},
        "actor": {
            "class_name": "MLPModel",
            "hidden_dims": [32, 16],
            "activation": "elu",
            "obs_normalization": True,
            "distribution_cfg": {
                "class_name": "GaussianDistribution",
                "init_std": 0.5,
                "std_type": "log",
            },
            **(actor or {}),
        },
        "critic": {
            "class_name": "MLPModel",
            "hidden_dims": [64],
            "activation": "relu",
            "obs_normalization": False,
            "distribution_cfg": None,
            **(critic or {}),
        },
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": 8,
            "learning_rate": 3e-4,
            "rnd_cfg": None,
            "symmetry_cfg": None,
            "share_cnn_encoders": False,
            **(algorithm or {}),
        },
        **others,
    }


# --- configurations


def test_a_runner_is_translated_field_by_field():
    config = config_from_rsl_rl(runner(), task="Cartpole", num_envs=512)
    assert config == Config(
        task="Cartpole",
        num_envs=512,
        seed=7,
        num_steps_per_env=16,
        max_iterations=150,
        save_interval=50,
        experiment_name="cartpole",
        obs_groups={"actor": ("policy",), "critic": ("policy", "height")},
        clip_actions=2.0,
        check_for_nan=False,
        actor=ModelConfig(
            hidden_dims=(32, 16),
            obs_normalization=True,
            distribution_cfg=DistributionConfig(init_std=0.5, std_type="log"),
        ),
        critic=ModelConfig(hidden_dims=(64,), activation="relu"),
        algorithm=AlgorithmConfig(num_learning_epochs=8, learning_rate=3e-4),
    )


def test_what_is_not_said_has_the_defaults_of_rsl_rl():
    algorithm = config_from_rsl_rl(runner(algorithm={})).algorithm
    wanted = {
        "num_mini_batches": 4,
        "clip_param": 0.2,
        "gamma": 0.99,
        "lam": 0.95,
        "value_loss_coef": 1.0,
        "entropy_coef": 0.01,
        "max_grad_norm": 1.0,
        "optimizer": "adam",
        "use_clipped_value_loss": True,
        "schedule": "adaptive",
        "desired_kl": 0.01,
        "normalize_advantage_per_mini_batch": False,
        "precision": "default",
    }
    assert {name: getattr(algorithm, name) for name in wanted} == wanted
    assert AlgorithmConfig().learning_rate == 1e-3
    assert AlgorithmConfig().num_learning_epochs == 5


@pytest.mark.parametrize(
    ("algorithm", "schedule"),
    [
        ({"schedule": "adaptive"}, "adaptive"),
        ({"schedule": "fixed"}, "fixed"),
        ({"schedule": "linear"}, "fixed"),  # rsl_rl does not look at other words
        ({"schedule": "Adaptive"}, "fixed"),
        ({"desired_kl": None}, "fixed"),
    ],
)
def test_any_word_but_adaptive_is_a_fixed_schedule(algorithm, schedule):
    assert config_from_rsl_rl(runner(algorithm)).algorithm.schedule == schedule


def test_without_a_desired_kl_the_hyperparameters_are_still_numbers():
    algorithm = config_from_rsl_rl(runner({"desired_kl": None})).algorithm
    assert all(isinstance(value, float) for value in hyperparams(algorithm))


def test_the_optimizer_is_named_in_any_case():
    assert config_from_rsl_rl(runner({"optimizer": "AdamW"})).algorithm.optimizer == (
        "adamw"
    )


def test_overrides_win():
    config = config_from_rsl_rl(runner(), max_iterations=3, seed=1)
    assert (config.max_iterations, config.seed) == (3, 1)


def test_none_and_missing_say_nothing():
    """Isaac Lab's `to_dict` makes {} of a MISSING setting."""
    for nothing in ({}, None, MISSING):
        silent = runner(
            {"optimizer": nothing, "rnd_cfg": nothing},
            actor={"activation": nothing, "cnn_cfg": nothing},
            critic={"distribution_cfg": nothing, "stochastic": nothing},
            clip_actions=nothing,
            obs_groups=nothing,
        )
        config = config_from_rsl_rl(silent)
        assert config.algorithm.optimizer == "adam"
        assert config.actor.activation == "elu"
        assert config.clip_actions is None
        assert config.obs_groups == {}


def of_before_version_4(empirical_normalization=MISSING, **policy):
    policy = {
        "class_name": "ActorCritic",
        "init_noise_std": 0.5,
        "noise_std_type": "log",
        "actor_hidden_dims": [32, 16],
        "critic_hidden_dims": [64],
        "activation": "tanh",
        **policy,
    }
    return runner() | {
        "actor": MISSING,
        "critic": {},
        "policy": policy,
        "empirical_normalization": empirical_normalization,
    }


@pytest.mark.parametrize(
    ("old", "normalized"),
    [
        ({}, (False, False)),
        ({"empirical_normalization": True}, (True, True)),
        ({"actor_obs_normalization": True}, (True, False)),
        (
            {"empirical_normalization": True, "critic_obs_normalization": False},
            (True, False),
        ),
    ],
)
def test_a_policy_of_before_version_4_is_two_models(old, normalized):
    """Its own normalisation goes before that of the runner."""
    config = config_from_rsl_rl(of_before_version_4(**old))
    spread = DistributionConfig(init_std=0.5, std_type="log")
    assert config.actor == ModelConfig(
        hidden_dims=(32, 16),
        activation="tanh",
        obs_normalization=normalized[0],
        distribution_cfg=spread,
    )
    assert config.critic == ModelConfig(
        hidden_dims=(64,), activation="tanh", obs_normalization=normalized[1]
    )


def test_a_model_goes_before_the_policy_of_before_version_4():
    old = of_before_version_4() | {"critic": {"hidden_dims": [9]}}
    config = config_from_rsl_rl(old)
    assert config.critic == ModelConfig(hidden_dims=(9,))
    assert config.actor.activation == "tanh"


def test_normalization_that_nothing_reads_is_refused():
    with pytest.raises(ValueError, match="empirical_normalization = True is not read"):
        config_from_rsl_rl(runner(empirical_normalization=True))


@pytest.mark.parametrize(
    ("model", "distribution"),
    [
        ({"stochastic": True}, DistributionConfig(init_std=0.3, std_type="log")),
        (
            {"stochastic": True, "state_dependent_std": True},
            DistributionConfig("HeteroscedasticGaussianDistribution", 0.3, "log"),
        ),
        (
            {"stochastic": True, "distribution_cfg": {"init_std": 0.7}},
            DistributionConfig(init_std=0.7),
        ),
    ],
)
def test_the_noise_of_version_4_is_a_distribution(model, distribution):
    """Unless the distribution is given as well."""
    old = {"distribution_cfg": None, "init_noise_std": 0.3, "noise_std_type": "log"}
    config = config_from_rsl_rl(runner(actor=old | model, critic=old))
    assert config.actor.distribution_cfg == distribution
    assert config.critic.distribution_cfg is None


IN_TORCH = "isaaclab_tasks.core.cartpole.mdp.symmetry:compute_symmetric_states"


def mirrored(obs, action):
    """Somebody's symmetry."""


@pytest.mark.parametrize("augment", [mirrored, f"{__name__}:mirrored"])
def test_a_symmetry_is_named_by_its_function_or_its_path(augment):
    given = {"data_augmentation_func": augment, "mirror_loss_coeff": 0.5}
    config = config_from_rsl_rl(runner({"symmetry_cfg": given}))
    assert config.algorithm.symmetry_cfg == SymmetryConfig(
        data_augmentation_func=f"{__name__}:mirrored", mirror_loss_coeff=0.5
    )


# The default of rsl_rl is one LSTM of 256; what is no GRU is an LSTM.
@pytest.mark.parametrize(
    ("given", "layers"),
    [
        ({}, ("lstm", 256, 1)),
        ({"rnn_type": "GRU", "rnn_hidden_dim": 64}, ("gru", 64, 1)),
        ({"rnn_type": "LSTM", "rnn_num_layers": 2}, ("lstm", 256, 2)),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_recurrent_networks_are_translated(given, layers, old):
    if old:
        kind = {"class_name": "ActorCriticRecurrent"}
        config = config_from_rsl_rl(of_before_version_4(**kind, **given))
    else:
        model = {"class_name": "rsl_rl.models:RNNModel"} | given
        config = config_from_rsl_rl(runner(actor=model, critic=model))
    for model in (config.actor, config.critic):
        assert model.class_name == "RNNModel"
        found = model.rnn_type, model.rnn_hidden_dim, model.rnn_num_layers
        assert found == layers


def test_shared_encoders_are_described_by_the_actor():
    """What the critic says of them is not read, as in rsl_rl."""
    sight = {"output_channels": [4], "kernel_size": 3, "activation": "relu"}
    sees = {"class_name": "CNNModel", "cnn_cfg": sight}
    for ignored in (None, {"output_channels": [9]}, {"image": sight}):
        other = sees | {"cnn_cfg": ignored}
        shares = runner({"share_cnn_encoders": True}, actor=sees, critic=other)
        config = config_from_rsl_rl(shares)
        assert config.critic.cnn_cfg == config.actor.cnn_cfg
        assert config.algorithm.share_cnn_encoders
        assert config.algorithm.shared_encoder_updates == "once"


def of_mjlab(**model):
    """What `asdict` makes of a runner of mjlab: every field, None where unused."""
    unused = {"cnn_cfg": None, "rnn_type": None, "rnn_num_layers": 1}
    model = {"hidden_dims": (32, 16), "rnn_hidden_dim": 64} | unused | model
    gaussian = {"class_name": "GaussianDistribution", "std_type": "log"}
    return runner(
        actor=model | {"distribution_cfg": gaussian},
        critic=model,
        obs_groups={"actor": ("actor", "camera"), "critic": ("critic",)},
        wandb_tags=("a", "b"),
        upload_model=True,
    )


def test_runners_of_mjlab_are_read_as_they_are():
    config = config_from_rsl_rl(of_mjlab())
    assert config.obs_groups == {"actor": ("actor", "camera"), "critic": ("critic",)}
    assert (config.actor.class_name, config.actor.hidden_dims) == ("MLPModel", (32, 16))
    assert config.actor.rnn_hidden_dim == ModelConfig().rnn_hidden_dim  # not read
    recurrent = of_mjlab(class_name="RNNModel", rnn_type="gru")
    assert config_from_rsl_rl(recurrent).critic.rnn_hidden_dim == 64


SIGHT = {"output_channels": [4, 8], "kernel_size": 3, "activation": "relu"}
OF_ISAAC_LAB = (
    "isaaclab_tasks.core.lift.config.kuka_allegro.agents.models:SpatialSoftmaxCNNModel"
)
OF_MJLAB = "mjlab.rl.spatial_softmax:SpatialSoftmaxCNNModel"


@pytest.mark.parametrize(
    ("class_name", "model", "cnn_cfg", "kind"),
    [
        ("CNNModel", {}, {}, ("none", 1.0)),
        (OF_ISAAC_LAB, {"init_temperature": 0.5}, {}, ("isaaclab", 0.5)),
        (OF_ISAAC_LAB, {}, {"flatten": False}, ("isaaclab", 1.0)),
        (
            OF_MJLAB,
            {},
            {"spatial_softmax_temperature": 0.25, "global_pool": "avg"},
            ("mjlab", 0.25),
        ),
        (OF_MJLAB.replace(":", "."), {}, {"spatial_softmax": True}, ("mjlab", 1.0)),
    ],
)
def test_spatial_softmaxes_are_told_apart_by_their_path(
    class_name, model, cnn_cfg, kind
):
    given = {"class_name": class_name, "cnn_cfg": SIGHT | cnn_cfg, **model}
    encoder = config_from_rsl_rl(runner(critic=given)).critic.cnn_cfg
    assert (encoder.spatial_softmax, encoder.spatial_softmax_temperature) == kind
    assert encoder.global_pool == "none"


def test_an_encoder_for_each_image():
    """Survives the YAML of a run as well."""
    given = {"wrist": SIGHT, "base": SIGHT | {"norm": ["layer", "none"], "stride": 2}}
    model = {"class_name": "CNNModel", "cnn_cfg": given}
    config = config_from_rsl_rl(runner(actor=model))
    encoders = config.actor.cnn_cfg
    assert list(encoders) == ["wrist", "base"]
    assert encoders["base"].norm == ("layer", "none")
    assert from_dict(yaml.safe_load(to_yaml(config))) == config
    assert override(config, {"gamma": 0.5}).actor == config.actor
    given["wrist"] = SIGHT | {"kernel_sise": 3}
    with pytest.raises(ValueError, match=r"'actor.cnn_cfg.wrist.kernel_sise': did you"):
        config_from_rsl_rl(runner(actor=model))


def of_students(algorithm=None, student=None, **others):
    """What Isaac Lab's `to_dict()` gives of a runner of distillation."""
    given = runner(**others)
    actor, _ = given.pop("actor"), given.pop("critic")
    return given | {
        "class_name": "DistillationRunner",
        "obs_groups": {"student": ["policy"], "teacher": ["policy", "height"]},
        "student": actor | (student or {}),
        "teacher": actor | {"distribution_cfg": {"init_std": 0.0}},
        "algorithm": {
            "class_name": "Distillation",
            "gradient_length": 5,
            "loss_type": "huber",
            "max_grad_norm": 0.0,
            **(algorithm or {}),
        },
    }


def test_a_runner_of_distillation_is_read():
    config = config_from_rsl_rl(of_students({"optimizer": "AdamW"}))
    assert config.algorithm == DistillationAlgorithm(
        gradient_length=5, loss_type="huber", optimizer="adamw"
    )
    assert config.student.distribution_cfg.init_std == 0.5
    assert config.teacher.distribution_cfg.init_std == 0.0
    assert config.obs_groups["teacher"] == ("policy", "height")
    assert (config.actor, config.critic) == (Config().actor, Config().critic)
    assert hyperparams(config.algorithm).max_grad_norm == math.inf


class Mine:
    """Somebody's own model."""


@pytest.mark.parametrize(
    ("class_name", "missing"),
    [
        ("MLPModel", None),
        ("rsl_rl.models:MLPModel", None),
        ("rsl_rl.models.mlp_model.MLPModel", None),
        ("rsl_rl.models:TransformerModel", "rsl_rl's TransformerModel is not"),
        ("robots.models:MLPModel", "^robots.models:MLPModel is not"),
        (Mine, f"^{__name__}:Mine is not"),
    ],
)
def test_a_class_is_named_in_any_way_that_rsl_rl_takes(class_name, missing):
    configuration = runner(actor={"class_name": class_name})
    if missing is None:
        assert config_from_rsl_rl(configuration) == config_from_rsl_rl(runner())
    else:
        with pytest.raises(UnsupportedFeature, match=missing):
            config_from_rsl_rl(configuration)


@pytest.mark.parametrize(
    ("configuration", "feature"),
    [
        (of_before_version_4(class_name="StudentTeacher"), "StudentTeacher"),
        (runner(actor={"distribution_cfg": {"class_name": "Mine"}}), "Mine"),
        (of_students({"class_name": "Mine"}), "Mine"),
        (of_students(student={"class_name": "TransformerModel"}), "TransformerModel"),
    ],
)
def test_a_feature_that_is_missing_is_named(configuration, feature):
    with pytest.raises(
        UnsupportedFeature, match=f"{feature} is not supported"
    ) as error:
        config_from_rsl_rl(configuration)
    assert error.value.feature == feature


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (runner({"class_name": "Distillation"}), "there is no student"),
        (of_students({"class_name": "PPO"}), "'DistillationRunner' .* not PPO"),
        (of_students({"gamma": 0.9}), "no option 'algorithm.gamma'"),
        (of_students({"rnd_cfg": {"weight": 1.0}}), "'algorithm.rnd_cfg'"),
        (of_students(student={"distribution_cfg": {"init_std": 0.0}}), "init_std"),
        (
            runner({"clip_parm": 0.1}),
            "'algorithm.clip_parm': did you mean 'clip_param'",
        ),
        (runner(actor={"hiden_dims": [3]}), "'actor.hiden_dims': .*'hidden_dims'"),
        (runner(max_iteration=3), "'max_iteration': did you mean 'max_iterations'"),
        (runner({"gamma": 1.5}), "algorithm.gamma = 1.5 .*from 0 to 1"),
        (runner(critic={"activation": "rleu"}), "critic.activation = .*'relu'"),
    ],
)
def test_an_unknown_key_or_value_names_the_nearest(configuration, message):
    with pytest.raises(ValueError, match=message):
        config_from_rsl_rl(configuration)
