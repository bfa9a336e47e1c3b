"""The bridge to torch, with toy environments: no simulator is needed."""

import gc
import os
import subprocess
import sys
import traceback
import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridge needs torch")

from ppo_jax.envs import dlpack, drivers  # noqa: E402
from ppo_jax.envs.bridge import BridgedEnv, bridge  # noqa: E402
from ppo_jax.envs.dlpack import prepare_jax, to_jax, to_torch  # noqa: E402
from ppo_jax.envs.programs import SimulatorProgram, WrongCalls  # noqa: E402
from ppo_jax.envs.sharing import share  # noqa: E402
from ppo_jax.envs.torch_env import TorchEnv  # noqa: E402
from ppo_jax.learning.config import PPOConfig  # noqa: E402
from ppo_jax.learning.ppo import jitted, make_ppo  # noqa: E402
from ppo_jax.loops.population import make_population  # noqa: E402
from ppo_jax.loops.rollout import collect, host_scan  # noqa: E402
from ppo_jax.loops.training import init_run, iterate  # noqa: E402
from ppo_jax.policies.actor_critic import actor_critic  # noqa: E402
from ppo_jax.policies.models import ModelConfig  # noqa: E402
from ppo_jax.runs.config import AlgorithmConfig, Config  # noqa: E402
from ppo_jax.runs.metrics import read_table  # noqa: E402
from ppo_jax.runs.runner import run_training  # noqa: E402
from ppo_jax.runs.trainers import evaluate, make_trainer, start  # noqa: E402
from ppo_jax.sweeps.compiling import (  # noqa: E402
    advance_members,
    compile_population,
    start_members,
)
from ppo_jax.types import Continuous, EnvInfo, Hyperparams, TimeStep  # noqa: E402

torch.set_num_threads(1)

N, D, A, T = 16, 6, 2, 12
DRIVERS = ["in_jit", "host"]
# Where all of this file runs; see tests/conftest.py.
DEVICE = "cuda:0" if os.environ["JAX_PLATFORMS"] == "cuda" else "cpu"
SCAN = {"in_jit": jax.lax.scan, "host": host_scan}


class ToyEnv(TorchEnv):
    """Points that drift; episodes last 5 steps, or end beyond 1.5.

    It hands out its own buffers and, before each step, overwrites everything that it
    has ever returned with NaN, True or 255: whoever reads too late notices.
    """

    info = EnvInfo(N, Continuous(A), max_episode_length=5, step_dt=0.1)

    def __init__(self, has_final_obs=True, fail_at=None, spoil=None, device=DEVICE):
        self.device = torch.device(device)
        generator = torch.Generator().manual_seed(0)
        self.mixing = torch.randn(A, D, generator=generator).to(device)
        self.has_final_obs = has_final_obs
        self.fail_at = fail_at  # step that raises
        self.spoil = spoil  # TimeStep -> TimeStep, to be refused
        self.given = []
        self.actions = []
        self.num_steps = 0
        self.closed = False

    def reset(self, seed):
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.x = self._draw()
        self.length = torch.zeros(N, dtype=torch.int32, device=self.device)
        return self._give(self._observe())

    def step(self, action):
        self.num_steps += 1
        if self.num_steps == self.fail_at:
            raise ZeroDivisionError("the simulator died")
        self.actions.append(action)
        if self.device.type == "cuda":
            torch.cuda._sleep(1_000_000)  # about 1 ms: what comes too early is seen
        self._poison()
        self.x = self.x * 0.9 + action @ self.mixing * 0.1
        self.length = self.length + 1
        terminated = self.x[:, 0] > 1.5
        truncated = self.length >= self.max_episode_length
        reward = -self.x.abs().sum(dim=1)
        final_obs = self._observe() if self.has_final_obs else None
        done = terminated | truncated
        self.x = torch.where(done[:, None], self._draw(), self.x)
        self.length = torch.where(done, 0, self.length)
        timestep = TimeStep(
            self._observe(), reward, terminated, truncated, final_obs, log={}
        )
        timestep = self.spoil(timestep) if self.spoil else timestep
        return self._give(timestep)

    def set_episode_length(self, length):
        self.length = length

    def drain_log(self):
        return {"steps": float(self.num_steps)}

    def close(self):
        self.closed = True

    def _draw(self):
        return torch.rand(N, D, generator=self.generator, device=self.device)

    def _observe(self):
        image = (self.x[:, :4].reshape(N, 2, 2) * 100).clamp(0, 255).to(torch.uint8)
        return {"policy": self.x.clone(), "image": image}

    def _give(self, tree):
        self.given += [x for x in jax.tree.leaves(tree) if isinstance(x, torch.Tensor)]
        return tree

    def _poison(self):
        for tensor in self.given:
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))
            elif tensor.dtype == torch.bool:
                tensor.fill_(True)
            else:
                tensor.fill_(255)
        self.given = []


