"""Sections of `gpu.py` that time: training loops, a step, the update, native tasks."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from gpu_checks import DIRECT
from timing import device

ITERATIONS = 5  # of a native task that one program takes


def isaac_lab(small: bool) -> list[str]:
    """Times the training loops on the real simulator, an iteration each in turn."""
    import isaac_lab as benchmark

    benchmark.DEVICE = device()
    num_envs, iterations = (16, 4) if small else (4096, 30)
    libraries = ["ppo_jax, in_jit", "ppo_jax, host", "rsl_rl"][: 1 if small else 3]
    found = benchmark.measure_all(libraries, num_envs, iterations)
    rows = []
    for r in found:
        ratio = r["steps_per_s"] / found[-1]["steps_per_s"]
        rows.append(
            f"| {r['library']} | {1000 * r['iteration_s']:.1f} | {r['steps_per_s']:,} "
            f"| {1000 * r['outside_s']:.1f} | {ratio:.2f} |"
        )
    return [
        f"{DIRECT}, {num_envs} environments x {benchmark.NUM_STEPS} steps, in turn:",
        "",
        "| loop | iteration (ms) | env steps/s | outside `env.step` (ms) | of rsl_rl |",
        "|---|---|---|---|---|",
        *rows,
    ]


def host_time(small: bool) -> list[str]:
    """Times what a step costs beside a simulator that does nothing."""
    import bridge

    sizes = [(16, 4)] if small else [(64, 24), (4096, 24)]
    rows = []
    for num_envs, num_steps in sizes:
        of = bridge.measure(num_envs, num_steps, repeats=3 if small else 30)
        rows.append(f"| {num_envs} | {of['host']:.0f} | {of['in_jit']:.0f} |")
    return [
        "Microseconds of a step beside a simulator that does nothing:",
        "",
        "| environments | host | in_jit |",
        "|---|---|---|",
        *rows,
    ]


def update(small: bool) -> list[str]:
    """Times the update alone in each precision, and rsl_rl's."""
    import jax
    import jax.numpy as jnp
    import update_ppo_jax as ours

    from ppo_jax import (
        Continuous,
        Hyperparams,
        ModelConfig,
        PPOConfig,
        actor_critic,
        make_ppo,
    )
    from ppo_jax.compiling import jit

    num_envs, num_steps = (64, 4) if small else (4096, 24)
    model = ModelConfig(hidden_dims=(256, 128, 64))
    network = actor_critic(Continuous(ours.ACTION_DIM), model, model)
    rows, hparams = [], Hyperparams()
    for precision in ("default",) if small else ("default", "highest", "bfloat16"):
        ppo = make_ppo(network, PPOConfig(precision=precision))
        obs = {"policy": jnp.zeros((num_envs, ours.OBS_DIM))}
        state = jax.jit(ppo.init)(jax.random.key(0), obs, hparams)
        fill = partial(ours.random_rollout, ppo, num_steps=num_steps, num_envs=num_envs)
        rollout = jax.jit(fill)(state, jax.random.key(1))
        step = jit(ppo.update, donate_argnums=0)  # as a training gives it
        ms = milliseconds(
            lambda s, run=step, r=rollout: run(s, hparams, r, jax.random.key(2))[0],
            state,
        )
        rows.append(f"| ppo_jax, {precision} | {ms:.1f} |")
    rows.append(f"| rsl_rl, its best of 1, 2, 4 threads | {rsl_rl_update(small):.1f} |")
    return [
        f"{num_envs} x {num_steps} samples, observations {ours.OBS_DIM}, actions "
        f"{ours.ACTION_DIM}, 256-128-64, 5 epochs of 4 minibatches:",
        "",
        "| | ms |",
        "|---|---|",
        *rows,
    ]


def rsl_rl_update(small: bool) -> float:
    """Returns the milliseconds of rsl_rl's update, the best of several settings."""
    import torch
    import update_rsl_rl as theirs

    num_envs, num_steps = (64, 4) if small else (4096, 24)
    ppo = theirs.make_ppo("mlp", num_envs, num_steps, device())
    best = float("inf")
    for threads in (1,) if small else (1, 2, 4):
        torch.set_num_threads(threads)
        for _ in range(3 if small else 6):
            last_obs = theirs.fill(ppo, num_envs, num_steps, device())
            synchronize()
            started = time.perf_counter()
            with torch.inference_mode():  # as its runner has it
                ppo.compute_returns(last_obs)
            ppo.update()
            synchronize()
            best = min(best, 1000 * (time.perf_counter() - started))
    return best


def native(small: bool) -> list[str]:
    """Times whole iterations of tasks in JAX, alone and with many seeds at once."""
    cases = [("Cartpole", 64, 1), ("Cartpole", 64, 2)]
    if not small:
        cases = [("Cartpole", n, 1) for n in (1024, 4096, 65536)]
        cases += [("Cartpole", 1024, seeds) for seeds in (16, 64)]
        cases += [("Franka-Lift", 4096, 1)]
    with ThreadPoolExecutor(1 if small else len(cases)) as pool:
        programs = list(pool.map(lambda case: iterations_of(*case), cases))
    rows = []
    for (task, num_envs, seeds), (run, runs, steps) in zip(cases, programs):  # noqa: B905
        ms = milliseconds(run, runs) / ITERATIONS
        speed = 1000 * seeds * num_envs * steps / ms
        rows.append(
            f"| {task} | {num_envs} x {steps} | {seeds} | {ms:.2f} | {speed:,.0f} |"
        )
    return [
        "| task | environments x steps | seeds | iteration (ms) | env steps/s |",
        "|---|---|---|---|---|",
        *rows,
    ]


def iterations_of(task: str, num_envs: int, seeds: int) -> tuple[Callable, Any, int]:
    """Returns the program of several iterations, what it starts from, and its steps."""
    import jax

    from ppo_jax import make_ppo, parts_of
    from ppo_jax.configs import config_for
    from ppo_jax.envs import make
    from ppo_jax.loops.programs import jit
    from ppo_jax.loops.training import init_run, iterate
    from ppo_jax.runs.config_fields import override

    config, env = (
        override(config_for(task), {"num_envs": num_envs}),
        make(task, num_envs),
    )
    network, ppo_config, hparams = parts_of(config, env.action_space)
    ppo, steps = make_ppo(network, ppo_config), config.num_steps_per_env

    def once(run):
        return iterate(ppo, env, steps, run, hparams)

    start = partial(init_run, ppo, env, hparams)
    key = jax.random.key(0)
    if seeds > 1:
        once, start = jax.vmap(once), jax.vmap(start)
        key = jax.random.split(key, seeds)
    runs = jax.jit(start)(key)

    def several(runs):
        return jax.lax.scan(lambda runs, _: once(runs), runs, length=ITERATIONS)[0]

    program = jit(env, several, donate_argnums=0)
    return program.lower(runs).compile(), runs, steps


def milliseconds(run: Callable[[Any], Any], state: Any) -> float:
    """Returns the median of ten calls, each from what the last one returned.

    The first two are not counted.
    """
    import statistics

    import jax

    times = []
    for _ in range(12):
        started = time.perf_counter()
        state = jax.block_until_ready(run(state))
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[2:])


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
