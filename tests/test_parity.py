"""Three iterations of rsl_rl, replayed through the product's own functions.

Each fixture holds rsl_rl's initial weights, what its environment returned, the actions
it drew and the permutations it used. What rsl_rl computed from these must come out.
Fixtures are read from $PPO_JAX_GOLDEN_DIR, by default tests/data/golden.
"""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import careless
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax import Continuous, Rollout, Transition, compiling, make_ppo
from ppo_jax.learning.distillation import make_distillation
from ppo_jax.learning.gradient_steps import optimize
from ppo_jax.learning.losses import ppo_loss
from ppo_jax.learning.minibatches import draw_environments
from ppo_jax.learning.rnd import make_rnd
from ppo_jax.learning.symmetry import (
    mirrored_copies,
    symmetric_loss,
    symmetry_of,
)
from ppo_jax.learning.targets import learning_batch
from ppo_jax.policies.memory import forget
from ppo_jax.rsl_rl import (
    UnsupportedFeature,
    config_from_rsl_rl,
    params_from_rsl_rl,
    params_to_rsl_rl,
)
from ppo_jax.rsl_rl.weights import policy_from_rsl_rl, policy_to_rsl_rl
from ppo_jax.runs.config import hyperparams, parts_of
from ppo_jax.runs.students import networks_of

GOLDEN = Path(
    os.environ.get("PPO_JAX_GOLDEN_DIR", Path(__file__).parent / "data" / "golden")
)
FIXTURES = sorted(path.stem for path in GOLDEN.glob("*.json"))
SUPPORTED = {
    "ppo_default",
    "ppo_remainder",
    "ppo_rmsprop",
    "ppo_hetero_scalar",
    "ppo_beta",
    "ppo_rnd",
    "ppo_symmetry_aug",
    "ppo_symmetry_mirror_only",
    "ppo_lstm1",
    "ppo_gru2_actor_mlp_critic",
    "ppo_cnn_separate",
    "ppo_cnn_shared_duplicate_update",
    "distill_mlp",
}
# One of each kind is compiled as for a user, the others in a quarter of the time.
AS_FOR_A_USER = {"ppo_default", "ppo_lstm1", "ppo_cnn_separate", "distill_mlp"}
FIXTURES.sort(key=lambda name: name in AS_FOR_A_USER)  # few changes
NEGATION = "ppo_jax.envs.cartpole:mirrored"  # what rsl_rl was recorded with


@pytest.fixture(autouse=True)
def optimisation_of_one(request):
    name = request.node.name.partition("[")[2].rstrip("]")
    on_cpu = os.environ["JAX_PLATFORMS"] == "cpu"
    careless.switch(on_cpu and name not in AS_FOR_A_USER)


def program(function, **options):
    """One that is compiled as an iteration of a run is."""
    return compiling.jit(function, compiler_options=compiling.whole(), **options)


def under(arrays, prefix):
    return {
        k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)
    }


