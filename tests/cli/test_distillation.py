"""A student from the command line: made, resumed, played, and gone on from."""

import numpy as np
import onnxruntime
import pytest
from running import call, tiny_run

from ppo_jax.cli import play, tasks, train
from ppo_jax.runs import checkpoint, folders, trainers
from ppo_jax.runs.students import student_of

STUDENT = (
    "algorithm.class_name=Distillation",
    "--num_envs=8",
    "num_steps_per_env=4",
    "gradient_length=2",
    "save_interval=1",
    "--logger=none",
    "student.hidden_dims=[4]",
)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A run of two iterations whose teacher is the policy of another run."""
    home = tmp_path_factory.mktemp("students")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        teacher = ("--checkpoint", str(tiny_run()))
        assert call(train, *STUDENT, *teacher, "--max_iterations=2") == 0
        (run,) = (home / folders.LOG_ROOT / "Cartpole").iterdir()
    return run


def learned(run):
    trainer = tasks.make_trainer(folders.load_config(run))
    template = trainers.abstract_run(trainer).train
    return checkpoint.restore_train(run, template).state


@pytest.mark.slow
def test_the_teacher_is_the_policy_of_the_run_that_is_named(student):
    config = folders.load_config(student)
    assert config.algorithm.teacher_checkpoint == str(tiny_run())
    assert config.teacher.hidden_dims == (8,)  # as that run's, not as the task's
    teacher, source = learned(student).params["teacher"], learned(tiny_run())
    np.testing.assert_array_equal(
        teacher["actor"]["mlp"]["layer_0"]["kernel"],
        source.params["actor"]["mlp"]["layer_0"]["kernel"],
    )


@pytest.mark.slow
def test_a_student_is_resumed_and_played(student, capsys, monkeypatch):
    monkeypatch.chdir(student.parents[3])
    again = ("--resume", f"--checkpoint={student}", "--max_iterations=3")
    assert call(train, *again) == 0
    assert call(play, f"--checkpoint={student}", "--num_envs=4") == 0
    out = capsys.readouterr().out
    assert "behavior loss" in out
    assert "Return over 4 episodes" in out


@pytest.mark.slow
def test_a_student_is_exported_and_acts_the_same(student, capsys, monkeypatch):
    """The file is the student, not its teacher, also where it is stepped by hand."""
    monkeypatch.chdir(student.parents[3])
    argv = (f"--checkpoint={student}", "--num_envs=4", "--export=student.onnx")
    assert call(play, *argv) == 0
    assert "obs [1, 4] -> actions [1, 1]" in capsys.readouterr().out
    session = onnxruntime.InferenceSession("student.onnx")
    state = learned(student)
    trainer = tasks.make_trainer(folders.load_config(student))
    rng = np.random.default_rng(0)
    for row in rng.normal(size=(20, 1, 4)).astype(np.float32):
        (action,) = session.run(None, {session.get_inputs()[0].name: row})
        expected, _ = trainer.ppo.play(state, {"policy": row}, ())
        np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_ppo_goes_on_from_a_student(student, capsys, monkeypatch):
    monkeypatch.chdir(student.parents[3])
    how = ("--num_envs=8", "num_steps_per_env=4", "--max_iterations=1")
    source = f"--checkpoint={student}"
    assert call(train, *how, source, "actor.hidden_dims=[4]", "--run_name=ppo") == 0
    (run,) = student.parent.glob("*_ppo")
    as_actor = student_of(folders.load_config(student)).actor
    assert folders.load_config(run).actor.hidden_dims == as_actor.hidden_dims == (4,)
    assert call(train, *how, source, "actor.hidden_dims=[5]") == 2
    assert "does not fit Cartpole" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], ["needs a teacher", "--checkpoint"]),
        (["--checkpoint=nowhere"], ["nowhere", "no such file or folder"]),
        (["gamma=0.9", "TEACHER"], ["no option 'algorithm.gamma'"]),
        (["gradient_length=9", "TEACHER"], ["gradient_length = 9", "= 4"]),
        (["actor.hidden_dims=[3]", "TEACHER"], ["actor", "by PPO only"]),
        (
            ["teacher_checkpoint=here", "TEACHER"],
            ["teacher_checkpoint", "leave one away"],
        ),
        (["teacher.hidden_dims=[3]", "TEACHER"], ["does not fit", "leave teacher"]),
        (["loss_type=l1", "TEACHER"], ["loss_type", "mse, huber"]),
    ],
)
def test_mistakes_are_a_sentence(words, told, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = f"--checkpoint={tiny_run()}"
    typed = [teacher if word == "TEACHER" else word for word in words]
    given = {word.partition("=")[0] for word in words}
    base = [word for word in STUDENT if word.partition("=")[0] not in given]
    assert call(train, *base, *typed) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for words in told:
        assert words in line


@pytest.mark.slow
def test_a_run_stays_what_it_is(student, capsys):
    again = ("--resume", f"--checkpoint={student}", "--max_iterations=9")
    assert call(train, *again, "algorithm.class_name=PPO") == 2
    assert "is one of Distillation" in capsys.readouterr().err
