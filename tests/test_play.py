"""Playing: whole episodes, honest numbers, and a video that can be watched."""

import shutil

import imageio.v3 as imageio
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import running

import play
from envs import make
from ppo_jax import checkpoint, cli, evaluation, runner
from ppo_jax.evaluation import Evaluation

EPISODES = 5


@pytest.fixture(scope="module")
def trained():
    """The trainer and the state of a short run, for EPISODES environments."""
    trainer = play.make_trainer(cli.load_config(running.tiny_run()), EPISODES)
    template = runner.abstract_run(trainer).train
    return trainer, checkpoint.restore_train(running.tiny_run(), template).state


@pytest.fixture
def played(tmp_path, monkeypatch, capsys):
    """Plays that run in an empty folder, five pictures a second; returns stdout."""
    shutil.copytree(running.tiny_run(), tmp_path / cli.LOG_ROOT / "Cartpole" / "run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(play, "FRAMES_PER_SECOND", 5)

    def run(*argv):
        capsys.readouterr()
        code = running.call(play, *argv)
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return run


def test_evaluate_is_a_loop_over_first_episodes(trained):
    """evaluate = stepping each environment by hand until its first end."""
    trainer, state = trained
    env, key = trainer.env, jax.random.key(3)
    result = jax.jit(evaluation.evaluate, static_argnums=(0, 1))(
        trainer.ppo, env, state, key
    )

    step, mode = jax.jit(env.step), jax.jit(trainer.ppo.mode)
    env_state, obs = env.reset(key)
    over = np.zeros(EPISODES, bool)
    returns, lengths = np.zeros(EPISODES), np.zeros(EPISODES, int)
    success = np.zeros(EPISODES)
    while not over.all():
        env_state, timestep = step(env_state, mode(state, obs))
        obs, done = timestep.obs, np.asarray(timestep.terminated | timestep.truncated)
        returns += np.where(over, 0, timestep.reward)
        lengths += ~over
        reported = timestep.log["Metrics/success_rate"]
        success = np.where(done & ~over, reported, success)
        over |= done
    np.testing.assert_allclose(result.episode_return, returns, rtol=1e-5)
    np.testing.assert_array_equal(result.episode_length, lengths)
    np.testing.assert_array_equal(result.log["Metrics/success_rate"], success)
    ended_well = success == 1.0  # such an episode has its full length
    assert (lengths[ended_well] == env.max_episode_length).all()
    assert (lengths[~ended_well] < env.max_episode_length).all()


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
    assert list(play.summary(result)) == [
        "Return over 4 episodes: 3.000 +- 1.871 (min 1.000, max 6.000)",
        "Episode length: 25.0 steps",
        "Success: 3 of 4 episodes",
        "distance: 0.250",
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


def test_film_does_not_warn_of_a_fork(trained, tmp_path, monkeypatch, recwarn):
    """ffmpeg is started by a fork that execs at once: nothing to frighten a user."""
    monkeypatch.setattr(play, "FRAMES_PER_SECOND", 1)
    play.film(*trained, tmp_path / "a.mp4", seed=2)
    assert (tmp_path / "a.mp4").stat().st_size > 1000
    assert [str(w.message) for w in recwarn if "fork" in str(w.message)] == []
