"""Configurations: strict in, exact out."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
import yaml

from ppo_jax.configs import CONFIGS, config_for
from ppo_jax.envs import TASKS
from ppo_jax.policies.models import CNNConfig, DistributionConfig, ModelConfig
from ppo_jax.runs import config_fields
from ppo_jax.runs.config import AlgorithmConfig, Config, hyperparams, parts_of
from ppo_jax.runs.config_fields import (
    fields_of,
    find_path,
    flatten,
    from_dict,
    load,
    override,
    parse_literal,
    save,
    short_name,
    to_dict,
)
from ppo_jax.sweeps.axes import parse_axis
from ppo_jax.types import Continuous, Hyperparams

PATHS = [path for path, _ in fields_of(Config())]


@pytest.mark.parametrize("task", sorted({*TASKS, *CONFIGS, "gymnax:CartPole-v1"}))
def test_configuration_of_every_task_survives_yaml(tmp_path, task):
    """load(save(config)) = config, for every task that is registered."""
    original = config_for(task)
    assert original.task == task
    save(original, tmp_path / "agent.yaml")
    assert load(tmp_path / "agent.yaml") == original
    assert from_dict(to_dict(original)) == original
    assert override(original, flatten(original)) == original


def test_every_task_has_a_configuration():
    """A registered task does not train with defaults that nobody chose."""
    assert set(CONFIGS) == set(TASKS)


def test_every_field_has_help():
    """--help has a line about every field, without a full stop."""
    helps = {path: field.metadata["help"] for path, field in fields_of(Config())}
    assert all(helps.values())
    assert not [path for path, text in helps.items() if text.endswith(".")]


def test_yaml_is_plain(tmp_path):
    """The file has no Python tags, so that people and other tools can read it."""
    save(Config(), tmp_path / "agent.yaml")
    text = (tmp_path / "agent.yaml").read_text()
    assert "!!" not in text
    assert yaml.safe_load(text)["actor"]["hidden_dims"] == [64, 64]
    assert [path.name for path in tmp_path.iterdir()] == ["agent.yaml"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    """A run's description is replaced whole or not at all."""
    save(Config(), tmp_path / "agent.yaml")

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(config_fields.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        save(Config(num_envs=5), tmp_path / "agent.yaml")
    assert load(tmp_path / "agent.yaml") == Config()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("gamma", "algorithm.gamma"),
        ("algorithm.gamma", "algorithm.gamma"),
        ("agent.algorithm.gamma", "algorithm.gamma"),
        ("agent.num_envs", "num_envs"),
        ("init_std", "actor.distribution_cfg.init_std"),
        ("distribution_cfg.class_name", "actor.distribution_cfg.class_name"),
        ("use_mirror_loss", "algorithm.symmetry_cfg.use_mirror_loss"),
    ],
)
def test_a_field_is_found_by_any_unique_ending(name, path):
    """The whole path, a unique ending of it, or Isaac Lab's spelling of it."""
    assert find_path(name) == path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hidden_dims", "ambiguous: say actor.hidden_dims or critic.hidden_dims"),
        ("gam", "did you mean 'gamma'"),
        ("algorithm.lamb", "did you mean 'algorithm.lam'"),
        ("amma", "did you mean 'gamma'"),  # an ending of a word is not an ending
        ("actor", "there is no option 'actor'"),
    ],
)
def test_other_names_are_refused(name, words):
    """An unknown name is answered with the nearest, an ambiguous one with all."""
    with pytest.raises(ValueError, match=words):
        find_path(name)


def test_short_names_find_their_field():
    """The name that --help shows is found again, and no shorter one is."""
    for path in PATHS:
        assert find_path(short_name(path)) == path
        shorter = short_name(path).partition(".")[2]
        if shorter:
            with pytest.raises(ValueError):
                find_path(shorter)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("none", None),
        ("null", None),
        ("[64, 32]", [64, 32]),
        ("64,32", (64, 32)),
        ("{'a': ['b']}", {"a": ["b"]}),
        ("elu", "elu"),
        ("[a, b]", "[a, b]"),
        ("", ""),
        ("__import__('os')", "__import__('os')"),
    ],
)
def test_typed_values_are_read_as_literals(text, value):
    """Python's literals, YAML's words, else text; nothing is executed."""
    assert parse_literal(text) == value
    assert type(parse_literal(text)) is type(value)


def test_override_changes_what_it_names_and_nothing_else():
    """Fields at every depth, as text or as values."""
    changed = override(
        Config(),
        {
            "num_envs": "8",
            "run_name": "007",  # text stays text
            "gamma": "0.5",
            "desired_kl": "none",
            "actor.hidden_dims": "[4,2]",
            "agent.critic.activation": "tanh",
            "init_std": 0.3,
        },
    )
    assert changed == Config(
        num_envs=8,
        run_name="007",
        algorithm=AlgorithmConfig(gamma=0.5, desired_kl=None),
        actor=ModelConfig(
            hidden_dims=(4, 2), distribution_cfg=DistributionConfig(init_std=0.3)
        ),
        critic=ModelConfig(activation="tanh"),
    )


