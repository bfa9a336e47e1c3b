# /// script
# requires-python = "==3.12.*"
# dependencies = ["rsl-rl-lib==5.5.1", "torch==2.15.0"]
# ///
"""One PPO update of rsl_rl on the CPU: returns, then 5 epochs of 4 minibatches.

The storage is filled by rsl_rl's own `act` and `process_env_step`, outside the clock,
with random observations, rewards and episode ends.
"""

import contextlib
import sys
from importlib.metadata import version
from types import SimpleNamespace

import torch
from rsl_rl.algorithms import PPO
from tensordict import TensorDict
from timing import Clock, print_update, update_options

OBS_DIM, ACTION_DIM = 48, 12
MODELS = {
    "mlp": {"class_name": "MLPModel", "hidden_dims": [256, 128, 64]},
    "lstm": {
        "class_name": "RNNModel",
        "rnn_type": "lstm",
        "rnn_hidden_dim": 256,
        "rnn_num_layers": 1,
        "hidden_dims": [128, 128, 128],
    },
}


def main():
    options = update_options()
    options.add_argument("--threads", type=int, default=1)
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    ppo = make_ppo(args.network, args.num_envs, args.num_steps)
    clock = Clock()
    for _ in range(1 + args.repeats):
        last_obs = fill(ppo, args.num_envs, args.num_steps)
        with clock:
            with torch.inference_mode():  # as its runner has it
                ppo.compute_returns(last_obs)
            ppo.update()

    print_update(
        clock,
        args,
        library="rsl_rl" + f" with {args.threads} threads" * (args.threads > 1),
        version=version("rsl-rl-lib"),
        torch=torch.__version__,
    )


def make_ppo(network, num_envs, num_steps, device="cpu"):
    model = MODELS[network] | {"activation": "elu"}
    config = {
        "num_steps_per_env": num_steps,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "multi_gpu": None,
        "actor": model
        | {"distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 1.0}},
        "critic": dict(model),
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": 5,
            "num_mini_batches": 4,
            "learning_rate": 1e-3,
            "schedule": "adaptive",
            "desired_kl": 0.01,
            "gamma": 0.99,
            "lam": 0.95,
            "clip_param": 0.2,
            "value_loss_coef": 1.0,
            "entropy_coef": 0.01,
            "max_grad_norm": 1.0,
            "rnd_cfg": None,
            "symmetry_cfg": None,
        },
    }
    env = SimpleNamespace(num_envs=num_envs, num_actions=ACTION_DIM)
    with contextlib.redirect_stdout(sys.stderr):  # it prints its models
        return PPO.construct_algorithm(
            random_obs(num_envs, device), env, config, device
        )


def fill(ppo, num_envs, num_steps, device="cpu"):
    with torch.inference_mode():
        obs = random_obs(num_envs, device)
        for _ in range(num_steps):
            ppo.act(obs)
            reward = torch.randn(num_envs, device=device)
            done = torch.rand(num_envs, device=device) < 0.01
            obs = random_obs(num_envs, device)
            ppo.process_env_step(obs, reward, done, {})
    return obs


def random_obs(num_envs, device="cpu"):
    obs = {"policy": torch.randn(num_envs, OBS_DIM, device=device)}
    return TensorDict(obs, batch_size=[num_envs])


if __name__ == "__main__":
    main()
