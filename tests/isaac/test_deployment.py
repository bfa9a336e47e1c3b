"""What real Isaac Lab tasks tell a robot, in the metadata of an exported policy."""

import numpy as np
import pytest

pytest.importorskip("isaaclab", reason="needs Isaac Lab: uv sync --extra isaaclab")

import torch

torch.set_num_threads(1)


def numbers(line):
    return np.array([float(x) for x in line.split(",")])


def test_an_arm_tells_its_joints_gains_actions_and_observations(make):
    """Nine joints, seven of which the policy moves, by half a radian from a pose."""
    env = make("Isaac-Reach-Franka", 2, play_mode=True)
    facts = env.deployment(("policy",))
    joints = facts["joint_names"].split(",")
    assert joints[:2] == ["panda_joint1", "panda_joint2"]
    assert joints[7:] == ["panda_finger_joint1", "panda_finger_joint2"]
    assert facts["joint_stiffness"].startswith("400.000,400.000,")
    assert facts["action_joint_names"].split(",") == joints[:7]
    assert facts["action_types"].split(",") == ["JointPositionAction"] * 7
    assert facts["action_scale"] == ",".join(["0.500"] * 7)
    assert facts["command_names"] == "ee_pose"
    names, widths = facts["observation_names"], facts["observation_dims"]
    assert names == "joint_pos,joint_vel,pose_command,actions"
    assert numbers(widths).tolist() == [9, 9, 7, 7]
    assert facts["observation_terms_clip"] == ",".join(["-inf;inf"] * 4)

    # What the file says an action does is what the simulator is asked to do.
    isaac, action = env.torch_env.isaac, torch.full((2, 7), 0.3)
    isaac.step(action)
    robot = isaac.scene.articulations["robot"]
    wanted = numbers(facts["action_offset"]) + numbers(facts["action_scale"]) * 0.3
    target = robot.data.joint_pos_target.torch[0, :7]
    np.testing.assert_allclose(target, wanted, atol=1e-3)
    np.testing.assert_allclose(
        numbers(facts["default_joint_pos"]),
        robot.data.default_joint_pos.torch[0],
        atol=5e-4,
    )


def test_histories_and_scales_of_observations_are_told(make):
    env = make(
        "Isaac-Cartpole",
        2,
        overrides=[
            "env.observations.policy.joint_pos_rel.history_length=3",
            "env.observations.policy.joint_vel_rel.scale=0.25",
            "env.observations.policy.joint_vel_rel.clip=[-2.0,2.0]",
        ],
    )
    facts = env.deployment(("policy",))
    assert facts["joint_names"] == "slider_to_cart,cart_to_pole"
    assert facts["observation_names"] == "joint_pos_rel,joint_vel_rel"
    assert facts["observation_dims"] == "6,2"
    assert facts["observation_terms_history_length"] == "3.000,0.000"
    assert facts["observation_terms_scale"] == "1.000,0.250"
    assert facts["observation_terms_clip"] == "-inf;inf,-2.000;2.000"
    assert facts["action_joint_names"] == "slider_to_cart"
    assert facts["action_types"] == "JointEffortAction"
    assert facts["action_scale"] == "100.000"
    assert facts["command_names"] == ""


def test_gains_are_those_of_the_configuration(make):
    """Not those of the simulator, which are 0 where an actuator is explicit."""
    from isaaclab.actuators import IdealPDActuatorCfg

    def change(env_cfg):
        env_cfg.scene.robot.actuators = {
            "cart": IdealPDActuatorCfg(
                joint_names_expr=["slider_.*"],
                stiffness={"slider_to_cart": 7.0},
                damping=3.0,
                actuator_effort_limit=400.0,
            )
        }

    facts = make("Isaac-Cartpole", 2, change=change).deployment(("policy",))
    assert facts["joint_stiffness"] == "7.000,0.000"
    assert facts["joint_damping"] == "3.000,0.000"


def test_a_direct_task_tells_its_joints(make):
    """And nothing that it does not know."""
    facts = make("Isaac-Cartpole-Direct", 2).deployment(("policy",))
    assert facts == {
        "joint_names": "slider_to_cart,cart_to_pole",
        "joint_stiffness": "0.000,0.000",
        "joint_damping": "10.000,0.000",
        "default_joint_pos": "0.000,0.000",
    }