def walk(env, scan, num_steps=T, seed=0):
    """Steps with random actions; returns the final state and all time steps."""
    env_state, obs = env.reset(jax.random.key(seed))
    keys = jax.random.split(jax.random.key(seed + 1), num_steps)

    def body(env_state, key):
        action = jax.random.normal(key, (N, A))
        return env.step(env_state, action)

    env_state, timesteps = scan(body, env_state, keys)
    return obs, env_state, timesteps


def trainer(driver, **kwargs):
    env = bridge(ToyEnv(**kwargs), driver)
    model = ModelConfig(hidden_dims=(8,))
    groups = {"actor": ("policy",), "critic": ("policy",)}
    network = actor_critic(env.action_space, model, model, groups)
    return env, make_ppo(network, PPOConfig(num_learning_epochs=2, num_mini_batches=2))


def assert_equal_trees(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


# -- views and copies


@pytest.mark.parametrize(
    "dtype", [name.removeprefix("torch.") for name in dlpack.DTYPES]
)
def test_views_share_memory_both_ways(dtype):
    tensor = torch.ones(8, 4, dtype=getattr(torch, dtype), device=DEVICE)
    array = to_jax(tensor)
    assert array.unsafe_buffer_pointer() == tensor.data_ptr()
    assert array.dtype == jnp.dtype(dlpack.DTYPES[f"torch.{dtype}"])
    array = jnp.ones((8, 4), array.dtype)
    assert to_torch(array).data_ptr() == array.unsafe_buffer_pointer()


def test_strided_tensor_is_made_contiguous():
    tensor = torch.arange(12.0, device=DEVICE).reshape(3, 4)
    np.testing.assert_array_equal(to_jax(tensor[:, ::2]), tensor[:, ::2].cpu().numpy())
    np.testing.assert_array_equal(to_jax(tensor.T), tensor.T.cpu().numpy())


def test_host_driver_returns_owned_arrays():
    """What a step returned does not change when the simulator reuses its memory."""
    toy = ToyEnv()
    env = bridge(toy, "host")
    env_state, _ = env.reset(jax.random.key(0))
    env_state, timestep = env.step(env_state, jnp.zeros((N, A)))
    given = {tensor.data_ptr() for tensor in toy.given}
    pointers = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(timestep)}
    assert not given & pointers
    before = jax.tree.map(lambda x: np.array(x, copy=True), timestep)
    env.step(env_state, jnp.zeros((N, A)))
    assert_equal_trees(timestep, before)


def test_in_jit_driver_fills_the_buffers_of_xla():
    """The arrays that come back are the memory that the callback wrote to."""
    filled = []
    toy = ToyEnv()
    env = bridge(toy, "in_jit")
    env_state, _ = env.reset(jax.random.key(0))
    copy_ = torch.Tensor.copy_

    def spy(self, source):
        filled.append(self.data_ptr())
        return copy_(self, source)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "copy_", spy)
        _, timestep = jax.block_until_ready(env.step(env_state, jnp.zeros((N, A))))
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(timestep)]
    assert pointers == filled


