"""Laws of what a viewer shows of a simulator, whichever it is."""

import jax
import jax.numpy as jnp
import numpy as np
import running
from viser_client import Client

from ppo_jax.cli import viewer


def assert_is_shown(env, task, is_told):
    """A step moves something on the page, and another environment is another picture.

    Args:
      env: of a simulator, with the host driver; two environments or more.
      task: its name.
      is_told: whether the terms of its reward are: their sum is the reward.
    """
    port = running.free_port()
    with viewer.open_server(port, task) as server, Client(port) as client:
        scene = viewer.scene_of(env, task, server)
        env_state, _ = env.reset(jax.random.key(0))
        pictures = []
        for index, num_steps in ((0, 1), (0, 3), (1, 0)):
            for _ in range(num_steps):
                action = jnp.full((env.num_envs, env.action_space.dim), 0.3)
                env_state, timestep = jax.block_until_ready(env.step(env_state, action))
            scene.show(env_state, index)
            marker = f"/shown/{len(pictures)}"  # sent after all of this picture
            server.scene.add_frame(marker)
            client.wait_for(lambda marker=marker: marker in client.nodes)
            pictures.append(client.moved())
            terms = scene.terms(index)
            total = env.step_dt * sum(terms.values())
            assert bool(terms) == is_told
            if is_told:
                reward = float(timestep.reward[index])
                np.testing.assert_allclose(total, reward, rtol=1e-4, atol=1e-6)
    assert all(pictures), "nothing moved"
