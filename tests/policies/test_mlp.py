"""The product of a layer: its derivatives, and what XLA makes of them on a CPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.policies.mlp import MLP, product

ROWS = 1024
SIZES = [(4, 32), (32, 32), (256, 128), (64, 12), (128, 1)]


def plain(x, kernel):
    return jnp.matmul(x, kernel)


def numbers(*shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(*pair) for pair in zip(keys, shapes, strict=True)]


@pytest.mark.parametrize("lead", [(ROWS,), (16, 64)])
@pytest.mark.parametrize("size", SIZES)
def test_the_gradient_of_each_and_of_both_is_that_of_matmul(size, lead):
    x, kernel, g = numbers((*lead, size[0]), size, (*lead, size[1]))
    for of in (0, 1, (0, 1)):
        found, expected = (
            jax.jit(jax.grad(lambda x, w, f=f: jnp.vdot(g, f(x, w)), argnums=of))(
                x, kernel
            )
            for f in (product, plain)
        )
        for one, other in zip(
            jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_differentiated_forward_too(size):
    """For instance for the product of a Fisher matrix and a vector."""
    x, kernel, dx, dkernel = numbers((ROWS, size[0]), size, (ROWS, size[0]), size)
    found, expected = (
        jax.jit(lambda f=f: jax.jvp(f, (x, kernel), (dx, dkernel)))()
        for f in (product, plain)
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-4)
    hessian = lambda f: jax.hessian(lambda w: (f(x[:8], w) ** 3).sum())(kernel[:, :1])
    found, expected = hessian(product), hessian(plain)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)


def test_mapped_over_kernels_each_gradient_is_that_alone():
    x, kernels = numbers((3, 64, 8), (3, 8, 16))
    take = jax.grad(lambda w, x: jnp.sin(product(x, w)).sum())
    mapped = jax.jit(jax.vmap(take))(kernels, x)
    for index in range(3):
        alone = take(kernels[index], x[index])
        np.testing.assert_allclose(mapped[index], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of XLA on a CPU")
def test_no_product_of_a_gradient_goes_to_the_other_library():
    """As compiled: none contracts the first axis of both."""
    module = MLP((256, 128, 64), "elu")
    (x,) = numbers((ROWS, 48))
    params = module.init(jax.random.key(0), x)
    loss = lambda params: (module.apply(params, x) ** 2).sum()
    text = jax.jit(jax.grad(loss)).lower(params).compile().as_text()
    other = r"lhs_contracting_dims=\{0\}, rhs_contracting_dims=\{0\}"
    assert not re.findall(other, text)
    plainly = jax.jit(jax.grad(lambda w: (plain(x, w) ** 2).sum()))
    text = plainly.lower(params["params"]["layer_0"]["kernel"]).compile().as_text()
    assert re.findall(other, text)  # what is looked for is what there would be
