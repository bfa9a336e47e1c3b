"""Records what rsl_rl itself learns in two processes: a fixture of `test_parity`.

    python tests/support/record_two_processes.py tests/data/golden_of_two

Needs rsl_rl 5.5. Two processes meet with gloo on the CPU. Each draws observations,
rewards and ends of its own, and both learn one policy in three iterations. What is
written has the form of the other fixtures, that of a process under `rank0/`, `rank1/`.
"""

import copy
import json
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from rsl_rl.algorithms import PPO
from tensordict import TensorDict

WORLD, ITERATIONS = 2, 3
STEPS, ENVS, ACTIONS = 5, 6, 2
MODEL = {"class_name": "MLPModel", "activation": "elu", "obs_normalization": True}
GAUSSIAN = {"class_name": "GaussianDistribution", "init_std": 1.0}
CONFIG = {
    "num_steps_per_env": STEPS,
    "save_interval": 50,
    "obs_groups": {"actor": ["policy"], "critic": ["policy", "critic"]},
    "algorithm": {
        "class_name": "PPO",
        "num_learning_epochs": 2,
        "num_mini_batches": 3,
        "learning_rate": 1e-3,
        "entropy_coef": 0.01,
        "desired_kl": 0.01,
        "max_grad_norm": 0.3,
    },
    "actor": MODEL | {"hidden_dims": [8, 6], "distribution_cfg": GAUSSIAN},
    "critic": MODEL | {"hidden_dims": [9]},
}


def main(folder):
    """Starts both processes, and writes what they have recorded."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("fork")
    with context.Pool(WORLD) as pool:
        found = pool.starmap(record, [(rank, port) for rank in range(WORLD)])
    arrays = {
        f"rank{rank}/{name}": x
        for rank, (recorded, _) in enumerate(found)
        for name, x in recorded.items()
    }
    spec = {
        "name": "ppo_two_processes",
        "cfg": CONFIG,
        "num_envs": ENVS,
        "num_actions": ACTIONS,
        "step_dt": 0.02,
        "losses": [losses for _, losses in found],
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "ppo_two_processes.npz", **arrays)
    (folder / "ppo_two_processes.json").write_text(json.dumps(spec, indent=1) + "\n")


def record(rank, port):
    """Learns in one process; returns its arrays, and its losses of each iteration."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=WORLD)
    torch.manual_seed(7 + rank)
    draw = np.random.default_rng(70 + rank)
    ppo = make_ppo(rank, observe(draw))
    ppo.broadcast_parameters()
    arrays, losses = numbers_of(ppo, "init/"), []
    for iteration in range(ITERATIONS):
        collected = collect(ppo, draw)
        steps, learned = watch(ppo)
        losses.append({name: float(x) for name, x in learned.items()})
        kept = collected | steps | numbers_of(ppo, "", "_after")
        arrays |= {f"it{iteration}/{name}": x for name, x in kept.items()}
    torch.distributed.destroy_process_group()
    return arrays, losses


def make_ppo(rank, obs):
    config = copy.deepcopy(CONFIG)
    config["multi_gpu"] = {
        "global_rank": rank,
        "local_rank": rank,
        "world_size": WORLD,
    }
    env = SimpleNamespace(num_envs=ENVS, num_actions=ACTIONS, unwrapped=None)
    ppo = PPO.construct_algorithm(obs, env, config, "cpu")
    ppo.train_mode()
    return ppo


def observe(draw):
    """Other processes see other places: the common statistics are none of theirs."""
    normal = lambda size: torch.tensor(draw.normal(size=(ENVS, size)) * 2.0 + 1.0)
    groups = {"policy": normal(4).float(), "critic": normal(3).float()}
    return TensorDict(groups, [ENVS])


def collect(ppo, draw):
    """Takes a rollout; returns what the fixture keeps of it."""
    rows, obs = [], observe(draw)
    with torch.inference_mode():
        for _ in range(STEPS):
            actions, seen = ppo.act(obs), obs
            done = torch.tensor(draw.random(ENVS) < 0.25)
            time_outs = done & torch.tensor(draw.random(ENVS) < 0.5)
            reward = torch.tensor(draw.normal(size=ENVS)).float()
            row = {f"obs/{name}": x for name, x in seen.items()}
            row |= {"actions": actions, "rewards_env": reward}
            rows.append(row | {"dones": done.long(), "time_outs": time_outs})
            obs = observe(draw)
            ppo.process_env_step(obs, reward, done.long(), {"time_outs": time_outs})
        ppo.compute_returns(obs)
    kept = {k: torch.stack([row[k] for row in rows]) for k in rows[0]}
    kept |= {f"last_obs/{name}": x for name, x in obs.items()}
    store = ppo.storage
    kept["stored_values"] = store.values.squeeze(-1)
    kept["stored_returns"] = store.returns.squeeze(-1)
    kept["stored_advantages"] = store.advantages.squeeze(-1)
    kept["stored_actions_log_prob"] = store.actions_log_prob.squeeze(-1)
    return {name: x.numpy().copy() for name, x in kept.items()}


def watch(ppo):
    """Updates; returns what each gradient step did, and the losses."""
    seen = {"kl": [], "lr": [], "norms": [], "permutation": []}
    all_reduce, clip = torch.distributed.all_reduce, torch.nn.utils.clip_grad_norm_
    randperm = torch.randperm

    def reduce(x, *args, **kwargs):
        all_reduce(x, *args, **kwargs)
        if x.ndim == 0 and torch.is_inference(x):  # the KL, before it is divided
            seen["kl"].append(float(x) / WORLD)

    def note_norm(*args, **kwargs):
        norm = clip(*args, **kwargs)
        seen["norms"].append(float(norm))
        seen["lr"].append(ppo.learning_rate)
        return norm

    def note_order(*args, **kwargs):
        order = randperm(*args, **kwargs)
        seen["permutation"].append(order.numpy().copy())
        return order

    torch.distributed.all_reduce, torch.randperm = reduce, note_order
    torch.nn.utils.clip_grad_norm_ = note_norm
    try:
        losses = ppo.update()
    finally:
        torch.distributed.all_reduce, torch.randperm = all_reduce, randperm
        torch.nn.utils.clip_grad_norm_ = clip
    (permutation,) = seen["permutation"]
    steps = {
        "permutation": permutation,
        "kl_per_minibatch": np.array(seen["kl"]),
        "lr_per_minibatch": np.array(seen["lr"][::2]),
        "gradnorm_actor": np.array(seen["norms"][::2]),
        "gradnorm_critic": np.array(seen["norms"][1::2]),
    }
    return steps, losses


def numbers_of(ppo, prefix, suffix=""):
    """Returns the state dicts of both models."""
    return {
        f"{prefix}{name}{suffix}/{key}": x.numpy().copy()
        for name, model in (("actor", ppo.actor), ("critic", ppo.critic))
        for key, x in model.state_dict().items()
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
