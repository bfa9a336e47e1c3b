"""Symmetries of Isaac Lab's tasks, in torch, taken over as linear maps in JAX."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("isaaclab", reason="needs Isaac Lab: uv sync --extra isaaclab")

import torch
from isaaclab_tasks.core.cartpole.mdp import symmetry as cartpole
from isaaclab_tasks.core.velocity.mdp.symmetry import anymal
from tensordict import TensorDict

from ppo_jax import Continuous
from ppo_jax.envs.torch_symmetry import recover
from ppo_jax.learning.symmetry_check import check_augmentation

# The order in which PhysX has the joints; Newton has another.
PARTS_OF_LEG, LEGS = ("HAA", "HFE", "KFE"), ("LF", "LH", "RF", "RH")
JOINTS = [f"{leg}_{part}" for part in PARTS_OF_LEG for leg in LEGS]
PARTS = {False: ["base_lin_vel"], True: ["base_lin_vel", "height_scan"]}


def robot(joints, height_scan=False):
    """What the functions ask an environment for: names of joints and terms."""
    terms = SimpleNamespace(active_terms={"policy": PARTS[height_scan]})
    scene = {"robot": SimpleNamespace(joint_names=joints)}
    unwrapped = SimpleNamespace(scene=scene, observation_manager=terms)
    return SimpleNamespace(unwrapped=unwrapped)


@pytest.mark.parametrize(
    ("augment", "env", "width", "num_actions", "num_copies"),
    [
        pytest.param(cartpole, robot([]), 4, 1, 2, id="cartpole"),
        pytest.param(anymal, robot(JOINTS), 48, 12, 4, id="flat"),
        pytest.param(anymal, robot(sorted(JOINTS)), 48, 12, 4, id="other joints"),
        pytest.param(anymal, robot(JOINTS, True), 235, 12, 4, id="rough"),
    ],
)
def test_a_symmetry_of_isaac_lab_is_taken_over(
    augment, env, width, num_actions, num_copies
):
    """Bit for bit, a group that it does not mirror included."""
    function = augment.compute_symmetric_states
    shapes = {"policy": (width,), "critic": (3,)}
    linear = recover(function, env, shapes, num_actions)
    rng = np.random.default_rng(1)
    obs = {name: np.float32(rng.normal(size=(5, *s))) for name, s in shapes.items()}
    action = np.float32(rng.normal(size=(5, num_actions)))
    ours, our_action = jax.jit(linear)(obs, action)
    tensors = {name: torch.tensor(x) for name, x in obs.items()}
    theirs, their_action = function(
        env, TensorDict(tensors, batch_size=[5]), torch.tensor(action)
    )
    for name in shapes:
        np.testing.assert_array_equal(ours[name], theirs[name])
    np.testing.assert_array_equal(our_action, their_action)
    assert len(our_action) == 5 * num_copies
    assert not np.array_equal(ours["policy"][:5], ours["policy"][5:10])
    assert check_augmentation(linear, obs, Continuous(num_actions)) == num_copies


def twice(change):
    """An augmentation whose copy of the observations is `change` of them."""

    def augment(env, obs, actions):
        mapped = None
        if obs is not None:
            x = obs["policy"]
            mapped = obs.repeat(2)
            mapped["policy"] = torch.cat([x, change(x)])
        return mapped, None if actions is None else torch.cat([actions, -actions])

    return augment


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: -x + 1, "zeros is not zeros"),
        (lambda x: -x.clamp(-5, 5), "'policy' is not mapped linearly"),
        (lambda x: x.abs(), "'policy' is not mapped linearly"),
        (lambda x: x.flip(0), "'policy' is not mapped linearly"),
    ],
)
def test_what_is_no_linear_map_is_refused(change, told):
    with pytest.raises(ValueError, match=f"{told}.*give a function in JAX"):
        recover(twice(change), None, {"policy": (3,)}, 2)


def test_sums_of_inputs_are_taken_over_too():
    matrix = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, -1.0]])
    linear = recover(twice(lambda x: x @ matrix.T), None, {"policy": (3,)}, 2)
    obs, _ = linear({"policy": jnp.array([[1.0, 2.0, 3.0]])}, None)
    np.testing.assert_allclose(obs["policy"], [[1, 2, 3], [4, 1, -2.5]])


def test_an_image_is_not_probed():
    with pytest.raises(ValueError, match="'camera' is"):
        recover(twice(torch.neg), None, {"policy": (3,), "camera": (3, 8, 8)}, 2)