def test_none_is_a_word_where_a_word_or_a_list_is_meant():
    images = Config(actor=ModelConfig(class_name="CNNModel", cnn_cfg=CNNConfig()))
    for text, norm in (("none", "none"), ("['none','layer']", ("none", "layer"))):
        changed = override(images, {"actor.cnn_cfg.norm": text})
        assert isinstance(changed.actor.cnn_cfg, CNNConfig)
        assert changed.actor.cnn_cfg.norm == norm


def test_override_fills_a_group_that_is_not_there():
    """An actor without a distribution gets one when a field of it is set."""
    changed = override(Config(actor=ModelConfig()), {"init_std": "2"})
    assert changed.actor.distribution_cfg == DistributionConfig(init_std=2.0)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"algorithm": {"gama": 1}}, "'algorithm.gama': did you mean 'gamma'"),
        ({"num_env": 1}, "'num_env': did you mean 'num_envs'"),
        ({5: 1}, "there is no option '5': known:"),
        ({"actor": {"distribution_cfg": {"std": 1}}}, "actor.distribution_cfg.std'"),
        ({"actor": {"distribution_cfg": {"init_std": 0}}}, "distribution_cfg.init_std"),
        ({"critic": {"distribution_cfg": {}}}, "a value is no distribution"),
        ({"num_envs": 2, "num_steps_per_env": 3}, "6 samples are too few"),
        ({"num_envs": 2**20, "num_steps_per_env": 2**11}, "samples are too many"),
    ],
)
def test_wrong_data_is_refused(data, sentence):
    """Unknown keys at any depth, bad values, and what does not fit together."""
    with pytest.raises(ValueError) as error:
        from_dict(data)
    assert sentence in str(error.value)


def test_an_option_of_before_is_still_read(tmp_path):
    """In a run's file, as typed, and swept: a value, or a sentence."""
    path = tmp_path / "agent.yaml"
    save(Config(), path)
    text = path.read_text().replace("precision: default", "use_mixed_precision: true")
    path.write_text(text)
    config = load(path)
    assert config.algorithm.precision == "bfloat16"
    assert "use_mixed_precision" not in str(to_dict(config))
    typed = override(Config(), {"agent.use_mixed_precision": "true"})
    assert typed == config
    assert override(config, {"precision": "highest"}).algorithm.precision == "highest"
    assert short_name("algorithm.use_mixed_precision") == "use_mixed_precision"
    former = "algorithm.use_mixed_precision"
    assert parse_axis(former, "true").words == ("true",)
    for axis in ("true,false", "log(1,2)"):
        with pytest.raises(ValueError, match=r"^use_mixed_precision = "):
            parse_axis(former, axis)


def test_no_desired_kl_means_a_fixed_rate():
    """As in rsl_rl, `desired_kl = None` switches the adaptive schedule off."""
    assert AlgorithmConfig(desired_kl=None).schedule == "fixed"
    assert AlgorithmConfig().schedule == "adaptive"


def test_hyperparams_are_the_numbers_of_the_algorithm():
    """Every dynamic scalar is a field of the configuration; none is lost."""
    algorithm = AlgorithmConfig(gamma=0.1, lam=0.2, desired_kl=None)
    values = hyperparams(algorithm)
    assert (values.gamma, values.lam, values.desired_kl) == (0.1, 0.2, 0.0)
    names = {field.name for field in dataclasses.fields(AlgorithmConfig)}
    assert set(Hyperparams._fields) <= names
    assert hyperparams(AlgorithmConfig()) == Hyperparams()


@pytest.mark.slow
def test_the_parts_of_a_configuration_are_what_it_says():
    config = Config(
        actor=ModelConfig(hidden_dims=(8,)), algorithm=AlgorithmConfig(gamma=0.5)
    )
    network, ppo_config, hparams = parts_of(config, Continuous(2))
    params, _ = network.init(jax.random.key(0), {"policy": jnp.zeros((1, 3))})
    assert params["actor"]["mlp"]["layer_0"]["kernel"].shape == (3, 8)
    assert params["actor"]["head"]["mean"]["kernel"].shape == (8, 2)
    assert ppo_config is config.algorithm
    assert hparams == Hyperparams(gamma=0.5)


def test_a_group_that_is_not_there_is_made_by_its_fields():
    """Set by name, kept in a file, and shown by names that are found again."""
    config = override(
        Config(),
        {
            "data_augmentation_func": "ppo_jax.envs.cartpole:mirrored",
            "use_mirror_loss": "true",
        },
    )
    symmetry = config.algorithm.symmetry_cfg
    assert symmetry and symmetry.use_mirror_loss and not symmetry.use_data_augmentation
    assert override(Config(), flatten(config)) == config
    for path in flatten(config):
        assert find_path(short_name(path)) == path
    with pytest.raises(ValueError, match=r"symmetry_cfg.data_augmentation_func = ''"):
        override(Config(), {"use_mirror_loss": "true"})


def test_a_group_in_a_group_that_is_not_there_is_made_too():
    config = override(Config(), {"weight_schedule.final_step": "30"})
    rnd = config.algorithm.rnd_cfg
    assert rnd and rnd.weight_schedule and rnd.weight_schedule.final_step == 30
    assert override(Config(), flatten(config)) == config