@pytest.mark.parametrize("driver", DRIVERS)
def test_simulator_may_keep_and_change_its_action(driver):
    toy = ToyEnv()
    env = bridge(toy, driver)
    action = jnp.arange(N * A, dtype=jnp.float32).reshape(N, A)
    env_state, _ = env.reset(jax.random.key(0))
    env_state, _ = env.step(env_state, action)
    kept = toy.actions[0].cpu().clone()
    toy.actions[0].mul_(2)
    env_state, _ = jax.block_until_ready(env.step(env_state, 3 * action))
    np.testing.assert_array_equal(kept, action)
    np.testing.assert_array_equal(toy.actions[0].cpu(), 2 * np.asarray(action))
    np.testing.assert_array_equal(
        action, np.arange(N * A, dtype=np.float32).reshape(N, A)
    )


# -- the two drivers


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("has_final_obs", [True, False])
def test_contract(driver, has_final_obs):
    """Shapes and types are those of the protocol; nothing read is poisoned."""
    env = bridge(ToyEnv(has_final_obs), driver)
    obs, env_state, timesteps = walk(env, SCAN[driver])
    assert int(env_state) == 1 + T
    assert obs["policy"].shape == (N, D)
    assert obs["image"].dtype == jnp.uint8
    assert timesteps.obs["image"].shape == (T, N, 2, 2)
    assert timesteps.reward.shape == (T, N)
    assert timesteps.terminated.dtype == timesteps.truncated.dtype == jnp.bool_
    assert (timesteps.final_obs is not None) == has_final_obs
    assert timesteps.log == {}
    for leaf in jax.tree.leaves((obs, timesteps)):
        assert np.isfinite(np.asarray(leaf, np.float32)).all()
    assert (np.asarray(timesteps.obs["image"]) < 255).all()
    # 12 steps of episodes that last 5, all started together
    truncated = np.asarray(timesteps.truncated).all(axis=1)
    assert np.nonzero(truncated)[0].tolist() == [4, 9]


def test_final_obs_is_the_observation_before_the_reset():
    env = bridge(ToyEnv(), "in_jit")
    _, _, timesteps = walk(env, jax.lax.scan)
    done = np.asarray(timesteps.terminated | timesteps.truncated)
    same = np.asarray(timesteps.final_obs["policy"] == timesteps.obs["policy"])
    assert done.any()
    np.testing.assert_array_equal(same.all(axis=-1), ~done)


def test_reading_an_alias_late_is_noticed():
    """The poison works: an alias that is kept over a step turns to NaN."""
    toy = ToyEnv()
    alias = to_jax(toy.reset(0)["policy"])
    assert jnp.isfinite(alias).all()
    toy.step(torch.zeros(N, A, device=DEVICE))
    if DEVICE != "cpu":
        torch.cuda.synchronize()
    assert jnp.isnan(alias).all()


@jax.jit
def read_late(env_state, timestep, w):
    """Reads what it was lent some ms after it was dispatched."""
    y, _ = jax.lax.scan(lambda y, _: (jnp.tanh(y @ w), None), w, length=40)
    copies = jax.tree.map(jnp.copy, (env_state, timestep))
    env_state, timestep = jax.lax.optimization_barrier((*copies, y))[:2]
    reward = timestep.reward * 1.0 + 0.0 * y.sum()
    return env_state, jnp.zeros((N, A)) + env_state, (timestep.obs, reward)


def require_late_reads(takes_the_next_action, device=DEVICE):
    """What a program is lent is read before the next step writes there."""
    w, action = jnp.eye(128), jnp.zeros((N, A))
    env = bridge(ToyEnv(device=device), "host")
    env_state, _ = env.reset(jax.random.key(0))
    actions, read = [], []
    for _ in range(6):
        actions.append(action)
        env_state, following, rest = env.step_and(read_late, env_state, action, w)
        if takes_the_next_action:
            action = following
        read.append(rest)
    assert int(env_state) == 7
    env = bridge(ToyEnv(device=device), "host")
    env_state, _ = env.reset(jax.random.key(0))
    for action, (obs, reward) in zip(actions, read, strict=True):
        env_state, timestep = jax.block_until_ready(env.step(env_state, action))
        assert_equal_trees((obs, reward), (timestep.obs, timestep.reward))


