"""A run with an intrinsic reward and a symmetry goes on as if nothing had been."""

import jax
import numpy as np
import pytest

from ppo_jax.configs import config_for
from ppo_jax.envs import make
from ppo_jax.runs import checkpoint
from ppo_jax.runs.config_fields import override
from ppo_jax.runs.runner import run_training
from ppo_jax.runs.trainers import abstract_run, make_trainer

SETTINGS = {
    "num_envs": 16,
    "num_steps_per_env": 8,
    "num_learning_epochs": 1,
    "num_mini_batches": 2,
    "actor.hidden_dims": "[8]",
    "critic.hidden_dims": "[8]",
    "max_iterations": 4,
    "save_interval": 2,
    "logger": "none",
    "rnd_cfg.weight": "9.0",
    "reward_normalization": "true",
    "state_normalization": "true",
    "weight_schedule.mode": "linear",
    "weight_schedule.final_step": "30",
    "data_augmentation_func": "ppo_jax.envs.cartpole:mirrored",
    "use_data_augmentation": "true",
}


@pytest.mark.slow
def test_the_sums_of_rnd_are_saved_and_go_on_bit_for_bit(tmp_path):
    """Its counter too: the weight is that of the step in the whole run."""
    config = override(config_for("Cartpole"), SETTINGS)
    trainer = make_trainer(config, make("Cartpole", 16))
    whole = run_training(trainer, tmp_path / "whole").run
    saved = checkpoint.restore_run(tmp_path / "whole", abstract_run(trainer), "2")
    assert saved.state.rnd.step == 16
    again = run_training(trainer, tmp_path / "again", run=saved.state).run
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(data_of(x), data_of(y)), whole, again
    )
    assert whole.rnd.step == 32
    assert whole.rnd.stats.count == 32 * 16


def data_of(x):
    is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if is_key else x
