"""A network of somebody's own, named on the command line by its path."""

import pytest
from running import ROOT, TINY, finish, start

TRAIN, PLAY = str(ROOT / "train.py"), str(ROOT / "play.py")

NETWORKS = """
import flax.linen as nn
import jax.numpy as jnp
from ppo_jax import Gaussian

class MyActor(nn.Module):
    config: object
    action_space: object

    @nn.compact
    def __call__(self, x):
        mean = nn.Dense(self.action_space.dim)(nn.tanh(nn.Dense(4)(x)))
        return Gaussian(mean, jnp.full_like(mean, 0.3))

class MyCritic(nn.Module):
    config: object

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x)  # one axis too many

class Torch:
    "No flax module."
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "my_networks.py").write_text(NETWORKS)
    return folder


@pytest.mark.slow
def test_it_is_trained_saved_and_played(project):
    named = "actor.class_name=my_networks:MyActor"
    code, _, err = finish(
        start(project, TRAIN, *TINY, "--logger=none", "--max_iterations=1", named)
    )
    assert code == 0, err
    played = start(project, PLAY, "--task", "Cartpole", "--num_envs", "4")
    code, out, err = finish(played)
    assert code == 0, err
    assert "episodes" in out
    exported = start(project, PLAY, "--task", "Cartpole", "--export", "a.onnx")
    code, _, err = finish(exported)
    assert code == 2
    assert "actor.class_name = 'my_networks:MyActor' cannot be written as ONNX" in err


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("actor.class_name=my_networks:Nobody", "has no attribute 'Nobody'"),
        ("actor.class_name=my_netwoks:MyActor", "No module named 'my_netwoks'"),
        ("actor.class_name=my_networks:Torch", "is no flax module: give a subclass"),
        ("critic.class_name=my_networks:MyCritic", "a value of the shape [64, 1]"),
        ("actor.class_name=Transformer", "or 'package.module:Class' of a flax module"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence_before_the_run(
    project, tmp_path, field, sentence
):
    (tmp_path / "my_networks.py").write_text(NETWORKS)
    code, out, err = finish(
        start(tmp_path, TRAIN, "--num_envs", "64", "--logger=none", field)
    )
    assert code == 2, out + err
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "logs").exists()