@pytest.mark.parametrize("takes_the_next_action", [True, False])
def test_what_is_lent_is_read_before_the_next_step_writes_there(takes_the_next_action):
    require_late_reads(takes_the_next_action)


def test_a_step_from_the_host_exports_an_action_and_imports_nothing(monkeypatch):
    """The memory is seen once; on a GPU there is one import more, of a number."""
    env, ppo = trainer("host")
    ppo, hparams, key = jitted(ppo), Hyperparams(), jax.random.key(0)
    run = init_run(ppo, env, hparams, key)
    gather = partial(collect, ppo, env, T, scan=host_scan)
    run, _, _ = gather(run, key)
    counts = {"in": 0, "out": 0}

    def counted(name, function):
        def call(x):
            counts[name] += 1
            return function(x)

        return call

    monkeypatch.setattr(drivers, "to_jax", counted("in", to_jax))
    monkeypatch.setattr(drivers, "to_torch", counted("out", to_torch))
    run, rollout, _ = gather(run, key)
    imports = 0 if DEVICE == "cpu" else T
    assert counts == {"in": imports, "out": T + 1}, (
        "the first waits for what went before"
    )
    assert np.isfinite(np.asarray(rollout.steps.obs["policy"])).all()


def test_the_host_driver_can_be_debugged_without_jit():
    env, ppo = trainer("host")
    key = jax.random.key(0)
    run = init_run(ppo, env, Hyperparams(), key)
    _, wanted, _ = collect(ppo, env, 3, run, key, scan=host_scan)
    again, _ = trainer("host")
    run = init_run(ppo, again, Hyperparams(), key)
    with jax.disable_jit():
        _, rollout, _ = collect(ppo, again, 3, run, key, scan=host_scan)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, rollout, wanted)


def test_drivers_agree_bit_for_bit():
    walks = {}
    for driver in DRIVERS:
        toy = ToyEnv()
        walks[driver] = walk(bridge(toy, driver), SCAN[driver])
        assert toy.num_steps == T
    assert_equal_trees(walks["in_jit"], walks["host"])


def test_walk_is_the_same_inside_one_program():
    env = bridge(ToyEnv(), "in_jit")
    jitted = jax.jit(partial(walk, env, jax.lax.scan))()
    eager = walk(bridge(ToyEnv(), "host"), host_scan)
    assert_equal_trees(jitted, eager)


def test_drivers_collect_the_same_rollout():
    """Acting is another program in each driver; only its rounding may differ."""
    rollouts = {}
    for driver in DRIVERS:
        env, ppo = trainer(driver)
        start = partial(init_run, ppo, env, Hyperparams())
        run = (jax.jit(start) if driver == "in_jit" else start)(jax.random.key(3))
        gather = partial(collect, ppo, env, T, scan=SCAN[driver])
        gather = jax.jit(gather) if driver == "in_jit" else gather
        rollouts[driver] = gather(run, jax.random.key(4))
    left, right = (rollouts[driver][1] for driver in DRIVERS)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), left, right)


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_step_is_taken_once(driver):
    """Several iterations of training: the simulator is stepped T times in each."""
    env, ppo = trainer(driver)
    hparams = Hyperparams()
    start = partial(init_run, ppo, env, hparams)
    step = partial(iterate, ppo, env, T, hparams=hparams, scan=SCAN[driver])
    if driver == "in_jit":
        start, step = jax.jit(start), jax.jit(step, donate_argnums=0)
    run = start(jax.random.key(0))
    for _ in range(3):
        run, metrics = step(run)
    values = jax.device_get(metrics)
    assert env.torch_env.num_steps == 3 * T
    assert int(run.env_state) == 1 + 1 + 3 * T  # reset, episode lengths, steps
    assert all(np.isfinite(values[name]).all() for name in values)
    assert all((values[n] == -1).all() for n in values if n.startswith("nonfinite/"))


