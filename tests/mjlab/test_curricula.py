"""Curricula of a run that goes on: their stage and the terrain are where they were."""

import json
from types import SimpleNamespace

import pytest
import running

pytest.importorskip("mjlab", reason="needs mjlab: uv sync --extra mjlab")

import torch
from mjlab.envs.mdp.curriculums import reward_curriculum
from mjlab.managers.curriculum_manager import CurriculumTermCfg
from mjlab.tasks.registry import list_tasks, register_mjlab_task
from mjlab.terrains import TerrainEntityCfg
from mjlab.terrains.terrain_entity import TerrainEntity

from ppo_jax.cli import play, sweep, train
from ppo_jax.envs.curricula import NoCurricula, progress_of, reset_with
from ppo_jax.envs.mjlab_tasks import resolve_task
from ppo_jax.runs import metrics

TASK = "Test-Cartpole-Stages"
STAGES = [{"step": 0, "weight": 1.0}, {"step": 10, "weight": 5.0}]
SMALL = ("--task", f"mjlab:{TASK}", "--device", "cpu", "--num_envs", "8")
SMALL += ("num_steps_per_env=4", "num_learning_epochs=1", "num_mini_batches=2")
WEIGHT = "log/Curriculum/weight/weight"  # of the reward, in metrics.csv


@pytest.fixture(scope="module", autouse=True)
def task():
    """A task whose reward is another from its 10th step on; episodes of 2 steps."""
    env_cfg, agent_cfg = resolve_task("Mjlab-Cartpole-Balance")
    params = {"reward_name": "smooth_reward", "stages": STAGES}
    env_cfg.curriculum = {
        "weight": CurriculumTermCfg(func=reward_curriculum, params=params)
    }
    env_cfg.episode_length_s = 0.1
    if TASK not in list_tasks():
        register_mjlab_task(TASK, env_cfg, env_cfg, agent_cfg)


def test_a_resumed_run_has_the_stage_that_it_had_come_to(tmp_path, monkeypatch, capfd):
    """Also in play.py; a run that is started from weights begins anew."""
    monkeypatch.chdir(tmp_path)
    assert running.call(train, *SMALL, "--max_iterations", "3") == 0
    (run,) = (tmp_path / "logs" / "ppo_jax" / "cartpole").iterdir()
    meta = json.loads((run / "checkpoints" / "3" / "meta.json").read_text())
    assert meta["simulator"] == {"common_step_counter": 12}
    assert metrics.read_table(run)[WEIGHT][0] == 1.0

    again = ("--task", f"mjlab:{TASK}", "--resume", "--max_iterations", "4")
    assert running.call(train, *again) == 0
    assert metrics.read_table(run)[WEIGHT][3] == 5.0
    meta = json.loads((run / "checkpoints" / "4" / "meta.json").read_text())
    assert meta["simulator"] == {"common_step_counter": 16}

    capfd.readouterr()
    assert running.call(play, "--task", f"mjlab:{TASK}", "--num_envs", "2") == 0
    assert "Curriculum/weight/weight: 5.000" in capfd.readouterr().out


def test_a_population_keeps_the_stage_with_each_save(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ("--population", "2", "--seeds", "2", "--max_iterations", "2")
    assert running.call(sweep, *SMALL, *argv, "save_interval=1") == 0
    saves = sorted((tmp_path / sweep.SWEEPS).glob("*/chunks/*/chunk.json"))
    kept = [json.loads(path.read_text())["simulator"] for path in saves]
    assert kept == [{"common_step_counter": 4}, {"common_step_counter": 8}]


def test_terrain_is_that_of_before_and_nobody_is_moved():
    """mjlab's own terrain, of 4 levels; a reset that ends no episode moves none."""
    num_envs, origins = 6, torch.rand(4, 2, 3)
    plane = TerrainEntityCfg(terrain_type="plane", num_envs=num_envs, env_spacing=1.0)
    terrain = TerrainEntity(plane, device="cpu")
    terrain.terrain_origins, terrain.max_terrain_level = origins, 4
    terrain.terrain_types = torch.arange(num_envs) % 2
    terrain.terrain_levels = torch.zeros(num_envs, dtype=torch.int64)
    terrain.env_origins = origins[0, terrain.terrain_types]

    class Promoting(NoCurricula):
        def compute(self, env_ids=None):
            every = torch.ones(len(env_ids), dtype=torch.bool)
            terrain.update_env_origins(env_ids, every, ~every)

    def reset(seed):
        env.curriculum_manager.compute(torch.arange(num_envs))
        return {}, {}

    env = SimpleNamespace(
        num_envs=num_envs,
        device="cpu",
        common_step_counter=0,
        curriculum_manager=Promoting(),
        scene=SimpleNamespace(terrain=terrain),
        reset=reset,
    )
    manager = env.curriculum_manager
    levels = [0, 1, 2, 3, 2, 1]
    progress = {"common_step_counter": 70, "terrain_levels": levels}
    reset_with(env, progress, seed=0)
    assert progress_of(env) == progress
    types = terrain.terrain_types
    assert torch.equal(terrain.env_origins, origins[torch.tensor(levels), types])
    assert env.curriculum_manager is manager

    reset_with(env, progress | {"terrain_levels": [3]}, seed=0)  # of one environment
    there = origins[terrain.terrain_levels, types]
    assert torch.equal(terrain.env_origins, there), "as the stages left them"
