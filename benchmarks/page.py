"""The page docs/benchmarks.md, made of what each benchmark has left in its own file."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUN = HERE / "results.json"
RECURRENT = HERE / "recurrent_results.json"
SWEEP = HERE / "sweep_results.json"
REPORT = HERE.parent / "docs" / "benchmarks.md"
SPEED = {"cartpole": "steps_per_s", "vmap": "steps_per_s", "update": "update_s"}


def keep(path: Path, results: dict, instead_of: set[str] | None = None) -> None:
    """Writes what one benchmark measured, and the page anew from what all have.

    Args:
      path: of the results.
      results: with "rounds" and "cases".
      instead_of: kinds of cases; those of others that are there stay, each with the
        machine that it was measured on. None: nothing stays.
    """
    where_and_how = {"machine": machine(), "rounds": results["rounds"]}
    if instead_of is not None:
        for case in results["cases"]:
            case["measured"] = where_and_how
        old = json.loads(path.read_text()) if path.exists() else {"cases": []}
        for case in old["cases"]:
            if case["kind"] not in instead_of:
                case.setdefault("measured", {k: old[k] for k in where_and_how})
                results["cases"].append(case)
    results = {**where_and_how, **results}
    path.write_text(json.dumps(results, indent=1) + "\n")
    write()
    print(f"wrote {path} and {REPORT}")


def write() -> None:
    """Writes the page from the files that are there."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `uv run --script benchmarks/run.py` and, where it says memory and "
        "sweeps, `benchmarks/recurrent.py` and `benchmarks/sweep.py`; all numbers of a "
        "table come from one run, in which the libraries took turns. Read the ratios: "
        "above 1, ppo_jax is ahead.",
    ]
    if RUN.exists():
        lines += run_lines(json.loads(RUN.read_text()))
    if RECURRENT.exists():
        lines += recurrent_lines(json.loads(RECURRENT.read_text()))
    if SWEEP.exists():
        lines += sweep_lines(json.loads(SWEEP.read_text()))
    REPORT.write_text("\n".join(lines) + "\n")


def machine() -> dict:
    """Returns what a benchmark notes of the machine that it runs on."""
    info = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else ())
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def named(machine: dict) -> str:
    """Returns a machine's processor and cores, for a sentence."""
    return f"{machine['processor']}, {machine['cores']} cores"


def where(results: dict) -> str:
    of = results["machine"]
    return f"Machine: {named(of)}, {of['system']}, no GPU. Rounds: {results['rounds']}."


def run_lines(results: dict) -> list[str]:
    """Returns what `run.py` measured: single runs, and the update alone."""
    lines = []
    for kind, text in (("cartpole", CARTPOLE_TEXT), ("update", UPDATE_TEXT)):
        cases = [case for case in results["cases"] if case["kind"] == kind]
        if cases:
            lines += ["", *text, "", where(cases[0].get("measured", results))]
            if kind == "update" and "rsl_rl with" not in json.dumps(cases):
                lines += ["", *ONE_THREAD_TEXT]
            lines += ["", *table(kind, cases)]
    return lines


CARTPOLE_TEXT = [
    "## Training, end to end: gymnax CartPole-v1",
    "",
    "500,000 environment steps, 4 epochs of 4 minibatches, two networks of 64-64 tanh "
    "units, the same hyper-parameters, no evaluation during training. Compiling is "
    "tracing, lowering and XLA together. The return is ppo_jax's mean of the last 100 "
    "episodes of training, and rejax's of 128 episodes afterwards (500 is the best).",
]
UPDATE_TEXT = [
    "## The update alone",
    "",
    "Returns, then 5 epochs of 4 minibatches: observations 48, actions 12, networks "
    "256-128-64 ELU, Adam, adaptive learning rate, float32. The first call holds the "
    "compiling. skrl adapts its rate once per epoch, and clips the value without the "
    "maximum: it does a little less per minibatch. rsl_rl is eager, its default, and "
    "has a row for each number of threads: its best is where its ratio is the least. "
    "JAX has all cores.",
]
ONE_THREAD_TEXT = [
    "In this table torch has **one** thread, which is not its best: on a quiet machine "
    "of two cores, two threads take 5.6 s at 4096 x 24 where one takes 9.5 and ppo_jax "
    "3.9. Against rsl_rl at its best the ratio is then **1.44**, not 2.4. Where other "
    "work wants the cores, two threads starve each other.",
]


def recurrent_lines(results: dict) -> list[str]:
    """Returns what `recurrent.py` measured: the update of a network with memory."""
    lines = ["", "## The update with memory", "", where(results), ""]
    return [*lines, *RECURRENT_TEXT, "", *table("update", results["cases"])]


RECURRENT_TEXT = [
    "Actor and critic with an LSTM of 256 units before 128-128-128 ELU, as Isaac Lab's "
    "ANYmal D has them; the rest as above. rsl_rl has its best number of threads where "
    "its ratio is the least.",
]