def test_unused_result_does_not_drop_the_step():
    env = bridge(ToyEnv(), "in_jit")

    @jax.jit
    def two_steps(env_state):
        env_state, _ = env.step(env_state, jnp.zeros((N, A)))
        env_state, _ = env.step(env_state, jnp.zeros((N, A)))
        return jnp.zeros(())

    env_state, _ = env.reset(jax.random.key(0))
    two_steps(env_state).block_until_ready()
    assert env.torch_env.num_steps == 2


@pytest.mark.parametrize("driver", DRIVERS)
def test_seed_and_episode_lengths_come_from_the_key(driver):
    env = bridge(ToyEnv(), driver)
    env_state, obs = env.reset(jax.random.key(7))
    env_state = env.randomize_episode_length(env_state, jax.random.key(8))
    jax.block_until_ready(env_state)
    length = env.torch_env.length.cpu().numpy()
    assert length.dtype == np.int32
    assert length.min() >= 0 and length.max() < 5 and len(set(length)) > 1
    _, again = env.reset(jax.random.key(7))
    _, other = env.reset(jax.random.key(9))
    assert_equal_trees(again, obs)
    assert (np.asarray(other["policy"]) != np.asarray(obs["policy"])).any()


@pytest.mark.parametrize("driver", DRIVERS)
def test_numbers_of_the_simulator_are_passed_on(driver):
    env = bridge(ToyEnv(), driver)
    assert env.num_envs == N
    assert env.action_space == Continuous(A)
    assert env.max_episode_length == 5
    assert env.step_dt == 0.1
    assert env.drain_log() == {"steps": 0.0, "Perf/simulation_time": 0.0}
    env.close()
    assert env.torch_env.closed


def test_host_driver_lets_go_of_old_steps():
    env = bridge(ToyEnv(), "host")
    walk(env, host_scan)
    assert len(env.link.kept) == 2
    env.close()
    gc.collect()
    assert len(env.link.kept) == 0


# -- refusals


def spoiled(**fields):
    """Returns a change of a TimeStep; a value is a function of the old field."""
    return lambda timestep: timestep._replace(
        **{name: change(getattr(timestep, name)) for name, change in fields.items()}
    )


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (spoiled(reward=lambda x: x.double()), TypeError, "reward is torch.float64,"),
        (
            spoiled(obs=lambda x: x | {"policy": x["policy"].long()}),
            TypeError,
            r"obs\['policy'\] is torch.int64, which JAX would convert",
        ),
        (
            spoiled(obs=lambda x: x | {"policy": x["policy"].half()}),
            TypeError,
            r"obs\['policy'\] is float16, but float32 was expected",
        ),
        (spoiled(reward=lambda x: x.int()), TypeError, "reward is int32, but float32"),
        (
            spoiled(reward=lambda x: x[:, None]),
            ValueError,
            r"reward has shape \(16, 1\), not \(16,\)",
        ),
        (spoiled(reward=lambda x: 0.0), TypeError, "reward is float, which JAX"),
        (
            spoiled(obs=lambda x: {"policy": x["policy"]}),
            ValueError,
            r"the simulator returned .*; at first it was .*obs\['image'\]",
        ),
        (spoiled(final_obs=lambda x: None), ValueError, "the simulator returned"),
    ],
)
def test_wrong_tensors_are_refused_by_name(driver, spoil, error, sentence):
    env = bridge(ToyEnv(spoil=spoil), driver)
    env_state, _ = env.reset(jax.random.key(0))
    with pytest.raises(error, match=sentence), env.errors():
        jax.block_until_ready(env.step(env_state, jnp.zeros((N, A))))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("flag", [torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize("reward", [torch.float16, torch.bfloat16, torch.int16])
def test_rewards_and_flags_are_cast_where_that_is_exact(driver, flag, reward):
    seen = []

    def spoil(timestep):
        seen.append((100 * timestep.reward).to(reward))
        return timestep._replace(
            reward=seen[-1].clone(),
            terminated=timestep.terminated.to(flag),
            truncated=timestep.truncated.to(flag),
        )

    _, _, cast = walk(bridge(ToyEnv(spoil=spoil), driver), SCAN[driver])
    _, _, plain = walk(bridge(ToyEnv(), driver), SCAN[driver])
    assert plain.truncated.any() and cast.reward.dtype == jnp.float32
    np.testing.assert_array_equal(cast.reward, torch.stack(seen).float().cpu().numpy())
    assert_equal_trees(cast._replace(reward=()), plain._replace(reward=()))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.complex64])
