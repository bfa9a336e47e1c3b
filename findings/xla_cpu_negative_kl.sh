#!/usr/bin/env bash
# XLA's CPU compiler loses half of a term of a Gaussian KL: its mean, which cannot be below 0, is -0.0059.
#
# Seen with jax 0.11.2 and 0.12.0.1 (Python 3.12, x86_64); jax 0.10.2 is right. The KL of 24,576 samples with one action,
#
#     r = 2 (ln s0 - ln s1);  0.5 (expm1(r) - r + ((m0 - m1) / s1)^2)
#
# is reported beside the loss of a small network. In a gradient step that is jitted alone it is right. In the same step
# inside `lax.scan` one `r` of the two counts half. With `- r` written as `- 2 (ln s0 - ln s1) / 2` outside of the factor,
# that is 0.5 (expm1(2 l) + d^2) - l, both are right. With 1,024 samples nothing is wrong: tests of toy size pass.
#
# Output seen:
#     jax 0.12.0.1, NumPy 0.008879
#     twice r, step alone    0.008879
#     twice r, in lax.scan  -0.005901
#     once l,  in lax.scan   0.008879
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0 numpy==2.3.5
cat >"$folder/kl.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

B, H = 24576, 32
rng = np.random.default_rng(0)


def normal(*shape, scale=1.0):
    return (scale * rng.normal(size=shape)).astype(np.float32)


batch = {"x": normal(B, 4), "action": normal(B, 1), "advantage": normal(B), "mean": normal(B, 1, scale=0.1)}
batch["std"] = np.ones((B, 1), np.float32)
params = {
    "w1": normal(4, H, scale=0.3), "b1": np.zeros(H, np.float32), "w2": normal(H, 1, scale=0.05),
    "b2": np.zeros(1, np.float32), "std": np.full(1, 1.03, np.float32),
}


def twice_r(m0, s0, m1, s1):
    r = 2.0 * (jnp.log(s0) - jnp.log(s1))
    d = (m0 - m1) / s1
    return 0.5 * (jnp.expm1(r) - r + d * d).sum(-1)


def once_l(m0, s0, m1, s1):
    l = jnp.log(s0) - jnp.log(s1)
    d = (m0 - m1) / s1
    return (0.5 * (jnp.expm1(2.0 * l) + d * d) - l).sum(-1)


def log_prob(m, s, action):
    z = (action - m) / s
    return (-0.5 * z * z - jnp.log(s)).sum(-1)


batch["log_prob"] = np.asarray(log_prob(batch["mean"], batch["std"], batch["action"]))


def step_with(kl):
    def loss(params, batch):
        m = jax.nn.elu(batch["x"] @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
        s = jnp.broadcast_to(params["std"], m.shape)
        ratio = jnp.exp(log_prob(m, s, batch["action"]) - batch["log_prob"])
        a = batch["advantage"]
        surrogate = jnp.maximum(-a * ratio, -a * jnp.clip(ratio, 0.8, 1.2)).mean()
        return surrogate - 0.01 * jnp.log(s).sum(-1).mean(), kl(batch["mean"], batch["std"], m, s).mean()

    def step(params, batch):
        (_, value), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient), value

    return step


def alone(kl):
    return float(jax.jit(step_with(kl))(params, batch)[1])


def in_scan(kl):
    twice = jax.tree.map(lambda x: np.stack([x, x]), batch)
    return float(jax.jit(lambda p, b: jax.lax.scan(step_with(kl), p, b))(params, twice)[1][0])


w = {name: value.astype(np.float64) for name, value in params.items()}
z = batch["x"] @ w["w1"] + w["b1"]
mean = np.where(z > 0, z, np.expm1(z)) @ w["w2"] + w["b2"]
s0, s1, m0 = batch["std"].astype(np.float64), w["std"], batch["mean"]
right = (np.log(s1 / s0) + (s0**2 + (m0 - mean) ** 2) / (2 * s1**2) - 0.5).sum(-1).mean()

print(f"jax {jax.__version__}, NumPy {right:.6f}")
print(f"twice r, step alone   {alone(twice_r):9.6f}")
print(f"twice r, in lax.scan  {in_scan(twice_r):9.6f}")
print(f"once l,  in lax.scan  {in_scan(once_l):9.6f}")
np.testing.assert_allclose([alone(twice_r), in_scan(once_l)], right, rtol=1e-3)
assert in_scan(twice_r) < 0 < right, "this has changed"
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/kl.py"