def table(kind: str, cases: list) -> list[str]:
    """Returns the lines of a table: a row for each case and library."""
    titles, cells, faster = COLUMNS[kind]
    titles = ["envs x steps", "library", *titles]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for case in cases:
        for index, name, version, of in libraries(case):
            row = [size_of(case), f"{name} {version}", *cells(of)]
            row.append(ratio(case, index, faster) if index else "")
            lines.append(f"| {' | '.join(row)} |")
    return lines


# kind of case: (titles, cells of a library, how many times faster ours is)
COLUMNS = {
    "cartpole": (
        ("compile (s)", "steps/s", "return", "ppo_jax / it"),
        lambda of: (
            f"{of('compile_s'):.1f}",
            f"{of('steps_per_s'):,.0f}",
            f"{of('episode_return'):.0f}",
        ),
        lambda ours, its: ours / its,
    ),
    "vmap": (
        ("compile (s)", "run (s)", "steps/s", "return", "ppo_jax / it"),
        lambda of: (
            f"{of('compile_s'):.1f}",
            f"{of('run_s'):.1f}",
            f"{of('steps_per_s'):,.0f}",
            f"{of('episode_return'):.0f}",
        ),
        lambda ours, its: ours / its,
    ),
    "update": (
        ("first call (s)", "update (ms)", "it / ppo_jax"),
        lambda of: (f"{of('first_s'):.1f}", f"{1000 * of('update_s'):.0f}"),
        lambda ours, its: its / ours,
    ),
}


def libraries(case: dict) -> Iterator[tuple[int, str, str, Callable]]:
    """Yields index, name, version and the median of a quantity, per library."""
    for index, first in enumerate(case["rounds"][0]):

        def median(name: str, index: int = index) -> float:
            return statistics.median(r[index][name] for r in case["rounds"])

        yield index, first["library"], first["version"], median


def ratio(case: dict, index: int, of: Callable) -> str:
    name = SPEED[case["kind"]]
    ratios = [of(r[0][name], r[index][name]) for r in case["rounds"]]
    return f"{statistics.median(ratios):.2f}"


def size_of(case: dict) -> str:
    return f"{case['size']['num-envs']} x {case['size']['num-steps']}"


# --- sweeps


def sweep_lines(results: dict) -> list[str]:
    """Returns what `sweep.py` measured."""
    lines = ["", "## Sweeps", "", where(results)]
    if results["together"]:
        rounds = results["together"]
        lines += ["", *together_text(rounds[0]["words"]), "", *together_table(rounds)]
    if results["cases"]:
        first = results["cases"][0]["rounds"][0][0]
        lines += ["", *vmap_text(first["seeds"], first["env_steps"]), ""]
        lines += table("vmap", results["cases"])
    return lines


def together_text(words: str) -> list[str]:
    return [
        "### One sweep, or one run after another",
        "",
        "Seconds from the command to its end, Python's start and all compiling "
        f"included: `uv run sweep.py {words} --seeds N` with an empty compilation "
        f"cache, beside `uv run train.py {words} --seed S --logger none` for one seed "
        "after another, the first with an empty cache of their own, the others with "
        "what it left there. Medians of the rounds.",
    ]


def together_table(rounds: list[dict]) -> list[str]:
    """Returns the lines of the table; a ratio only where every seed was run alone."""
    seeds, runs = rounds[0]["seeds"], len(rounds[0]["alone_s"])
    sweep_s = statistics.median(r["sweep_s"] for r in rounds)
    first_s = statistics.median(r["alone_s"][0] for r in rounds)
    alone_s = statistics.median(sum(r["alone_s"]) for r in rounds)
    later = [seconds for r in rounds for seconds in r["alone_s"][1:]]
    later_s = f"{statistics.median(later):.1f}" if later else ""
    ratios = [sum(r["alone_s"]) / r["sweep_s"] for r in rounds]
    ratio = f"{statistics.median(ratios):.2f}" if runs == seeds else ""
    return [
        "| command | runs | first run (s) | a later run (s) | all (s) | it / sweep |",
        "|---|---|---|---|---|---|",
        f"| sweep.py | {seeds} | | | {sweep_s:.0f} | |",
        f"| train.py | {runs} | {first_s:.1f} | {later_s} | {alone_s:.0f} | {ratio} |",
    ]


def vmap_text(seeds: int, env_steps: int) -> list[str]:
    return [
        "### Seeds side by side: gymnax CartPole-v1",
        "",
        f"{seeds} seeds, {env_steps:,} environment steps each, as one program: "
        "`jax.vmap` of `ppo_jax.train`, and of rejax's `train`, over the keys. The "
        "rest is as for the single runs above; steps are those of all seeds together, "
        "and the return is the mean over the seeds.",
    ]
