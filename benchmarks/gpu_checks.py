"""Sections of `gpu.py` that check: where it runs, calls, tests, and both drivers."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from unittest import mock

from timing import device

ROOT = Path(__file__).resolve().parents[1]
TESTS = "tests/envs/test_bridge.py"
SECONDS = 300  # that a section may take
DIRECT, MANAGER = "Isaac-Cartpole-Direct", "Isaac-Cartpole"


def machine(small: bool) -> list[str]:
    """Says where this ran."""
    import jax
    import torch

    names = ("isaaclab", "newton", "rsl-rl-lib")
    others = ", ".join(f"{name} {version_of(name)}" for name in names)
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    kind = jax.devices()[0].device_kind
    return [
        f"{kind} ({jax.default_backend()}), {os.cpu_count()} host cores, Python "
        f"{sys.version.split()[0]}, jax {jax.__version__}, torch {torch.__version__}, "
        f"{others}; commit {commit or 'unknown'}{', small sizes' if small else ''}."
    ]


def calls(small: bool) -> list[str]:
    """Counts a simulator's calls in a compiled iteration, compiled in four ways."""
    import jax

    from ppo_jax.envs.programs import OPTIONS, count_calls
    from ppo_jax.loops.training import init_run, iterate

    rows = []
    for behind, barrier in (
        ("nothing", lambda x: x),
        ("an optimization_barrier, as the bridge has it", jax.lax.optimization_barrier),
    ):
        env, ppo, hparams = idle_parts(small)
        step = partial(iterate, ppo, env, 16, hparams=hparams)
        start = partial(init_run, ppo, env, hparams)
        with mock.patch.object(jax.lax, "optimization_barrier", barrier):
            lowered = jax.jit(step).lower(jax.eval_shape(start, jax.random.key(0)))
        asked = count_calls(lowered.as_text())
        ours = OPTIONS.get(jax.default_backend())
        for options in (None, ours) if ours else (None,):
            found = count_calls(lowered.compile(options).as_text() or "")
            how = "without the fusion" if options else "as jax.jit compiles"
            rows.append(f"| {behind} | {how} | {asked} | {found} |")
    return [
        "An iteration with a simulator that does nothing. More calls found than asked "
        "for is the fault that the barrier and `env.jit` avoid.",
        "",
        "| behind the callback | compiled | asked for | found |",
        "|---|---|---|---|",
        *rows,
    ]


def tests(small: bool) -> list[str]:
    """Runs the bridge's tests with JAX and torch on this device."""
    words = ["-m", "pytest", "-rs", TESTS, "-n", "0" if small else "6", "--dist=load"]
    where = {"PPO_JAX_TEST_PLATFORM": device().partition(":")[0]}
    done = subprocess.run(
        [sys.executable, *words, *["-m", "gpu"] * small],
        cwd=ROOT,
        env=os.environ | where,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-3000:])
    reasons = [x for x in done.stdout.splitlines() if x.startswith("SKIPPED")]
    last = done.stdout.strip().splitlines()[-1]
    return [f"`pytest {TESTS}`, on this device: {last}.", *dict.fromkeys(reasons)]


def drivers_direct(small: bool) -> list[str]:
    """Trains the direct Cartpole with both drivers."""
    return compare_drivers(DIRECT, small)


def drivers_manager(small: bool) -> list[str]:
    """Trains the one of managers with both drivers."""
    return ["not with small sizes"] if small else compare_drivers(MANAGER, small)


def compare_drivers(task: str, small: bool) -> list[str]:
    """Trains five iterations with each driver and compares every bit."""
    weights, curves, counts = zip(
        *(trained(task, x, small) for x in ("in_jit", "host")), strict=True
    )
    return [
        f"{task}, real Isaac Lab, Newton, {2 if small else 5} iterations of 16 steps "
        "with either driver, XLA choosing no matrix products by their time; the "
        "simulator's calls are counted after each of them.",
        "",
        f"Weights, optimizer, statistics: {differing(*weights)}. "
        f"Metrics, iteration by iteration: {'; '.join(map(differing, *curves))}. "
        "Calls of the simulator in the compiled iteration, asked for and found with "
        f"XLA's own options: {counts[0][0]} and {counts[0][1]}.",
    ]


def trained(task: str, driver: str, small: bool) -> tuple[list, list, tuple[int, int]]:
    """Returns what was learned, all metrics, and the calls asked for and found."""
    import jax
    import numpy as np

    from ppo_jax.cli.tasks import default_config, open_trainer
    from ppo_jax.envs.programs import count_calls
    from ppo_jax.runs import runner
    from ppo_jax.runs.callbacks import Callbacks
    from ppo_jax.runs.config_fields import override
    from ppo_jax.runs.trainers import abstract_run, lower

    iterations = 2 if small else 5
    changes = {
        "num_envs": 16 if small else 1024,
        "num_steps_per_env": 16,
        "max_iterations": iterations,
        "simulator.device": device(),
        "simulator.bridge": driver,
        "save_interval": iterations + 1,
        "logger": "none",
    }
    if small:
        changes |= {"actor.hidden_dims": [8], "critic.hidden_dims": [8]}
    config, history = override(default_config(task), changes), []
    with tempfile.TemporaryDirectory() as folder, open_trainer(config) as trainer:
        keep = Callbacks(on_iteration=lambda p: history.append(p.scalars))
        outcome = runner.run_training(trainer, Path(folder), callbacks=keep)
        learned = jax.tree.map(np.array, outcome.run.train)
        asked = found = 0
        if driver == "in_jit":
            lowered = lower(trainer).lowered
            asked = count_calls(lowered.as_text())
            plain = jax.jit(lambda *args: trainer.iterate(*args)).lower(
                abstract_run(trainer), trainer.hparams
            )
            found = count_calls(plain.compile().as_text() or "")
    names = sorted(name for name in history[0] if "time" not in name)
    names = [name for name in names if not name.startswith(("log/", "steps_per"))]
    curves = [[np.array([scalars[name] for name in names])] for scalars in history]
    return jax.tree.leaves(learned), curves, (asked, found)


def differing(left: list, right: list) -> str:
    import numpy as np

    if all(np.array_equal(a, b, equal_nan=True) for a, b in zip(left, right)):  # noqa: B905
        return "equal to the last bit"
    most = max(float(np.nanmax(abs(a - b))) for a, b in zip(left, right) if a.size)  # noqa: B905
    return f"differ by {most:.2g} at most"


def version_of(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def idle_parts(small: bool) -> tuple:
    """Returns a simulator that does nothing, an algorithm and its numbers."""
    import bridge

    from ppo_jax import Hyperparams, ModelConfig, actor_critic, make_ppo
    from ppo_jax.envs.bridge import bridge as connect

    env = connect(bridge.idle(16 if small else 4096, device()), "in_jit")
    model = ModelConfig(hidden_dims=(8,) if small else (64, 64))
    network = actor_critic(env.action_space, model, model)
    return env, make_ppo(network), Hyperparams()