def test_wrong_observations_are_refused_at_once(dtype):
    toy = ToyEnv()
    toy.reset = lambda seed: {"policy": torch.zeros(N, D, dtype=dtype, device=DEVICE)}
    with pytest.raises(TypeError, match=rf"obs\['policy'\] is {dtype}"):
        bridge(toy)


def test_gradient_of_the_simulator_is_cut():
    """A tensor that wants a gradient is no obstacle; it is detached."""
    spoil = spoiled(reward=lambda x: x.clone().requires_grad_())
    walk(bridge(ToyEnv(spoil=spoil), "host"), host_scan)


def test_host_driver_refuses_to_be_traced():
    env = bridge(ToyEnv(), "host")
    env_state, _ = env.reset(jax.random.key(0))
    with pytest.raises(TypeError, match="driver = 'host' cannot step inside jit"):
        jax.jit(env.step)(env_state, jnp.zeros((N, A)))


def test_unknown_driver_is_refused():
    with pytest.raises(ValueError, match="driver = 'io' is not one of in_jit, host"):
        bridge(ToyEnv(), "io")


def test_other_device_is_refused():
    toy = ToyEnv()
    other = "cpu" if DEVICE == "cuda:0" else "cuda:0"
    toy.device = torch.device(other)
    with pytest.raises(ValueError, match=f"simulator is on {other}, but JAX is on"):
        bridge(toy)


@pytest.mark.skipif(DEVICE != "cpu", reason="would make every step wait for the GPU")
@pytest.mark.parametrize("driver", DRIVERS)
def test_going_back_is_refused(driver):
    """A simulator has one present: an older state cannot be stepped again."""
    env = bridge(ToyEnv(), driver)
    first_state, _ = env.reset(jax.random.key(0))
    action = jnp.zeros((N, A))
    jax.block_until_ready(env.step(first_state, action))
    sentence = "env_state is that of call 1, but the simulator has done 2"
    with pytest.raises(ValueError, match=sentence), env.errors():
        jax.block_until_ready(env.step(first_state, action))


# -- every call once


def test_a_jitted_rollout_steps_once_and_says_otherwise():
    env = bridge(ToyEnv(), "in_jit")
    program = env.jit(partial(walk, env, jax.lax.scan))
    for _ in range(2):
        with env.errors(num_calls=1 + T):
            jax.block_until_ready(program())
    sentence = f"the simulator was called {1 + T} times where {T} calls were asked for"
    with pytest.raises(WrongCalls, match=sentence), env.errors(num_calls=T):
        jax.block_until_ready(program())


def test_what_XLA_clones_does_not_run(monkeypatch):
    """A program whose simulator is stepped twice per step, as it was on CUDA."""
    env = bridge(ToyEnv(), "in_jit")

    def program(step, env_state, actions):
        return jax.lax.scan(step, env_state, actions)

    def twice(env_state, action):
        env.step(env_state, action)
        return env.step(env_state, action)

    env_state, _ = env.reset(jax.random.key(0))
    arguments = env_state, jnp.zeros((T, N, A))
    cloned = jax.jit(partial(program, twice)).lower(*arguments).compile()
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda self: cloned)
    with pytest.raises(WrongCalls, match=r"compiled 2 calls .* has 1, .*--bridge host"):
        env.jit(partial(program, env.step))(*arguments)
    assert env.torch_env.num_steps == 0