class Replay:
    """One fixture, its configuration and the functions that it is fed through."""

    def __init__(self, name, folder=GOLDEN):
        spec = json.loads((folder / f"{name}.json").read_text())
        symmetry = spec["cfg"]["algorithm"].get("symmetry_cfg")
        if symmetry:
            symmetry["data_augmentation_func"] = NEGATION
        self.arrays = dict(np.load(folder / f"{name}.npz"))
        self.num_iterations = len(spec["losses"])
        self.losses = spec["losses"]
        self.config = config_from_rsl_rl(
            spec["cfg"], num_envs=spec["num_envs"], max_iterations=self.num_iterations
        )
        # rsl_rl moves what actor and critic share twice; here that is a switch.
        algorithm = replace(self.config.algorithm, shared_encoder_updates="twice")
        config = self.config = replace(self.config, algorithm=algorithm)
        self.network, _, self.hparams = parts_of(
            config, Continuous(spec["num_actions"])
        )
        rnd_cfg, self.rnd = config.algorithm.rnd_cfg, None
        if rnd_cfg:
            self.rnd = make_rnd(rnd_cfg, spec["step_dt"], config.obs_groups)
        self.ppo = make_ppo(self.network, config.algorithm, rnd=self.rnd)
        loss_fn = partial(
            ppo_loss, use_clipped_value_loss=config.algorithm.use_clipped_value_loss
        )
        self.symmetry = None
        if config.algorithm.symmetry_cfg:
            self.symmetry = symmetry_of(config.algorithm.symmetry_cfg)
            loss_fn = partial(symmetric_loss, self.symmetry, loss_fn)
        self.act = program(self.distributions)
        self.learning_batch = program(
            partial(learning_batch, self.network, config.algorithm)
        )
        self.optimize = program(
            partial(optimize, self.network, config.algorithm, loss_fn)
        )

    def initial_state(self):
        first_obs = {k: v[0] for k, v in under(self.arrays, "it0/obs/").items()}
        params, stats = params_from_rsl_rl(
            self.config,
            under(self.arrays, "init/actor/"),
            under(self.arrays, "init/critic/"),
        )

        def start():  # in one program, what is replaced is not drawn
            state = self.ppo.init(jax.random.key(0), first_obs, self.hparams)
            assert jax.tree.structure(params) == jax.tree.structure(state.params)
            if self.rnd:
                state = state._replace(rnd=rnd_of(self, state.rnd))
            return state._replace(params=params, obs_stats=stats)

        return jax.jit(start)()

    def distributions(self, state, obs, done, carry):
        """Those that acted, [T, N], and the memory after the rollout."""

        def step(carry, obs_and_done):
            obs, done = obs_and_done
            output = self.ppo.act(state, obs, jax.random.key(0), carry)
            return forget(output.carry, done), output.distribution

        carry, distributions = jax.lax.scan(step, carry, (obs, done))
        return distributions, carry

    def permutations(self, recorded):
        """The recorded ones; sequences come in the order of the environments."""
        if "permutation" in recorded:
            return jnp.asarray(recorded["permutation"])[None]
        num_envs = recorded["dones"].shape[1]
        return draw_environments(self.config.algorithm, num_envs, jax.random.key(0))

    def rollout(self, state, recorded, carry):
        obs = under(recorded, "obs/")
        done, time_outs = recorded["dones"].astype(bool), recorded["time_outs"]
        distribution, after = self.act(state, obs, done, carry)
        steps = Transition(
            obs=obs,
            action=recorded["actions"],
            log_prob=distribution.log_prob(recorded["actions"]),
            distribution=distribution,
            reward=recorded["rewards_env"],
            terminated=jnp.asarray(done & ~time_outs),
            truncated=jnp.asarray(time_outs),
            final_value=(),
        )
        return Rollout(steps, under(recorded, "last_obs/"), first_carry=carry), after


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXTURES)
def test_three_iterations_of_rsl_rl_come_out(name):
    try:
        if "student" in json.loads((GOLDEN / f"{name}.json").read_text())["cfg"]:
            compare_distillation(DistillationReplay(name))
            return
        replay = Replay(name)
    except UnsupportedFeature as error:
        assert name not in SUPPORTED
        pytest.skip(f"needs {error.feature}")
    compare(replay)


@pytest.mark.slow
def test_a_fixture_without_kl_is_compared_in_all_else(tmp_path):
    """rsl_rl computes the KL for the adaptive schedule only."""
    arrays = dict(np.load(GOLDEN / "ppo_default.npz"))
    kept = {k: x for k, x in arrays.items() if not k.endswith("/kl_per_minibatch")}
    assert len(kept) < len(arrays)
    (tmp_path / "fixed.json").write_bytes((GOLDEN / "ppo_default.json").read_bytes())
    np.savez(tmp_path / "fixed.npz", **kept)
    compare(Replay("fixed", tmp_path))
    kept["it0/gradnorm_actor"] = 1.1 * kept["it0/gradnorm_actor"]
    np.savez(tmp_path / "fixed.npz", **kept)
    with pytest.raises(AssertionError, match="gradnorm_actor"):
        compare(Replay("fixed", tmp_path))


# what a gradient step reports: what a fixture calls it, and how near it has to be
STEPS: dict[str, tuple[str, Any]] = {
    "kl": ("kl_per_minibatch", {"rtol": 1e-5, "atol": 5e-6}),
    "learning_rate": ("lr_per_minibatch", {"rtol": 1e-6}),
    "grad_norm_actor": ("gradnorm_actor", {"rtol": 1e-4, "atol": 5e-6}),
    "grad_norm_critic": ("gradnorm_critic", {"rtol": 1e-4, "atol": 5e-6}),
}
NOT_IN_EVERY_FIXTURE = {"kl_per_minibatch"}


