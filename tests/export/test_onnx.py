"""Policies as ONNX: what the file says, that it acts the same, and what is refused.

Those with memory, or of images, are in `test_onnx_encoders.py`.
"""

import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import jax
import numpy as np
import onnx
import onnxruntime
import policies_to_export
import pytest

from ppo_jax import Continuous, Discrete, RunningStats
from ppo_jax.export import Disagrees, export_policy, layers, networks
from ppo_jax.learning.ppo import make_ppo
from ppo_jax.loops.evaluation import Observed
from ppo_jax.policies.activations import ACTIVATIONS
from ppo_jax.policies.heads import HEADS as TRAINED_HEADS
from ppo_jax.policies.models import DistributionConfig, ModelConfig
from ppo_jax.policies.modules import MODULES
from ppo_jax.runs.config import Config, parts_of

GROUPS = {"policy": 9, "height": 4, "unread": 2}
CHOSEN = ("height", "policy")  # neither all nor in the order of the environment
ARM = Continuous(6)
HEADS = {
    "gaussian": DistributionConfig(),
    "heteroscedastic": DistributionConfig("HeteroscedasticGaussianDistribution"),
    "beta": DistributionConfig("BetaDistribution", action_range=(-2.0, 3.0)),
}


def config_with(distribution=None, activation="elu", **actor):
    return Config(
        task="Arm",
        clip_actions=2.5,
        obs_groups={"actor": CHOSEN, "critic": ("policy",)},
        actor=ModelConfig(
            hidden_dims=(-1, 24),
            activation=activation,
            obs_normalization=True,
            distribution_cfg=distribution,
            **actor,
        ),
    )


def observed(num_steps=250, num_envs=4, seed=0):
    """Observations of some size, as no normaliser would leave them."""
    rng = np.random.default_rng(seed)
    obs = {
        name: rng.normal(1.0, 3.0, (num_steps, num_envs, dim)).astype(np.float32)
        for name, dim in GROUPS.items()
    }
    return Observed(obs, rng.random((num_steps, num_envs)) < 0.1)


def learned(config, action_space=ARM, seed=0):
    """A state in which every weight and statistic is another than at the start."""
    network, _, _ = parts_of(config, action_space)
    return policies_to_export.learned(network, first(observed()), seed)


def first(seen):
    return {name: x[0] for name, x in seen.obs.items()}


def mode(config, state, obs, action_space=ARM):
    network, ppo_config, _ = parts_of(config, action_space)
    return np.asarray(jax.jit(make_ppo(network, ppo_config).mode)(state, obs))


def concatenated(obs):
    return np.concatenate([obs[name] for name in CHOSEN], axis=-1)


def export(path, config, state=None, seen=None, action_space=ARM, **how):
    state = state or learned(config, action_space)
    return export_policy(path, config, action_space, state, seen or observed(), **how)


# --- the file


@pytest.mark.slow
def test_the_interface_is_that_of_rsl_rl(tmp_path):
    """One observation at once, of all groups that the actor reads, in its order."""
    written = export(tmp_path / "a" / "policy.onnx", config_with())
    assert written.interface == "obs [1, 13] -> actions [1, 6]"
    model = onnx.load(written.path)
    assert [(x.domain, x.version) for x in model.opset_import] == [("", 18)]
    assert [x.name for x in model.graph.input] == ["obs"]
    assert [x.name for x in model.graph.output] == ["actions"]
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_file_may_take_any_number_of_observations(tmp_path):
    config, state = config_with(), learned(config_with())
    written = export(tmp_path / "policy.onnx", config, state, dynamic_batch=True)
    assert written.interface == "obs ['batch', 13] -> actions ['batch', 6]"
    obs = first(observed(num_envs=33))
    session = onnxruntime.InferenceSession(written.path)
    (action,) = session.run(None, {"obs": concatenated(obs)})
    np.testing.assert_allclose(action, mode(config, state, obs), atol=1e-5)


def test_the_file_says_what_it_is(tmp_path):
    facts = {"joint_names": "hip,knee", "run_path": "logs/run"}
    written = export(tmp_path / "policy.onnx", config_with(), metadata=facts)
    model = onnx.load(written.path)
    assert {x.key: x.value for x in model.metadata_props} == facts | {
        "task": "Arm",
        "iteration": "7",
        "observation_groups": "height:4,policy:9",
        "clip_actions": "2.5",
        "ppo_jax_version": model.producer_version,
    }
    assert model.producer_name == "ppo_jax"


# --- it acts the same


