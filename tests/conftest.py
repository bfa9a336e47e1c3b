"""Strict arithmetic on the CPU for every test, and one cache of programs for a run.

The cache is empty at the start of a run and gone at its end. All workers share it, and
all processes that tests start: what one has compiled, the others read.
"""

import gc
import os
import shutil
import signal
import sys
import tempfile

import pytest

# Files that take longest, longest first: a worker that starts one late ends late.
LONGEST = (
    "tests/test_notebooks.py",
    "tests/runs/test_processes.py",
    "tests/loops/test_shards.py",
    "tests/test_parity.py",
    "tests/isaac/test_isaac_lab.py",
    "tests/isaac/test_gpu_benchmark.py",
    "tests/isaac/test_scripts.py",
    "tests/envs/test_bridge.py",
    "tests/isaac/test_population.py",
    "tests/loops/test_memory.py",
    "tests/cli/test_own_tasks.py",
    "tests/sweeps/test_sweep.py",
    "tests/sweeps/test_distributed.py",
    "tests/learning/test_memory.py",
    "tests/sweeps/test_population.py",
    "tests/runs/test_resume.py",
    "tests/cli/test_filming_beside.py",
    "tests/learning/test_symmetry.py",
    "tests/loops/test_training.py",
    "tests/learning/test_ppo.py",
    "tests/export/test_onnx_encoders.py",
    "tests/runs/test_runner.py",
    "tests/test_docs.py",
    "tests/test_layers.py",
)

# "cuda" runs the bridge's tests on a GPU: the command is in docs/gpu.md.
os.environ["JAX_PLATFORMS"] = os.environ.get("PPO_JAX_TEST_PLATFORM", "cpu")
# A program is compiled by one thread, and not cut into 32 parts: as much work in all
# is then a tenth less, and the machine's other cores have other workers.
ONE_PART = "--xla_cpu_parallel_codegen_split_count=1"
if ONE_PART not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_PART}".strip()


def pytest_configure(config):
    if not is_worker(config):
        # A script's background is deaf to SIGINT, and so would be what tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        share_what_is_made(config)
        keep_bytecode(config)
    if is_worker(config) or not config.getoption("numprocesses", None):
        gc.disable()  # until all is imported and collected
        import jax  # not in the process that only hands out tests
        import one_context

        one_context.share()
        jax.config.update("jax_numpy_rank_promotion", "raise")


def is_worker(config):
    return hasattr(config, "workerinput")


def share_what_is_made(config):
    """Tells all processes of the run where to keep programs, however small.

    And where the one listens that starts processes, see `launching`.
    """
    folder = tempfile.mkdtemp(prefix="ppo_jax_tests_")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["PPO_JAX_TEST_LAUNCHER"] = f"{folder}/launcher"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/programs"
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def keep_bytecode(config):
    """Where Python may not write beside its sources, it writes to pytest's cache.

    Every worker and every process of a test else compiles all that it imports again:
    three quarters of the time of `import jax`, and of the collection.
    """
    if sys.dont_write_bytecode and hasattr(config, "cache"):
        sys.dont_write_bytecode = False
        sys.pycache_prefix = str(config.cache.mkdir("bytecode"))
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


def pytest_collection_finish():
    """Never looks for garbage among what was imported and collected."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Puts files that are compiled with care first, and in both parts the longest.

    From one part to the other, everything that is compiled is forgotten. The tests of
    a file keep their order.
    """
    rank = {name: number for number, name in enumerate(LONGEST)}

    def place(item):
        file = item.location[0]
        return file.endswith(CARELESS), rank.get(file, len(rank))

    items.sort(key=place)