def tiny_config():
    model = ModelConfig(hidden_dims=(4,))
    return Config(
        task="Toy",
        num_envs=N,
        num_steps_per_env=4,
        max_iterations=2,
        actor=model,
        critic=model,
        obs_groups=dict.fromkeys(("actor", "critic"), ("policy",)),
        algorithm=AlgorithmConfig(num_learning_epochs=1, num_mini_batches=1),
        logger="none",
    )


class Twice(BridgedEnv):
    """Steps the simulator once more than asked, as the program has it."""

    def step(self, env_state, action):
        env_state, _ = super().step(env_state, action)
        return super().step(env_state, action)

    def step_and(self, follow, env_state, action, *args):
        env_state, _ = super().step(env_state, action)
        return super().step_and(follow, env_state, action, *args)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_run_whose_simulator_is_stepped_twice_stops(driver, tmp_path):
    once, config = bridge(ToyEnv(), driver), tiny_config()
    env = Twice(once.info, once.link, once.driver)
    sentence = "the simulator was called 8 times where 4 calls were asked for"
    with pytest.raises(WrongCalls, match=sentence):
        run_training(make_trainer(config, env), tmp_path / "twice")
    assert not list((tmp_path / "twice").glob("checkpoints/*"))
    assert once.torch_env.num_steps == 8, "the second iteration is not begun"
    state = start(make_trainer(config, once)).train
    with pytest.raises(WrongCalls, match="called 11 times where 6 calls"):
        evaluate(make_trainer(config, env), state, jax.random.key(0))


@pytest.mark.parametrize("driver", DRIVERS)
def test_collecting_and_learning_are_told_apart_where_they_can_be(driver, tmp_path):
    """rsl_rl's curves; inside one program there are no two times."""
    env = bridge(ToyEnv(), driver)
    run_training(make_trainer(tiny_config(), env), tmp_path)
    table = read_table(tmp_path)
    assert (
        ("collection_time" in table) == ("learning_time" in table) == (driver == "host")
    )
    if driver == "host":
        both = np.add(table["collection_time"], table["learning_time"])
        np.testing.assert_allclose(both, table["iteration_time"], rtol=1e-6)
        simulated = np.asarray(table["log/Perf/simulation_time"])
        assert (np.asarray(table["collection_time"]) > simulated).all()
        assert min(table["learning_time"]) > 0.0


def test_programs_of_a_population_are_compiled_as_a_simulator_needs_it():
    env, ppo = trainer("in_jit")
    functions = make_population(ppo, share(env, 2), T, num_iterations=1)
    assert isinstance(functions.init, SimulatorProgram)
    assert isinstance(functions.advance, SimulatorProgram)


# -- exceptions


@pytest.mark.parametrize("driver", DRIVERS)
def test_exception_of_the_simulator_keeps_its_traceback(driver):
    env = bridge(ToyEnv(fail_at=3), driver)
    program = partial(walk, env, SCAN[driver])
    program = jax.jit(program) if driver == "in_jit" else program
    with pytest.raises(ZeroDivisionError, match="died") as caught, env.errors():
        jax.block_until_ready(program())
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "step"  # of ToyEnv
    assert env.torch_env.num_steps == 3
    assert env.link.error is None


def test_other_errors_pass_through():
    env = bridge(ToyEnv(), "in_jit")
    with pytest.raises(KeyError), env.errors():
        raise KeyError("mine")
    with pytest.raises(jax.errors.JaxRuntimeError), env.errors():
        raise jax.errors.JaxRuntimeError("of XLA")


# -- memory


