"""What only a GPU can show: checks of both drivers, and how fast all is there.

    uv run --python 3.12 --extra isaaclab --extra cuda benchmarks/gpu.py
    JAX_PLATFORMS=cpu uv run --python 3.12 --extra isaaclab benchmarks/gpu.py --small

Less than eight minutes on one card. Every section is a process of its own with a time
limit; one that fails is named at the end, and the others go on. What only checks runs
at once, what is timed one after another. The result replaces the last part of
docs/gpu.md; with `--small` everything is tiny and nothing is written, so that any
machine shows whether this script still runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
PAGE = HERE.parent / "docs" / "gpu.md"
MARK = "<!-- benchmarks/gpu.py writes what follows -->"
RESULT = "section's lines "
SECONDS = 300  # that a section may take
ITERATIONS = 5  # of a native task that one program takes
TESTS = "tests/envs/test_bridge.py"
DIRECT, MANAGER = "Isaac-Cartpole-Direct", "Isaac-Cartpole"


def main() -> int:
    args = parse()
    if args.section:
        lines = SECTIONS[args.section](args.small)
        print(f"\n{RESULT}{json.dumps(lines)}", flush=True)
        sys.stdout.flush()
        os._exit(0)  # a simulator may not end by itself
    started, page, failed = time.perf_counter(), [], []
    for name, lines in run_sections(args.only or list(SECTIONS), args.small):
        failed += [name] * (lines is None)
        section = ["", f"### {name}", "", *(lines or ["failed"])]
        print("\n".join(section), flush=True)
        page += section
    print(f"\n{time.perf_counter() - started:.0f} s in all; failed: {failed or 'none'}")
    if not args.small and not args.only:
        kept = PAGE.read_text().partition(MARK)[0]
        PAGE.write_text("\n".join([kept + MARK, *page]) + "\n")
        print(f"wrote {PAGE}")
    return 1 if failed else 0


def run_sections(
    names: list[str], small: bool
) -> Iterator[tuple[str, list[str] | None]]:
    """Yields each section's name and lines, those of `CHECKS` first."""
    checks = [name for name in names if name in CHECKS]
    with ThreadPoolExecutor(1 if small else max(1, len(checks))) as pool:
        found = pool.map(partial(run_section, small=small), checks)
        yield from zip(checks, found, strict=True)
    for name in names:
        if name not in CHECKS:
            yield name, run_section(name, small)


def run_section(name: str, small: bool) -> list[str] | None:
    """Returns the lines of a section, or None if it failed."""
    words = [sys.executable, __file__, "--section", name, *["--small"] * small]
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "OMP_NUM_THREADS": "1"}
    environment["ISAACSIM_ASSET_ROOT"] = str(HERE.parent / "tests/data/isaac_assets")
    if name.startswith("drivers"):  # two programs, and the same products in both
        environment["XLA_FLAGS"] = "--xla_gpu_autotune_level=0"
    try:
        done = subprocess.run(
            words,
            env=environment | os.environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"{name}: more than {SECONDS} s")
        return None
    for line in done.stdout.splitlines():
        if line.startswith(RESULT):
            return json.loads(line.removeprefix(RESULT))
    print(f"{name} failed:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    return None


# --- checks


def machine(small: bool) -> list[str]:
    """Says where this ran."""
    import jax
    import torch

    names = ("isaaclab", "newton", "rsl-rl-lib")
    others = ", ".join(f"{name} {version_of(name)}" for name in names)
    commit = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"],
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
        cwd=HERE.parent,
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


# --- speed


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


# --- what they share


def device() -> str:
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


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


SECTIONS: dict[str, Callable[[bool], list[str]]] = {
    "machine": machine,
    "calls": calls,
    "tests": tests,
    "drivers_direct": drivers_direct,
    "drivers_manager": drivers_manager,
    "isaac_lab": isaac_lab,
    "host_time": host_time,
    "update": update,
    "native": native,
}
CHECKS = ("calls", "tests", "drivers_direct", "drivers_manager")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny, and write nothing")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, help="these sections")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
