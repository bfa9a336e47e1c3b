"""An environment states its facts once, whoever it is."""

import ast
import inspect

import pytest

from ppo_jax import Continuous, Env, EnvInfo, envs
from ppo_jax.envs.bridge import BridgedEnv
from ppo_jax.envs.isaac_env import IsaacLabEnv
from ppo_jax.envs.sharing import SharedSimulator
from ppo_jax.envs.task import VectorEnv
from ppo_jax.envs.torch_env import TorchEnv
from ppo_jax.types import Described

FACTS = EnvInfo.__dataclass_fields__


class Mine(Env):
    """All that one writes of an environment of one's own, but for what it does."""

    info = EnvInfo(3, Continuous(2), max_episode_length=7, step_dt=0.5)


@pytest.mark.parametrize("env", [Mine(), envs.make("Cartpole", 3)])
def test_each_fact_has_its_name(env):
    assert {name: getattr(env, name) for name in FACTS} == vars(env.info)


@pytest.mark.parametrize(
    "kind", [VectorEnv, BridgedEnv, SharedSimulator, TorchEnv, IsaacLabEnv]
)
def test_none_writes_its_facts_out_again(kind):
    assert Described in kind.__mro__
    (tree,) = ast.parse(inspect.getsource(kind)).body
    written = {node.name for node in ast.walk(tree) if hasattr(node, "name")}
    assert not written & FACTS.keys()