def compare(replay):
    """Replays a fixture, and compares with everything that it holds."""
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=5e-6)
    state = replay.initial_state()
    first_obs = {k: v[0] for k, v in under(replay.arrays, "it0/obs/").items()}
    carry = replay.ppo.initial_carry(first_obs)
    sums = replay.rnd.start(under(replay.arrays, "it0/last_obs/")) if replay.rnd else ()
    for iteration in range(replay.num_iterations):
        recorded = under(replay.arrays, f"it{iteration}/")
        rollout, carry = replay.rollout(state, recorded, carry)
        close(rollout.steps.log_prob, recorded["stored_actions_log_prob"])
        for i, parameter in enumerate(rollout.steps.distribution[:2]):
            close(parameter, recorded[f"stored_dist_param{i}"])

        if replay.rnd:
            rewards_env = rollout.steps.reward
            sums, rollout, _ = program(replay.rnd.reward)(state.rnd, sums, rollout)
            close(rollout.steps.reward - rewards_env, recorded["intrinsic"])
        batch, _ = replay.learning_batch(state, replay.hparams, rollout)
        close(batch.value, recorded["stored_values"])
        close(batch.value_target, recorded["stored_returns"])
        close(batch.advantage, recorded["stored_advantages"])

        if replay.symmetry:
            copies = mirrored_copies(
                replay.symmetry, replay.network, state, rollout.steps
            )
            batch = batch._replace(copies=copies)
        permutations = replay.permutations(recorded)
        state, history = replay.optimize(state, replay.hparams, batch, permutations)
        assert {name for name, _ in STEPS.values()} - recorded.keys() <= (
            NOT_IN_EVERY_FIXTURE
        )
        for ours, (theirs, near) in STEPS.items():
            if theirs in recorded:
                np.testing.assert_allclose(
                    history[ours], recorded[theirs], **near, err_msg=theirs
                )
        losses = replay.losses[iteration]
        close(history["value_loss"].mean(), losses["value"])
        close(history["surrogate_loss"].mean(), losses["surrogate"])
        close(history["entropy"].mean(), losses["entropy"])
        if replay.symmetry:
            close(history["symmetry_loss"].mean(), losses["symmetry"])

        if replay.rnd:
            algorithm = replay.config.algorithm
            orders = jnp.tile(permutations, (algorithm.num_learning_epochs, 1))
            learned, rnd_losses = program(replay.rnd.learn, static_argnums=3)(
                state.rnd, rollout.steps.obs, orders, algorithm.num_mini_batches
            )
            close(rnd_losses.mean(), losses["rnd"])
            state = state._replace(rnd=learned)
            assert_same_rnd(learned, sums, under(recorded, "rnd_after/"))
        stats = replay.network.update_stats(state.obs_stats, rollout.steps.obs)
        state = state._replace(obs_stats=stats)
        actor, critic = params_to_rsl_rl(replay.config, state.params, state.obs_stats)
        assert_same_weights(actor, under(recorded, "actor_after/"))
        assert_same_weights(critic, under(recorded, "critic_after/"))


