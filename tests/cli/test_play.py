"""Playing: whole episodes, honest numbers, and a video that can be watched."""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imageio.v3 as imageio
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
import running

from ppo_jax import TimeStep
from ppo_jax.cli import export, filming, play
from ppo_jax.envs import make
from ppo_jax.learning.ppo import PPO
from ppo_jax.loops import evaluation
from ppo_jax.loops.evaluation import Evaluation
from ppo_jax.runs import folders, trainers

EPISODES = 5


@pytest.fixture(scope="module")
def trained():
    """The trainer and the state of a short run, for EPISODES environments."""
    return running.tiny_trained(EPISODES)


@pytest.fixture
def played(tmp_path, monkeypatch, capsys):
    """Plays that run in an empty folder, five pictures a second; returns stdout."""
    shutil.copytree(
        running.tiny_run(), tmp_path / folders.LOG_ROOT / "Cartpole" / "run"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(filming, "FRAMES_PER_SECOND", 5)

    def run(*argv):
        capsys.readouterr()
        code = running.call(play, *argv)
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return run


@dataclass(frozen=True)
class Clock:
    """Three environments that end after 2, 4 and 6 steps; step n gives the reward n.

    A second episode begins at 50 and ends at once.
    """

    num_envs: int = 3
    max_episode_length: int = 6

    def reset(self, key):
        count = jnp.zeros(3, jnp.int32)
        return count, {"policy": count[:, None]}

    def step(self, count, action):
        count = count + 1
        terminated = (count == jnp.array([2, 4, 100])) | (count == 51)
        truncated = count == self.max_episode_length
        log = {"ended_at": 1.0 * count}
        after = jnp.where(terminated | truncated, 50, count)
        obs = {"policy": after[:, None]}
        return after, TimeStep(obs, 1.0 * count, terminated, truncated, None, log)


def test_evaluate_counts_the_first_episode_of_each_environment(maybe_jit):
    """1 + 2 = 3, 1 + .. + 4 = 10, 1 + .. + 6 = 21; what comes after does not count."""
    idle = PPO(*[None] * len(PPO._fields))._replace(
        initial_carry=lambda obs: (),
        play=lambda state, obs, carry: (jnp.zeros((3, 1)), carry),
    )
    play_all = maybe_jit(partial(evaluation.evaluate, idle, Clock()))
    result = play_all(None, jax.random.key(0))
    np.testing.assert_array_equal(result.episode_return, [3.0, 10.0, 21.0])
    np.testing.assert_array_equal(result.episode_length, [2, 4, 6])
    np.testing.assert_array_equal(result.log["ended_at"], [2.0, 4.0, 6.0])


@pytest.mark.slow
def test_record_is_one_episode_state_by_state(trained):
    """The states of an episode in order; after its end they are marked as done."""
    trainer, state = trained
    env = make("Cartpole", 1)
    recording, result = (
        jax.jit(function, static_argnums=(0, 1))(
            trainer.ppo, env, state, jax.random.key(2)
        )
        for function in (evaluation.record, evaluation.evaluate)
    )
    first, _ = env.reset(jax.random.key(2))
    length = int(result.episode_length[0])
    assert int((~recording.done).sum()) == length
    assert not recording.done[:length].any()
    taken = recording.env_state.episode_length[:length, 0]
    np.testing.assert_array_equal(taken, np.arange(length))
    jax.tree.map(
        lambda states, start: np.testing.assert_array_equal(states[0], start),
        recording.env_state.task_state,
        first.task_state,
    )


def test_summary_of_hand_made_episodes():
    """Returns 1, 2, 3, 6: mean 3, std sqrt(3.5); success in 3 of 4."""
    result = Evaluation(
        episode_return=jnp.array([1.0, 2.0, 3.0, 6.0]),
        episode_length=jnp.array([10, 20, 30, 40]),
        log={
            "Metrics/success_rate": jnp.array([1.0, 0.0, 1.0, 1.0]),
            "Metrics/distance": jnp.array([0.0, 0.0, 0.0, 1.0]),
        },
    )
    reported = {"Episode_Reward/alive": 0.5, "Perf/simulation_time": 9.0}
    assert list(play.summary(result, reported)) == [
        "Return over 4 episodes: 3.000 +- 1.871 (min 1.000, max 6.000)",
        "Episode length: 25.0 steps",
        "Success: 3 of 4 episodes",
        "distance: 0.250",
        "Episode_Reward/alive: 0.500",
    ]


def test_play_prints_return_and_success(played):
    """The newest run, as many episodes as asked for, the same for the same seed."""
    out = played("--num_envs=5")
    lines = out.splitlines()
    assert lines[0] == "Playing logs/ppo_jax/Cartpole/run at iteration 2."
    assert lines[1].startswith("Return over 5 episodes: ")
    assert lines[3].endswith(" of 5 episodes")
    assert played("--num_envs=5") == out
    assert played("--num_envs=5", "--seed=1") != out


def test_one_episode_can_be_played(played):
    """How training cuts its rollouts into minibatches does not matter here."""
    assert "Return over 1 episodes" in played("--num_envs=1")


def test_actions_can_be_clipped(played):
    """A limit of nearly 0 lets the pole fall: another policy, in effect."""
    free, clipped = played("--num_envs=5"), played("--num_envs=5", "clip_actions=1e-6")
    assert free.splitlines()[1] != clipped.splitlines()[1]


@pytest.mark.slow
def test_a_policy_is_exported_for_a_robot(played):
    """Then it is played as ever; the file says from which run it is."""
    out = played("--num_envs=2", "--export=robot/policy.onnx")
    first, written, difference, *rest = out.splitlines()
    assert written == "Exported: robot/policy.onnx, obs [1, 4] -> actions [1, 1]"
    assert difference.startswith("It acts as the policy does, within ")
    assert [first, *rest] == played("--num_envs=2").splitlines()
    session = onnxruntime.InferenceSession("robot/policy.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["run_path"] == "logs/ppo_jax/Cartpole/run"
    assert float(facts["step_dt"]) == pytest.approx(1 / 60)
    assert (facts["task"], facts["iteration"]) == ("Cartpole", "2")
    out = played("--num_envs=2", "--export=policy.onnx", "--dynamic_batch")
    assert "obs ['batch', 4] -> actions ['batch', 1]" in out


def test_isaac_labs_verb_exports_into_the_run(played, capsys):
    """The file that play.py --export writes, where Isaac Lab's users look for it."""
    assert running.call(export, "--seed=3") == 0
    path = Path("logs/ppo_jax/Cartpole/run/exported/policy.onnx")
    assert f"Exported: {path}, obs [1, 4]" in capsys.readouterr().out
    played("--export=policy.onnx", "--seed=3", "--num_envs=4")
    assert path.read_bytes() == Path("policy.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork")  # of reading the film, here
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_video_is_a_real_film_of_the_episode(tmp_path, played, suffix):
    """Read back: one picture in 12 steps of 1/60 s, of even size, moving, not blank."""
    path = f"films/cartpole{suffix}"
    out = played("--num_envs=1", f"--video={path}", "--seed=2")
    assert out.splitlines()[-1] == f"Video: {path}"
    plugin = "FFMPEG" if suffix == ".mp4" else None
    frames = imageio.imread(tmp_path / path, plugin=plugin)
    length = float(out.split("Episode length: ")[1].split()[0])
    assert frames.shape == (-(-length // 12), 480, 640, 3)
    assert frames[0].std() > 5
    assert abs(frames[0].astype(int) - frames[-1].astype(int)).max() > 50


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--export=policy.pth"],
            "policy.pth: name the file policy.onnx",
        ),
        (["--export=policy"], "name the file policy.onnx, for a robot, or model_N.pt"),
        (["--dynamic_batch"], "--dynamic_batch is for --export policy.onnx"),
        (["--dynamic_batch", "--export=a.pt"], "is for --export policy.onnx: leave it"),
    ],
)
def test_another_file_cannot_be_exported(capsys, flags, message):
    assert running.call(play, *flags) == 2
    assert message in capsys.readouterr().err


def test_film_does_not_warn_of_a_fork(trained, tmp_path, monkeypatch, recwarn):
    """ffmpeg is started by a fork that execs at once: nothing to frighten a user."""
    monkeypatch.setattr(filming, "FRAMES_PER_SECOND", 1)
    filming.film(*trained, tmp_path / "a.mp4", seed=2)
    assert (tmp_path / "a.mp4").stat().st_size > 1000
    assert [str(w.message) for w in recwarn if "fork" in str(w.message)] == []


def test_what_is_not_finite_is_no_success_and_is_said():
    """NaN in a return, or in what was logged; infinite is not finite either."""
    nan = float("nan")
    result = Evaluation(
        episode_return=jnp.array([1.0, nan, 2.0, 3.0]),
        episode_length=jnp.array([1, 2, 3, 4]),
        log={
            "Metrics/success_rate": jnp.array([1.0, 1.0, nan, 0.0]),
            "Metrics/distance": jnp.array([0.0, 0.0, 0.0, jnp.inf]),
        },
    )
    lines = list(play.summary(result, {}))
    assert lines[2] == "Success: 1 of 4 episodes"
    said = play.not_finite(result, {"a": 1.0, "b": nan})
    assert said == (
        "return of 1 of 4 episodes, success_rate of 1 of 4 episodes, "
        "distance of 1 of 4 episodes, b"
    )
    fine = Evaluation(jnp.ones(2), jnp.ones(2), {"x": jnp.zeros(2)})
    assert play.not_finite(fine, {"a": 1.0}) == ""


def test_an_evaluation_of_nan_ends_with_1(trained, played, monkeypatch, capsys):
    """The numbers are printed, then a sentence says what they are worth."""

    result = Evaluation(jnp.full(3, jnp.nan), jnp.ones(3), {})
    monkeypatch.setattr(trainers, "evaluate", lambda *_: (result, {}))
    assert running.call(play, "--num_envs=3", "--video=no.mp4") == 1
    out, err = capsys.readouterr()
    assert "Return over 3 episodes: nan" in out
    assert err.startswith("play.py: not finite: return of 3 of 3 episodes")
    assert "Video" not in out


def test_ffmpeg_says_nothing(trained, tmp_path, capfd):
    """A disk that is full while the film is written: one sentence of ours."""
    (tmp_path / "a.mp4").symlink_to("/dev/full")
    with pytest.raises(ValueError, match=r"a\.mp4 could not be written"):
        filming.film(*trained, tmp_path / "a.mp4", seed=2)
    assert capfd.readouterr().err == ""