@pytest.mark.parametrize("name", HEADS)
def test_every_head_acts_the_same(tmp_path, name, record_property):
    """The file is run here once more: what it was compared with could be wrong."""
    config, state = config_with(HEADS[name]), learned(config_with(HEADS[name]))
    written = export(tmp_path / "policy.onnx", config, state)
    record_property("difference", written.difference)
    assert written.num_observations == 1000
    assert written.difference < 1e-5
    session = onnxruntime.InferenceSession(written.path)
    obs = first(observed(seed=5))
    for row, wanted in enumerate(mode(config, state, obs)):
        (action,) = session.run(None, {"obs": concatenated(obs)[row : row + 1]})
        np.testing.assert_allclose(action[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_acts_the_same(tmp_path, name):
    written = export(
        tmp_path / "policy.onnx", config_with(activation=name), dynamic_batch=True
    )
    assert written.difference < 1e-5


def test_a_beta_that_stays_near_zero_is_exact_enough(tmp_path):
    """Its actions are low + share (high - low): rounded as the range is, not as 0."""
    config = config_with(DistributionConfig("BetaDistribution"))
    state = learned(config)
    for layer in ("alpha", "beta"):
        head = state.params["actor"]["head"][layer]
        head["kernel"], head["bias"] = head["kernel"] * 1e-5, head["bias"] * 0.0
    assert np.abs(mode(config, state, first(observed()))).max() < 1e-3
    assert export(tmp_path / "policy.onnx", config, state).difference < 1e-6


def test_every_network_and_head_can_be_written():
    """A kind that is trained and not exported is found here."""
    assert networks.NETWORKS.keys() == MODULES.keys()
    assert networks.HEADS.keys() == TRAINED_HEADS.keys()
    assert layers.ACTIVATIONS.keys() == ACTIVATIONS.keys()


def test_a_discrete_action_is_the_index_of_the_largest_logit(tmp_path):
    """A scalar, as the environment takes it; the logits stand beside it."""
    space, config = Discrete(5), config_with()
    state = learned(config, space)
    written = export(tmp_path / "policy.onnx", config, state, action_space=space)
    assert written.interface == "obs [1, 13] -> actions [1], logits [1, 5]"
    session = onnxruntime.InferenceSession(written.path)
    obs = first(observed(num_envs=50))
    wanted = mode(config, state, obs, space)
    assert len(set(wanted.tolist())) > 1
    for row, index in enumerate(wanted):
        action, _ = session.run(None, {"obs": concatenated(obs)[row : row + 1]})
        assert (action.dtype, action.tolist()) == (np.int32, [index])


def test_without_normalisation_the_observation_is_read_as_it_is(tmp_path):
    config = config_with()
    config = replace(config, actor=replace(config.actor, obs_normalization=False))
    assert export(tmp_path / "policy.onnx", config).difference < 1e-5


# --- what is not written


def wrong_normaliser(monkeypatch):
    monkeypatch.setattr(networks, "STD_OFFSET", 0.011)


def wrong_activation(monkeypatch):
    monkeypatch.setitem(layers.ACTIVATIONS, "elu", layers.ACTIVATIONS["selu"])


@pytest.mark.parametrize("spoil", [wrong_normaliser, wrong_activation])
def test_a_file_that_acts_otherwise_is_refused(tmp_path, monkeypatch, spoil):
    """And the one that was there before stays."""
    path = tmp_path / "policy.onnx"
    export(path, config_with())
    before = path.read_bytes()
    spoil(monkeypatch)
    with pytest.raises(Disagrees, match=r"was not written: over 1000 .* 1e-05 is all"):
        export(path, config_with())
    assert path.read_bytes() == before
    assert [x.name for x in tmp_path.iterdir()] == ["policy.onnx"]


def test_what_is_not_finite_is_named(tmp_path):
    state = learned(config_with())
    state.params["actor"]["mlp"]["layer_1"]["bias"][3] = np.nan
    with pytest.raises(ValueError, match=r"params.mlp.layer_1.bias of the actor is no"):
        export(tmp_path / "policy.onnx", config_with(), state)
    state = learned(config_with())
    stats = state.obs_stats["actor"]
    assert isinstance(stats, RunningStats)
    stats.var[2] = np.inf
    with pytest.raises(ValueError, match=r"obs_stats.var of the actor is not finite"):
        export(tmp_path / "policy.onnx", config_with(), state)
    assert list(tmp_path.iterdir()) == []


def test_a_group_that_is_no_vector_is_named(tmp_path):
    seen = observed()
    seen.obs["height"] = np.zeros((250, 4, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"group 'height' has the shape \[2, 2\]"):
        export(tmp_path / "policy.onnx", config_with(), seen=seen)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_the_extra_it_says_what_to_install(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match="need onnx and onnxruntime: uv sync --extra"):
        export(Path("policy.onnx"), config_with())


# --- the table of the page


@pytest.mark.slow
def test_the_table_of_the_page_has_every_network_and_head():
    """Written by a command, of which one cell is made again, of fewer observations."""
    root = Path(__file__).parents[2]
    spec = spec_from_file_location("table", root / "benchmarks/onnx_differences.py")
    table = module_from_spec(spec)
    spec.loader.exec_module(table)
    section = (root / "docs" / "deploy.md").read_text().split(table.HEADING)[1]
    lines = [x for x in section.split("\n## ")[0].splitlines() if x.startswith("| ")]
    title, *rows = [[cell.strip() for cell in x.strip("|").split("|")] for x in lines]
    assert title[2:] == list(table.HEADS)
    kinds = [config.get("class_name", "MLPModel") for config in table.NETWORKS.values()]
    assert set(kinds) == networks.NETWORKS.keys()
    assert [row[:2] for row in rows] == [
        [name, normaliser] for name in table.NETWORKS for normaliser in ("yes", "no")
    ]
    assert all(0 < float(cell) < 1e-5 for row in rows for cell in row[2:])
    assert table.difference("GRU 256", True, "Beta", num_steps=5) < 1e-5