class DistillationReplay:
    """One fixture of a student and a teacher, fed through the functions of ours."""

    def __init__(self, name, folder=GOLDEN):
        spec = json.loads((folder / f"{name}.json").read_text())
        self.losses, self.num_envs = spec["losses"], spec["num_envs"]
        self.arrays = dict(np.load(folder / f"{name}.npz"))
        self.config = config_from_rsl_rl(spec["cfg"], num_envs=spec["num_envs"])
        algorithm = replace(self.config.algorithm, rsl_rl_memory=True)
        self.hparams = hyperparams(algorithm)
        self.first_obs = {k: v[0] for k, v in under(self.arrays, "it0/obs/").items()}
        networks = networks_of(
            self.config, Continuous(spec["num_actions"]), self.first_obs
        )
        self.distillation = make_distillation(*networks, algorithm)
        self.act = program(self.outputs)

    def initial_state(self):
        def start():  # in one program, what is replaced is not drawn
            state = self.distillation.init(
                jax.random.key(0), self.first_obs, self.hparams
            )
            params, stats = {}, {}
            for name in ("student", "teacher"):
                params[name], stats[name] = policy_from_rsl_rl(
                    self.config, name, under(self.arrays, f"init/{name}/")
                )
            assert jax.tree.structure(params) == jax.tree.structure(state.params)
            return state._replace(params=params, obs_stats=stats)

        return jax.jit(start)()

    def outputs(self, state, obs, done, carry):
        """What was drawn from and what the teacher did, [T, N]; the memory after it."""

        def step(carry, obs_and_done):
            obs, done = obs_and_done
            output = self.distillation.act(state, obs, jax.random.key(0), carry)
            return forget(output.carry, done), (output.distribution, output.target)

        return jax.lax.scan(step, carry, (obs, done))

    def rollout(self, state, recorded, carry):
        obs, done = under(recorded, "obs/"), recorded["dones"].astype(bool)
        after, (distribution, target) = self.act(state, obs, done, carry)
        steps = Transition(
            obs=obs,
            action=recorded["actions"],
            log_prob=distribution.log_prob(recorded["actions"]),
            distribution=distribution,
            reward=jnp.zeros(done.shape),
            terminated=jnp.asarray(done),
            truncated=jnp.zeros_like(done),
            final_value=(),
            target=target,
        )
        last_obs = {name: x[-1] for name, x in obs.items()}  # gives N, and no more
        return Rollout(steps, last_obs, first_carry=carry), after


def compare_distillation(replay):
    """Replays a fixture, and compares with everything that it holds."""
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=5e-6)
    state, distillation = replay.initial_state(), replay.distillation
    carry = distillation.initial_carry(replay.first_obs)
    update = program(distillation.update)
    update_with_memory = distillation.update_with_memory
    for iteration, losses in enumerate(replay.losses):
        recorded = under(replay.arrays, f"it{iteration}/")
        rollout, carry = replay.rollout(state, recorded, carry)
        close(rollout.steps.target, recorded["privileged_actions"])
        arguments = state, replay.hparams, rollout, jax.random.key(0)
        if update_with_memory:
            state, carry, metrics = program(update_with_memory)(*arguments)
        else:
            state, metrics = update(*arguments)
        close(metrics["behavior_loss"], losses["behavior"])
        written = policy_to_rsl_rl(
            replay.config,
            "student",
            state.params["student"],
            state.obs_stats["student"],
        )
        assert_same_weights(written, under(recorded, "student_after/"))


def layers_of(state_dict, name):
    """Weights of a network of RND as rsl_rl calls them, in our form."""
    layers = [
        {
            "kernel": jnp.asarray(state_dict[f"{name}.{2 * i}.weight"].T),
            "bias": jnp.asarray(state_dict[f"{name}.{2 * i}.bias"]),
        }
        for i in range(sum(k.startswith(f"{name}.") for k in state_dict) // 2)
    ]
    hidden = {f"layer_{i}": layer for i, layer in enumerate(layers[:-1])}
    return {"mlp": hidden, "head": layers[-1]}


def rnd_of(replay, state):
    first = under(replay.arrays, "init/rnd/")
    read = {name: layers_of(first, name) for name in ("predictor", "target")}
    assert jax.tree.structure(read["target"]) == jax.tree.structure(state.target)
    return state._replace(**read)


def assert_same_rnd(state, sums, theirs):
    for name, ours in (("predictor", state.predictor), ("target", state.target)):
        for ours_leaf, leaf in zip(
            jax.tree.leaves(ours), jax.tree.leaves(layers_of(theirs, name)), strict=True
        ):
            np.testing.assert_allclose(ours_leaf, leaf, rtol=0, atol=2e-6)
    for name, stats in (
        ("state_normalizer.", state.obs_stats),
        ("reward_normalizer.emp_norm.", sums.stats),
    ):
        if f"{name}_mean" in theirs:
            mean, var = (theirs[f"{name}{x}"].ravel() for x in ("_mean", "_var"))
            np.testing.assert_allclose(stats.mean, mean, rtol=1e-5, atol=2e-6)
            np.testing.assert_allclose(stats.var, var, rtol=1e-5, atol=2e-6)
            assert stats.count == theirs[f"{name}count"]


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=0, atol=2e-6, err_msg=key)


