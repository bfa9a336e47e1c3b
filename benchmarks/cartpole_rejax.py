# /// script
# requires-python = "==3.12.*"
# dependencies = ["rejax==0.1.3", "gymnax==0.0.9", "jax==0.11.2"]
# ///
"""CartPole-v1 with rejax: compile time, steps per second and what was learned.

rejax 0.1.3 needs gymnax 0.0.9. Its evaluation during training is switched off; the
return is that of 128 episodes of the stochastic policy afterwards, outside the clock.
With `--seeds N` so many runs are one program, and the return is their mean.
"""

import os
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
from rejax import PPO
from rejax.evaluate import evaluate
from timing import cartpole_options, time_training


def main():
    args = cartpole_options().parse_args()
    rollout = args.num_envs * args.num_steps
    env_steps = args.env_steps // rollout * rollout
    algorithm = PPO.create(
        env="CartPole-v1",
        num_envs=args.num_envs,
        num_steps=args.num_steps,
        num_epochs=4,
        num_minibatches=4,
        learning_rate=args.learning_rate,
        gamma=0.99,
        gae_lambda=0.95,
        clip_eps=0.2,
        vf_coef=0.5,
        ent_coef=0.01,
        max_grad_norm=0.5,
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        total_timesteps=env_steps,
        eval_freq=env_steps,
        skip_initial_evaluation=True,
    ).replace(eval_callback=lambda algorithm, state, key: ())

    def final_return(state, key):
        act, env = algorithm.make_act(state), algorithm.env
        return evaluate(act, key, env, algorithm.env_params, 128, 500)[1].mean()

    play = jax.vmap(final_return) if args.seeds else final_return
    time_training(
        algorithm.train,
        lambda trained, key: play(trained[0], key).mean(),
        args,
        env_steps,
        library="rejax",
        version=version("rejax"),
        jax=jax.__version__,
    )


if __name__ == "__main__":
    main()
