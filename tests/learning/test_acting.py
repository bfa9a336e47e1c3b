"""What of each step the update needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import weights

from ppo_jax import Continuous, Hyperparams, ModelConfig, actor_critic, make_ppo
from ppo_jax.types import TimeStep

N = 6


@pytest.mark.parametrize("truncated", [(), (1, 4)], ids=["none", "two"])
def test_where_a_branch_would_stop_the_device_every_final_value_is_taken(
    monkeypatch, truncated
):
    model = ModelConfig(hidden_dims=(4,))
    ppo = make_ppo(actor_critic(Continuous(2), model, model))
    obs = {"policy": jax.random.normal(jax.random.key(1), (N, 3))}
    shapes = jax.eval_shape(ppo.init, jax.random.key(0), obs, Hyperparams())
    state = shapes._replace(params=weights(shapes.params, np.random.default_rng(0)))
    cut = np.isin(np.arange(N), truncated)
    timestep = TimeStep(
        obs=obs,
        reward=jnp.ones(N),
        terminated=jnp.zeros(N, bool),
        truncated=jnp.asarray(cut),
        final_obs={"policy": obs["policy"] + 1.0},
        log={},
    )

    def final_value(obs, timestep):
        output = ppo.act(state, obs, jax.random.key(2))
        return ppo.observe(state, obs, output, timestep).final_value

    branching = jax.jit(final_value).lower(obs, timestep)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    straight = jax.jit(lambda *args: final_value(*args)).lower(obs, timestep)

    assert "stablehlo.case" in branching.as_text()
    assert "stablehlo.case" not in straight.as_text()
    found, taken = branching.compile()(obs, timestep), straight.compile()(obs, timestep)
    np.testing.assert_array_equal(found[cut], taken[cut])  # the rest is not read
    assert (found == 0).all() == (not truncated)
    assert np.ptp(taken) > 0
