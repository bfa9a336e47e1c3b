# /// script
# requires-python = "==3.12.*"
# dependencies = ["skrl[jax]==2.1.1", "jax==0.11.2"]
# ///
"""One PPO update of skrl's JAX agent on the CPU: returns, 5 epochs of 4 minibatches.

The memory is filled by skrl's own `act` and `record_transition`, outside the clock,
with random observations, rewards and episode ends.
"""

import os
import tempfile
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from skrl.agents.jax.ppo import PPO, PPO_CFG
from skrl.memories.jax import RandomMemory
from skrl.models.jax import DeterministicMixin, GaussianMixin, Model
from skrl.resources.schedulers.jax import KLAdaptiveLR
from timing import Clock, print_update, update_options

OBS_DIM, ACTION_DIM = 48, 12


class Policy(GaussianMixin, Model):
    """Mean by an MLP, one learned log std per action."""

    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self)

    @nn.compact
    def __call__(self, inputs, role):
        log_std = self.param("log_std", lambda _: jnp.zeros(ACTION_DIM))
        return nn.Dense(ACTION_DIM)(hidden(inputs["observations"])), {
            "log_std": log_std
        }


class Value(DeterministicMixin, Model):
    """Value by an MLP."""

    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)

    @nn.compact
    def __call__(self, inputs, role):
        return nn.Dense(1)(hidden(inputs["observations"])), {}


def hidden(x):
    for width in (256, 128, 64):
        x = nn.elu(nn.Dense(width)(x))
    return x


def main():
    args = update_options().parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        agent = make_agent(args.num_envs, args.num_steps, folder)
        clock = Clock()
        for _ in range(1 + args.repeats):
            fill(agent, rng, args.num_envs, args.num_steps)
            with clock:
                agent.update(timestep=0, timesteps=1)
                jax.block_until_ready(agent.policy.state_dict.params)
                jax.block_until_ready(agent.value.state_dict.params)

    print_update(
        clock, args, library="skrl", version=version("skrl"), jax=jax.__version__
    )


def make_agent(num_envs, num_steps, folder):
    spaces = {
        "observation_space": gymnasium.spaces.Box(-np.inf, np.inf, (OBS_DIM,)),
        "action_space": gymnasium.spaces.Box(-np.inf, np.inf, (ACTION_DIM,)),
    }
    models = {"policy": Policy(**spaces), "value": Value(**spaces)}
    for role, model in models.items():
        model.init_state_dict({"observations": jnp.zeros((1, OBS_DIM))}, role=role)
    config = PPO_CFG(
        rollouts=num_steps,
        learning_epochs=5,
        mini_batches=4,
        discount_factor=0.99,
        gae_lambda=0.95,
        learning_rate=1e-3,
        learning_rate_scheduler=KLAdaptiveLR,
        learning_rate_scheduler_kwargs={"kl_threshold": 0.01},
        grad_norm_clip=1.0,
        ratio_clip=0.2,
        value_clip=0.2,
        entropy_loss_scale=0.01,
        value_loss_scale=1.0,
    )
    config.experiment.directory = folder
    config.experiment.write_interval = 0
    config.experiment.checkpoint_interval = 0
    agent = PPO(
        models=models,
        memory=RandomMemory(memory_size=num_steps, num_envs=num_envs),
        cfg=config,
        **spaces,
    )
    agent.init()
    agent.enable_training_mode(True)
    return agent


def fill(agent, rng, num_envs, num_steps):
    obs = random_obs(rng, num_envs)
    for _ in range(num_steps):
        action, _ = agent.act(obs, None, timestep=0, timesteps=1)
        next_obs = random_obs(rng, num_envs)
        agent.record_transition(
            observations=obs,
            states=None,
            actions=action,
            rewards=jnp.asarray(rng.standard_normal((num_envs, 1), np.float32)),
            next_observations=next_obs,
            next_states=None,
            terminated=jnp.asarray(rng.random((num_envs, 1)) < 0.01, jnp.int8),
            truncated=jnp.zeros((num_envs, 1), jnp.int8),
            infos={},
            timestep=0,
            timesteps=1,
        )
        obs = next_obs


def random_obs(rng, num_envs):
    return jnp.asarray(rng.standard_normal((num_envs, OBS_DIM), np.float32))


if __name__ == "__main__":
    main()