@pytest.fixture
def no_settings(monkeypatch):
    for name in dlpack.MEMORY_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_memory_is_shared_before_jax_starts(no_settings):
    no_settings.setattr(dlpack, "_backend_has_started", lambda: False)
    prepare_jax("cuda:0")
    assert dlpack.os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_too_late_is_said(no_settings):
    no_settings.setattr(dlpack, "_backend_has_started", lambda: True)
    with pytest.warns(RuntimeWarning, match="XLA_PYTHON_CLIENT_PREALLOCATE=false"):
        prepare_jax("cuda:0")


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_settings_of_the_user_stay(no_settings, device):
    if device == "cuda:0":
        no_settings.setenv("XLA_CLIENT_MEM_FRACTION", ".2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare_jax(device)
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in dlpack.os.environ


def test_jax_knows_whether_it_has_started():
    """The one private name that is used still answers."""
    jnp.zeros(1).block_until_ready()
    assert dlpack._backend_has_started()


# -- a GPU


def compare_drivers(device):
    """Runs both drivers on a device; for a process that has chosen its platform."""
    prepare_jax(device)
    walks = {}
    for driver in DRIVERS:
        env = bridge(ToyEnv(device=device), driver)
        program = partial(walk, env, SCAN[driver], num_steps=200)
        program = jax.jit(program) if driver == "in_jit" else program
        with env.errors():
            walks[driver] = jax.device_get(program())
    assert_equal_trees(walks["in_jit"], walks["host"])
    for leaf in jax.tree.leaves(walks["host"]):
        assert np.isfinite(np.asarray(leaf, np.float32)).all()
    for takes_the_next_action in (True, False):
        require_late_reads(takes_the_next_action, device)
    print(f"{jax.default_backend()}: both drivers agree")


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)]
)
def test_drivers_agree_in_a_process_of_their_own(device):
    """On a GPU every step stalls for a while, so that a missing order shows."""
    if device != "cpu" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    program = f"from tests.envs.test_bridge import *; compare_drivers({device!r})"
    platform = device.partition(":")[0]
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"JAX_PLATFORMS": platform},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "both drivers agree" in done.stdout, done.stderr[-2000:]


# --- one simulator for several learners


@pytest.mark.parametrize("has_final_obs", [True, False])
def test_learners_that_share_a_simulator_learn_the_same_on_both_drivers(has_final_obs):
    """Four of them: one simulator step a step; on a CPU equal to the last bit."""
    ended = {}
    for driver in DRIVERS:
        env, ppo = trainer(driver, has_final_obs=has_final_obs)
        functions = make_population(ppo, share(env, 4), T, num_iterations=2)
        compiled = compile_population(functions, 4)
        keys = list(jax.random.split(jax.random.key(0), 4))
        rates = np.array([1e-4, 1e-3, 3e-3, 1e-2], np.float32)
        hparams = Hyperparams(*(np.full(4, x, np.float32) for x in Hyperparams()))
        hparams = hparams._replace(learning_rate=rates)
        with env.errors():
            runs = start_members(compiled, keys, hparams)
            ended[driver] = advance_members(compiled, runs, hparams, 4)
        assert env.torch_env.num_steps == 4 * T
    assert ended["in_jit"].metrics["kl"].shape == (4, 4)
    # On a GPU the update alone has other matrix products than as part of an iteration.
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4)  # in TF32
    same = assert_equal_trees if DEVICE == "cpu" else partial(jax.tree.map, close)
    same(ended["in_jit"].runs.train, ended["host"].runs.train)
    same(ended["in_jit"].metrics, ended["host"].metrics)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_shared_simulators_own_exception_comes_out(driver):
    env, ppo = trainer(driver, fail_at=3)
    functions = make_population(ppo, share(env, 2), T, num_iterations=1)
    compiled = compile_population(functions, 2)
    hparams = Hyperparams(*(np.full(2, x, np.float32) for x in Hyperparams()))
    keys = list(jax.random.split(jax.random.key(0), 2))
    with pytest.raises(ZeroDivisionError, match="the simulator died"), env.errors():
        runs = start_members(compiled, keys, hparams)
        advance_members(compiled, runs, hparams, 1)
