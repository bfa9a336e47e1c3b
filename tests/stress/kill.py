"""Kills train.py and sweep.py at random instants, and compares what they come to.

uv run python tests/stress/kill.py --kills 200 --seed 1

Each victim is a real process, spared its imports, that gets SIGKILL after a random
time, and is resumed, until it ends by itself. It must then be what the undisturbed one
is: the newest checkpoint, the curves and the finished sweep, to the last bit. Not
collected by pytest. Prints a line for every victim, and the result in the last; exits
with 1 if anything differs.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
from launching import Process  # noqa: E402

SMALL = (
    *("--task", "Cartpole", "--num_envs", "8", "num_steps_per_env=4"),
    *("num_learning_epochs=1", "num_mini_batches=2"),
    *("actor.hidden_dims=[8]", "critic.hidden_dims=[8]"),
)
LAST = ("--max_iterations=60",)
TRAIN = (*SMALL, *LAST, "save_interval=2")
SWEEP = (*SMALL, "--max_iterations=12", "gamma=0.9,0.95", "--seeds=3", "--chunk_size=2")
MANIFEST = "manifest.json"
CLOCK = {"seconds", "iteration_time", "steps_per_second"}
RUNS, SWEEPS = Path("logs/ppo_jax/Cartpole"), Path("logs/ppo_jax/sweeps")


def main() -> int:
    """Kills as often as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, scratch = random.Random(arguments.seed), Path(tempfile.mkdtemp())
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(scratch / "cache")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    scripts = [("train.py", TRAIN, of_run), ("sweep.py", SWEEP, of_sweep)]
    undisturbed, seconds = {}, {}
    for script, argv, contents in scripts:
        run_to_the_end(scratch / "cold", script, argv)  # fills the cache of programs
        started = time.monotonic()
        run_to_the_end(scratch / script, script, argv)
        seconds[script] = time.monotonic() - started
        undisturbed[script] = contents(scratch / script)
    kills = victims = differences = 0
    while kills < arguments.kills:
        script, argv, contents = scripts[victims % len(scripts)]
        home = scratch / f"victim{victims}"
        left = arguments.kills - kills
        count = kill_until_done(home, script, argv, rng, seconds[script], left)
        differs = contents(home) != undisturbed[script]
        kills, victims, differences = kills + count, victims + 1, differences + differs
        print(
            f"{script}: {count} kills, {'DIFFERS' if differs else 'same'}", flush=True
        )
        if not differs:
            shutil.rmtree(home)
    print(f"{kills} kills, {victims} victims, {differences} differences")
    if differences:
        print(f"what differs is kept in {scratch}")
        return 1
    shutil.rmtree(scratch)
    return 0


def start(home: Path, script: str, argv: tuple[str, ...]) -> Process:
    """Starts a script, or goes on with what it has begun in a folder.

    What was killed before there was anything to go on from begins anew.
    """
    home.mkdir(parents=True, exist_ok=True)
    begun, is_resumable, resume = {
        "train.py": (RUNS, "checkpoints/[0-9]*", ("--resume", *LAST)),
        "sweep.py": (SWEEPS, MANIFEST, ("--resume",)),
    }[script]
    if any(home.glob(f"{begun}/*/{is_resumable}")):
        argv = resume
    else:
        shutil.rmtree(home / begun, ignore_errors=True)
    return Process(home, [ROOT / script, *argv], None, dict(os.environ))


def run_to_the_end(home: Path, script: str, argv: tuple[str, ...]) -> None:
    """Runs a script that nothing disturbs."""
    finish(start(home, script, argv))


def finish(process: Process) -> None:
    """Waits for a process that must end well.

    Killed after its last save, a run has nothing left to do, and says so.
    """
    output = "".join(process.communicate(timeout=600))
    if process.returncode and "has already done" not in output:
        raise RuntimeError(f"exit code {process.returncode}: {output}")


def kill_until_done(
    home: Path,
    script: str,
    argv: tuple[str, ...],
    rng: random.Random,
    seconds: float,
    most: int,
) -> int:
    """Kills and resumes until a process was done before its time; returns the kills.

    Half of a process is its start, where nothing is written: so two of three times are
    drawn from when it writes, which its folder shows.
    """
    kills = 0
    while True:
        process = start(home, script, argv)
        if kills == most or kills == 12:
            finish(process)
            return kills
        if rng.random() < 2 / 3:
            wait_for_writing(home, process)
            time.sleep(rng.uniform(0, 0.15 * seconds))
        else:
            time.sleep(rng.uniform(0, seconds))
        process.kill()
        process.wait()
        if process.returncode != -signal.SIGKILL:
            finish(process)
            return kills
        kills += 1


def wait_for_writing(home: Path, process: Process) -> None:
    """Waits until a process changes its folder, or has ended."""
    before = newest(home)
    while process.poll() is None and newest(home) == before:
        time.sleep(0.005)


def newest(home: Path) -> float:
    """Returns when something in the logs has last changed, but for a lock."""
    times = [0.0]
    for path in home.glob("logs/**/*"):
        try:
            times.append(path.stat().st_mtime if path.name[0] != "." else 0.0)
        except FileNotFoundError:
            continue
    return max(times)


def of_run(home: Path) -> object:
    """Returns what a run came to: curves, and every array of its last checkpoint."""
    (run,) = home.glob(f"{RUNS}/*")
    return curves(run / "metrics.csv"), arrays(run)


def curves(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a table, without what a clock says."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in rows]


def arrays(run: Path) -> dict[str, str]:
    """Returns a digest of every array in the newest checkpoint of a run."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ppo_jax.cli.tasks import make_trainer
    from ppo_jax.runs import checkpoint, folders, trainers

    trainer = make_trainer(folders.load_config(run))
    restored = checkpoint.restore_run(run, trainers.abstract_run(trainer))
    found = {"iteration": str(restored.iteration), "skipped": str(restored.skipped)}
    for path, x in jax.tree.leaves_with_path(restored.state):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        data = np.asarray(jax.random.key_data(x) if is_key else x)
        found[jax.tree_util.keystr(path)] = hashlib.sha256(data.tobytes()).hexdigest()
    return found


def of_sweep(home: Path) -> object:
    """Returns what a sweep came to: its tables, and how its members ended."""
    import numpy as np
    import pyarrow.parquet as pq

    (sweep,) = home.glob(f"{SWEEPS}/*")
    found: dict[str, object] = {}
    for path in sorted(sweep.rglob("*")):
        name = str(path.relative_to(sweep))
        if path.suffix == ".parquet":
            table = pq.read_table(path).to_pydict()
            found[name] = json.dumps({k: v for k, v in table.items() if k not in CLOCK})
        elif path.suffix == ".npz":
            with np.load(path) as loaded:
                digest = lambda x: hashlib.sha256(x.tobytes()).hexdigest()
                found[name] = {k: digest(loaded[k]) for k in loaded.files}
    return found


if __name__ == "__main__":
    sys.exit(main())
