"""One simulator for several learners, with a toy simulator that needs no torch."""

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from ppo_jax import ModelConfig, PPOConfig, actor_critic, init_run, iterate, make_ppo
from ppo_jax.envs.sharing import share
from ppo_jax.types import Continuous, EnvInfo, Hyperparams, Simulator, TimeStep

N, P, T = 12, 3, 8
M = N // P

# Nearly all the time of these tests is XLA's.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Drift(Simulator):
    """Points on a line, each with its own start; outside of JAX, as a simulator is."""

    is_traceable = True

    def __init__(self, num_envs=N, first=0):
        self.info = EnvInfo(num_envs, Continuous(1), 5, step_dt=0.1)
        self.start = 0.1 * np.arange(first, first + num_envs, dtype=np.float32)
        self.num_steps = 0

    def traceable(self):
        return self

    def jit(self, function, **options):
        return jax.jit(function, **options)

    def errors(self, num_calls=None):
        return nullcontext()

    def drain_log(self):
        return {"steps": float(self.num_steps)}

    def save_config(self, path):
        path.write_text("drift: true\n")

    def close(self):
        self.num_steps = -1

    def reset(self, key):
        shape = jax.ShapeDtypeStruct((self.num_envs, 1), jnp.float32)
        obs = io_callback(self._reset, shape)
        return jnp.zeros((), jnp.int32), {"policy": obs}

    def step(self, env_state, action):
        vector = jax.ShapeDtypeStruct((self.num_envs,), jnp.float32)
        flag = jax.ShapeDtypeStruct((self.num_envs,), jnp.bool_)
        obs = {"policy": jax.ShapeDtypeStruct((self.num_envs, 1), jnp.float32)}
        specs = TimeStep(obs, vector, flag, flag, obs, log={})
        return env_state + 1, io_callback(self._step, specs, env_state, action)

    def randomize_episode_length(self, env_state, key):
        return env_state

    def _reset(self):
        self.x, self.length = self.start.copy(), np.zeros(self.num_envs, int)
        return self.x[:, None]

    def _step(self, env_state, action):
        self.num_steps += 1
        self.x = self.x * np.float32(0.9) + np.asarray(action)[:, 0] * np.float32(0.1)
        self.length += 1
        reward, final_obs = -np.abs(self.x), self.x.copy()[:, None]
        terminated, truncated = np.abs(self.x) > 1, self.length >= 5
        done = terminated | truncated
        self.x = np.where(done, self.start, self.x)
        self.length[done] = 0
        obs = {"policy": self.x[:, None].copy()}
        return TimeStep(
            obs, reward, terminated, truncated, {"policy": final_obs}, log={}
        )


def learner(env):
    model = ModelConfig(hidden_dims=(8,))
    network = actor_critic(env.action_space, model, model)
    return make_ppo(network, PPOConfig(num_learning_epochs=2, num_mini_batches=2))


def hyperparams():
    return Hyperparams(*(jnp.full(P, x) for x in Hyperparams()))._replace(
        learning_rate=jnp.array([1e-3, 3e-3, 1e-2])
    )


def test_all_members_step_the_simulator_together():
    """[P, N / P] in, one call, and what comes out is the whole simulator's, split."""
    whole, shared = Drift(), share(Drift(), P)
    assert isinstance(shared, Simulator)
    assert shared.num_envs == M
    action = jax.random.normal(jax.random.key(0), (N, 1))
    keys = jax.random.split(jax.random.key(1), P)
    state, obs = jax.jit(jax.vmap(shared.reset))(keys)
    state, timestep = jax.jit(jax.vmap(shared.step))(state, action.reshape(P, M, 1))
    expected_state, expected_obs = whole.reset(keys[0])
    _, expected = whole.step(expected_state, action)
    assert state.tolist() == [1] * P
    assert shared.simulator.num_steps == 1
    for ours, theirs in zip(
        jax.tree.leaves((obs, timestep)),
        jax.tree.leaves((expected_obs, expected)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs)


@pytest.mark.slow
def test_a_member_learns_what_it_would_in_a_simulator_of_its_own():
    """Same weights and metrics after two iterations, to rounding."""
    shared = share(Drift(), P)
    ppo, keys = learner(shared), jax.random.split(jax.random.key(0), P)
    runs = jit(jax.vmap(partial(init_run, ppo, shared)))(hyperparams(), keys)
    together = jit(jax.vmap(partial(iterate, ppo, shared, T)))
    for _ in range(2):
        runs, metrics = together(runs, hyperparams())
    assert shared.simulator.num_steps == 2 * T
    env = Drift(M)
    begin = jit(partial(init_run, ppo, env))
    alone = jit(partial(iterate, ppo, env, T))
    for p in range(P):
        env.start = Drift(M, first=p * M).start
        hparams = jax.tree.map(lambda x: x[p], hyperparams())  # noqa: B023
        run = begin(hparams, keys[p])
        for _ in range(2):
            run, values = alone(run, hparams)
        for name, value in values.items():
            np.testing.assert_allclose(
                metrics[name][p], value, 1e-4, 1e-5, err_msg=name
            )
        for ours, theirs in zip(
            jax.tree.leaves(runs.train), jax.tree.leaves(run.train), strict=True
        ):
            np.testing.assert_allclose(ours[p], theirs, 1e-4, 1e-5)


def test_a_member_cannot_step_alone():
    shared = share(Drift(), P)
    with pytest.raises(Exception, match="stepped by all its members at once"):
        jax.block_until_ready(shared.step(jnp.zeros((), jnp.int32), jnp.zeros((M, 1))))
    assert shared.simulator.num_steps == 0


def test_other_numbers_of_members_are_refused():
    with pytest.raises(ValueError, match="num_envs = 12 cannot be split among 5"):
        share(Drift(), 5)
    with pytest.raises(ValueError, match="vmap over 2 members"):
        jax.vmap(share(Drift(), P).reset)(jax.random.split(jax.random.key(0), 2))


def test_what_there_is_one_of_is_the_simulators(tmp_path):
    simulator = Drift()
    shared = share(simulator, P)
    shared.save_config(tmp_path / "env.yaml")
    assert (tmp_path / "env.yaml").read_text() == "drift: true\n"
    assert shared.drain_log() == {"steps": 0.0}
    assert (shared.max_episode_length, shared.step_dt) == (5, 0.1)
    shared.close()
    assert simulator.num_steps == -1