# --- one policy, learned by two processes of rsl_rl

OF_TWO = Path(__file__).parent / "data" / "golden_of_two"
TWO, AXIS, WORLD = "ppo_two_processes", "shard", 2


class ReplayOfTwo(Replay):
    """What `record_two_processes` has recorded of one policy in two processes.

    Two shards of one program need no second device: `vmap` over the rank names an axis
    too. `arrays` are those of the first process, `ranks` those of both.
    """

    def __init__(self, per_device=True):
        super().__init__(TWO, OF_TWO)
        self.ranks = [under(self.arrays, f"rank{rank}/") for rank in range(WORLD)]
        self.arrays = self.ranks[0]
        self.losses = json.loads((OF_TWO / f"{TWO}.json").read_text())["losses"]
        self.num_iterations = len(self.losses[0])
        algorithm = replace(self.config.ppo, normalize_advantage_per_device=per_device)
        loss_fn = partial(
            ppo_loss, use_clipped_value_loss=algorithm.use_clipped_value_loss
        )

        def learn(state, rollout, permutation):
            batch, _ = learning_batch(
                self.network, algorithm, state, self.hparams, rollout, axis=AXIS
            )
            state, history = optimize(
                self.network,
                algorithm,
                loss_fn,
                state,
                self.hparams,
                batch,
                permutation,
                AXIS,
            )
            stats = self.network.update_stats(
                state.obs_stats, rollout.steps.obs, axis=AXIS
            )
            return state._replace(obs_stats=stats), history, batch.advantage

        self.learn = program(jax.vmap(learn, in_axes=(None, 0, 0), axis_name=AXIS))


@pytest.mark.slow
def test_three_iterations_of_two_processes_of_rsl_rl_come_out():
    """KL, learning rate, norms and losses of every step; weights and statistics."""
    replay = ReplayOfTwo()
    state = replay.initial_state()
    close: Any = partial(np.testing.assert_allclose, rtol=1e-5, atol=5e-6)
    for iteration in range(replay.num_iterations):
        recorded = [under(rank, f"it{iteration}/") for rank in replay.ranks]
        rollouts = [replay.rollout(state, one, ())[0] for one in recorded]
        both = jax.tree.map(lambda *x: jnp.stack(x), *rollouts)
        orders = jnp.stack([replay.permutations(one) for one in recorded])
        states, history, advantage = replay.learn(state, both, orders)
        for rank, one in enumerate(recorded):
            close(advantage[rank], one["stored_advantages"])
            for ours, (theirs, near) in STEPS.items():
                np.testing.assert_allclose(
                    history[ours][rank], one[theirs], **near, err_msg=theirs
                )
            ours = jax.tree.map(lambda x, rank=rank: x[rank], states)
            actor, critic = params_to_rsl_rl(replay.config, ours.params, ours.obs_stats)
            assert_same_weights(actor, under(one, "actor_after/"))
            assert_same_weights(critic, under(one, "critic_after/"))
        # rsl_rl reports the losses of the first process; ours are of both
        for name in ("value", "surrogate"):
            theirs = np.mean([losses[iteration][name] for losses in replay.losses])
            close(history[f"{name}_loss"][0].mean(), theirs)
        state = jax.tree.map(lambda x: x[0], states)


@pytest.mark.slow
def test_the_processes_of_the_fixture_saw_different_places():
    """Else the mean of both, or the statistics of one, would be right as well."""
    replay = ReplayOfTwo(per_device=False)
    state = replay.initial_state()
    recorded = [under(rank, "it0/") for rank in replay.ranks]
    rollouts = [replay.rollout(state, one, ())[0] for one in recorded]
    both = jax.tree.map(lambda *x: jnp.stack(x), *rollouts)
    orders = jnp.stack([replay.permutations(one) for one in recorded])
    _, _, advantage = replay.learn(state, both, orders)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(
            advantage[0], recorded[0]["stored_advantages"], rtol=1e-3, atol=1e-3
        )