# Files whose laws do not depend on how well a program is optimised, and whose programs
# take longer to compile than to run: no digit of what is compared is given up. Nothing
# is among them about what XLA makes of a program, and nothing that learns for long; but
# so are files that compile nothing, between which there is then nothing to switch. The
# numbers of rsl_rl come out of both: test_parity says which fixture of which. Level 0
# leaves what XLA fuses and how often it calls a simulator as they are; only the
# machine's code for it is another.
CARELESS = (
    *("cli/test_bad_input.py", "cli/test_command_line.py", "cli/test_debug_nans.py"),
    *("cli/test_distillation.py", "cli/test_dump_nan.py", "cli/test_filming_beside.py"),
    *("cli/test_fuzz.py", "cli/test_own_networks.py", "cli/test_own_tasks.py"),
    *("cli/test_play.py", "cli/test_resume_files.py", "cli/test_startup.py"),
    *("cli/test_viewer.py",),
    *("envs/test_adapters.py", "envs/test_bridge.py", "envs/test_cartpole.py"),
    *("envs/test_contract.py", "envs/test_deployment.py", "envs/test_drawing.py"),
    *("envs/test_franka_lift.py", "envs/test_franka_reach.py", "envs/test_info.py"),
    *("envs/test_mjx.py", "envs/test_own_simulators.py", "envs/test_programs.py"),
    *("envs/test_sharing.py", "envs/test_solids.py", "envs/test_task.py"),
    *("export/test_deploy.py", "export/test_onnx.py", "export/test_onnx_encoders.py"),
    *("isaac/test_isaac_lab.py", "isaac/test_population.py", "isaac/test_scripts.py"),
    *("learning/test_advantages.py", "learning/test_distillation.py"),
    *("learning/test_losses.py", "learning/test_memory.py"),
    *("learning/test_micro_batches.py", "learning/test_optimizers.py"),
    *("learning/test_ppo.py", "learning/test_rnd.py", "learning/test_symmetry.py"),
    *("loops/laws_of_shards.py", "loops/test_pbt.py", "loops/test_playing.py"),
    *("loops/test_rollout.py", "loops/test_training.py"),
    *("mjlab/test_curricula.py", "mjlab/test_mjlab.py", "mjlab/test_scripts.py"),
    *("mjlab/test_viewer.py",),
    *("policies/test_actor_critic.py", "policies/test_conv.py"),
    *("policies/test_distributions.py", "policies/test_modules.py"),
    *("policies/test_normalization.py", "policies/test_recurrent.py"),
    *("rsl_rl/test_configurations.py", "rsl_rl/test_files.py"),
    *("rsl_rl/test_weights.py",),
    *("runs/test_arrays.py", "runs/test_checkpoint.py", "runs/test_config.py"),
    *("runs/test_devices.py", "runs/test_folders.py", "runs/test_lock.py"),
    *("runs/test_loggers.py", "runs/test_memory.py", "runs/test_metrics.py"),
    *("runs/test_mlflow.py", "runs/test_processes.py", "runs/test_profiling.py"),
    *("runs/test_report.py", "runs/test_resume.py", "runs/test_resume_rnd.py"),
    *("runs/test_runner.py", "runs/test_wandb.py"),
    *("sweeps/test_comparison.py", "sweeps/test_damage.py"),
    *("sweeps/test_distributed.py", "sweeps/test_population.py"),
    *("sweeps/test_sweep.py",),
    *("tests/test_docs.py", "tests/test_layers.py", "tests/test_options.py"),
)


@pytest.fixture(autouse=True, scope="module")
def optimisation(request):
    """Lets XLA optimise less in some files, and in the processes that they start."""
    import careless

    on_cpu = os.environ["JAX_PLATFORMS"] == "cpu"  # elsewhere the tests are checks too
    careless.switch(on_cpu and request.node.nodeid.endswith(CARELESS))


@pytest.fixture
def patience(monkeypatch):
    """Loggers beside a run may take long to end: they import torch, W&B or MLflow."""
    from ppo_jax.runs.loggers import beside

    monkeypatch.setattr(beside, "SECONDS_TO_END", 240.0)


@pytest.fixture(params=[False, True], ids=["eager", "jit"])
def maybe_jit(request):
    """Runs the test twice: functions as they are, and jitted."""
    import jax

    return jax.jit if request.param else lambda f: f
