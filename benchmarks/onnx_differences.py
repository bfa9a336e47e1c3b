"""How exactly exported policies act, for each kind of network and head.

    uv run --extra export python benchmarks/onnx_differences.py

writes the table of docs/deploy.md. Each policy has its weights as they are drawn, moved
by noise, and statistics of a normaliser that has seen something. It acts on 1000 random
observations: 4 environments, of which one has a single episode of 250 steps and the
others end one in 20.
"""

import re
import tempfile
from itertools import product
from pathlib import Path

import jax
import numpy as np

from ppo_jax import Continuous, Discrete, TrainState
from ppo_jax.export import export_policy
from ppo_jax.loops.evaluation import Observed
from ppo_jax.policies.models import CNNConfig, DistributionConfig, ModelConfig
from ppo_jax.runs.config import Config, parts_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "deploy.md"
HEADING = "## How exactly it acts"
NETWORKS = {
    "MLP 256-128-64": {"hidden_dims": (256, 128, 64)},
    "LSTM 256, two layers": {"class_name": "RNNModel", "rnn_num_layers": 2},
    "GRU 256": {"class_name": "RNNModel", "rnn_type": "gru"},
    "CNN of two images": {"class_name": "CNNModel", "cnn_cfg": CNNConfig(stride=(2,))},
}
HEADS = {
    "Gaussian": (Continuous(12), DistributionConfig()),
    "Beta": (Continuous(12), DistributionConfig("BetaDistribution")),
    "Categorical": (Discrete(6), None),
}
NUM_ENVS = 4


def main():
    rows = ["| network | normaliser | " + " | ".join(HEADS) + " |", "|---" * 5 + "|"]
    for network, is_normalised in product(NETWORKS, (True, False)):
        found = [f"{difference(network, is_normalised, head):.1e}" for head in HEADS]
        cells = [network, "yes" if is_normalised else "no", *found]
        rows.append(f"| {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    page = PAGE.read_text()
    section = page[page.index(HEADING) :]
    table = re.search(r"(\|.*\n)+", section)
    assert table, f"{PAGE} has no table under {HEADING!r}"
    PAGE.write_text(page.replace(table[0], "\n".join(rows) + "\n"))


def difference(network, is_normalised, head, num_steps=250):
    """Returns the largest difference to the policy, relative to the largest action."""
    action_space, distribution = HEADS[head]
    actor = ModelConfig(
        **NETWORKS[network],
        obs_normalization=is_normalised,
        distribution_cfg=distribution,
    )
    vectors, images = ("policy",), ("camera", "depth")
    groups = vectors + images if actor.class_name == "CNNModel" else vectors
    config = Config(
        task="differences",
        actor=actor,
        obs_groups={"actor": groups, "critic": vectors},
    )
    seen = observed(groups, num_steps)
    state = moved(config, action_space, {k: x[0] for k, x in seen.obs.items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.onnx"
        return export_policy(path, config, action_space, state, seen).difference


def observed(groups, num_steps):
    rng = np.random.default_rng(0)
    shape = (num_steps, NUM_ENVS)
    obs = {
        "policy": rng.normal(1.0, 3.0, (*shape, 48)).astype(np.float32),
        "camera": rng.integers(0, 256, (*shape, 3, 32, 32)).astype(np.uint8),
        "depth": rng.random((*shape, 1, 24, 24)).astype(np.float32),
    }
    is_first = rng.random(shape) < 0.05
    is_first[:, 0] = False
    return Observed({name: obs[name] for name in groups}, is_first)


def moved(config, action_space, obs):
    """Returns what was learned, as if something had been."""
    network, _, _ = parts_of(config, action_space)
    params, stats = network.init(jax.random.key(0), obs)
    rng = np.random.default_rng(1)
    move = lambda x: np.array(x + rng.normal(0.0, 0.02, x.shape), np.float32)
    vary = lambda x: np.array(rng.uniform(0.5, 2.0, x.shape), np.float32)
    learned = jax.tree.map(move, params), jax.tree.map(vary, stats)
    return TrainState(*learned, (), np.float32(1e-3), 1)


if __name__ == "__main__":
    main()
