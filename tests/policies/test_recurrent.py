"""LSTM and GRU: one gate at a time, sequences against steps, and what an end does."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn, weights

from ppo_jax import Continuous, ModelConfig, actor_critic
from ppo_jax.policies.gates import KINDS, GRUMemory, LSTMMemory
from ppo_jax.policies.memory import forget
from ppo_jax.policies.recurrent import RNN, initial_memory

T, N, D, H = 7, 3, 4, 5
HALF = float(np.arctanh(0.5))
ON, OFF = 40.0, -40.0  # of a sigmoid


# Before the step c = 0.25. Gates i, f, g, o; where all let pass, c' = 0.25 + 0.5.
@pytest.mark.parametrize(
    ("gates", "cell", "hidden"),
    [
        ([ON, ON, HALF, ON], 0.75, np.tanh(0.75)),
        ([OFF, ON, HALF, ON], 0.25, np.tanh(0.25)),  # nothing new comes in
        ([ON, OFF, HALF, ON], 0.5, np.tanh(0.5)),  # the old is forgotten
        ([ON, ON, -HALF, ON], -0.25, np.tanh(-0.25)),  # the news has a sign
        ([ON, ON, HALF, OFF], 0.75, 0.0),  # kept, and not said
    ],
)
def test_gates_of_lstm_are_in_order_of_torch(gates, cell, hidden):
    memory = LSTMMemory(jnp.zeros((1, 1)), jnp.full((1, 1), 0.25))
    half = jnp.array([gates]) / 2  # what comes from the input and the memory is added
    after = KINDS["lstm"].step(memory, half, half)
    np.testing.assert_allclose(after.cell, [[cell]], rtol=1e-6)
    np.testing.assert_allclose(after.hidden, [[hidden]], rtol=1e-6, atol=1e-12)


# Before the step h = 0.25. Gates r, z of the input; n is tanh(0 + r * atanh(0.5)).
@pytest.mark.parametrize(
    ("r", "z", "hidden"),
    [(ON, OFF, 0.5), (OFF, OFF, 0.0), (ON, ON, 0.25), (ON, 0.0, 0.375)],
)
def test_gates_of_gru_are_in_order_of_torch(r, z, hidden):
    memory = GRUMemory(jnp.full((1, 1), 0.25))
    from_input = jnp.array([[r, z, 0.0]])
    after = KINDS["gru"].step(memory, from_input, jnp.array([[0.0, 0.0, HALF]]))
    np.testing.assert_allclose(after.hidden, [[hidden]], rtol=1e-6, atol=1e-12)


def test_gru_does_not_gate_what_comes_from_the_input():
    """With r = 0 the input alone makes the candidate: n = tanh(atanh(0.5))."""
    from_input = jnp.array([[OFF, OFF, HALF]])
    after = KINDS["gru"].step(
        GRUMemory(jnp.zeros((1, 1))), from_input, jnp.zeros((1, 3))
    )
    np.testing.assert_allclose(after.hidden, [[0.5]], rtol=1e-6)


@pytest.fixture(params=["lstm", "gru"])
def two_layers(request):
    """A network of two layers, its parameters, a sequence, and a memory before it."""
    module = RNN(request.param, H, 2)
    rng = np.random.default_rng(0)
    normal = lambda m: jnp.asarray(rng.normal(size=m.shape), jnp.float32)
    x = normal(np.empty((T, N, D)))
    memory = jax.tree.map(normal, initial_memory(request.param, H, 2, N))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x[0], memory)
    params = weights(shapes, rng)
    is_first = jnp.asarray(rng.random((T, N)) < 0.4)
    assert is_first[1:].any() and not is_first.all()
    return module, params, x, memory, is_first


@pytest.mark.slow
def test_a_sequence_is_its_steps(two_layers):
    """Outputs, last memory and gradient of both, with ends inside the sequence."""
    assert_sequence_is_its_steps(*two_layers)


@pytest.mark.slow
@pytest.mark.parametrize("rnn_type", ["lstm", "gru"])
def test_a_sequence_is_its_steps_at_the_size_of_isaac_labs_agents(rnn_type):
    """24 steps of 64 environments, 256 units: as it is compiled for a robot."""
    module, rng = RNN(rnn_type, 256, 1), np.random.default_rng(0)
    x = rng.standard_normal((24, 64, 48), np.float32)
    memory = jax.tree.map(lambda m: m + 0.3, initial_memory(rnn_type, 256, 1, 64))
    params = jax.jit(module.init)(jax.random.key(0), x[0], memory)
    is_first = rng.random((24, 64)) < 0.1
    read = module, params, x, memory, is_first
    assert_sequence_is_its_steps(*read, weight=1 / (24 * 64))


def assert_sequence_is_its_steps(module, params, x, memory, is_first, weight=1):
    """Compares with the steps one by one, as JAX differentiates them, compiled.

    What is differentiated is the sum of all squares, times `weight`.
    """

    def at_once(params, memory):
        return module.apply(params, x, memory, is_first)

    def step_by_step(params, memory):
        def step(memory, read):
            x, is_first = read
            return module.apply(params, x, forget(memory, is_first))[::-1]

        return jax.lax.scan(step, memory, (x, is_first))[::-1]

    def total(f, params, memory):
        output, after = f(params, memory)
        squares = ((leaf**2).sum() for leaf in jax.tree.leaves((output, after)))
        return weight * sum(squares)

    def both(f, params, memory):
        gradient = jax.grad(partial(total, f), argnums=(0, 1))(params, memory)
        return f(params, memory), gradient

    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6),
        *(jax.jit(partial(both, f))(params, memory) for f in (at_once, step_by_step)),
    )


def test_an_episode_knows_nothing_of_the_one_before(two_layers):
    """What was observed before an end, and the memory then, change nothing after it."""
    module, params, x, memory, _ = two_layers
    is_first = jnp.zeros((T, N), bool).at[3, 1].set(True)
    apply = jax.jit(module.apply)
    output, _ = apply(params, x, memory, is_first)
    other = jax.tree.map(lambda m: m + 1.0, memory)
    moved, _ = apply(params, x.at[:3].add(1.0), other, is_first)
    np.testing.assert_array_equal(moved[3:, 1], output[3:, 1])
    assert (np.abs(moved[3:, [0, 2]] - output[3:, [0, 2]]).max(axis=-1) > 1e-4).all()
    alone, _ = apply(params, x[3:, 1:2], *_fresh(module))
    np.testing.assert_allclose(output[3:, 1:2], alone, rtol=1e-5, atol=1e-7)


def _fresh(module):
    memory = initial_memory(module.rnn_type, H, 2, 1)
    return memory, jnp.zeros((T - 3, 1), bool)


def test_weights_and_both_biases_start_as_in_torch(two_layers):
    """All of them U(-1, 1) / sqrt(H), whatever the input's width."""
    module, *_ = two_layers
    wide = RNN(module.rnn_type, 256, 1)
    memory = initial_memory(module.rnn_type, 256, 1, 1)
    params = wide.init(jax.random.key(0), jnp.zeros((1, 8)), memory)["params"]
    gates = {"lstm": 4, "gru": 3}[module.rnn_type]
    shapes = {name: x.shape for name, x in params["layer_0"].items()}
    assert shapes == {
        "input_kernel": (8, gates * 256),
        "hidden_kernel": (256, gates * 256),
        "input_bias": (gates * 256,),
        "hidden_bias": (gates * 256,),
    }
    for name, x in params["layer_0"].items():
        assert np.abs(x).max() <= 1 / 16, name
        np.testing.assert_allclose(x.std(), 1 / 16 / np.sqrt(3), rtol=0.1, err_msg=name)
    first, second = (params["layer_0"][f"{of}_bias"] for of in ("input", "hidden"))
    assert not np.array_equal(first, second)


def test_what_the_kind_of_network_does_not_read_is_refused():
    with pytest.raises(
        ValueError, match="rnn_type = 'gru' is read by an RNNModel only"
    ):
        ModelConfig(rnn_type="gru")
    with pytest.raises(ValueError, match="rnn_num_layers"):
        ModelConfig(class_name="RNNModel", rnn_num_layers=0)


def test_samples_of_a_network_with_memory_are_refused():
    """`policy` needs sequences: without memory a row means nothing."""
    network = actor_critic(Continuous(2), ModelConfig(class_name="RNNModel"))
    obs = {"policy": jnp.zeros((N, D))}
    params, stats = drawn(network.init, jax.random.key(0), obs)
    with pytest.raises(ValueError, match="reads sequences"):
        network.policy(params, network.prepare(stats, obs))
    assert network.value(params, network.prepare(stats, obs)).shape == (N,)


def test_no_matrix_is_added_up_in_a_step(two_layers):
    """The gradient of the weights is one product at the end: no loop carries it."""
    module, params, x, memory, is_first = two_layers

    def total(params):
        return module.apply(params, x, memory, is_first)[0].sum()

    program = jax.make_jaxpr(jax.grad(total))(params)
    carried = set(_carried(program.jaxpr))
    shapes = {name: p.shape for name, p in params["params"]["layer_1"].items()}
    assert (N, H) in carried
    assert not carried & {shapes["hidden_kernel"], shapes["input_kernel"]}


@pytest.mark.parametrize(("rnn_type", "num_gates"), [("lstm", 4), ("gru", 3)])
def test_the_gates_of_a_sequence_are_never_copied_in_a_step(rnn_type, num_gates):
    """They are the largest array, which no step copies, and no product turns over."""
    steps, envs, hidden = 24, 16, 256
    module, x = RNN(rnn_type, hidden, 1), jnp.zeros((steps, envs, 48))
    memory = initial_memory(rnn_type, hidden, 1, envs)
    params = jax.eval_shape(module.init, jax.random.key(0), x[0], memory)
    is_first = jnp.zeros((steps, envs), bool)

    @jax.jit
    def gradient(params, x):
        return jax.grad(lambda p: module.apply(p, x, memory, is_first)[0].sum())(params)

    text = gradient.lower(params, x).compile().as_text()
    width = num_gates * hidden
    assert f"f32[{steps},{envs},{width}]" in text
    loops = text.split("ENTRY")[0]
    assert not re.findall(rf"f32\[{steps},{envs},{width}\]\S* copy\(", loops)
    turned = f"f32[{width},{steps * envs}]", f"f32[{width},{steps},{envs}]"
    assert not [shape for shape in turned if shape in text]


@pytest.mark.slow
def test_many_networks_at_once_are_each_alone(two_layers):
    """As in a sweep: values and gradients of three by vmap, and of one by itself."""
    module, _, x, memory, is_first = two_layers
    keys = jax.random.split(jax.random.key(7), 3)
    many = jax.vmap(lambda key: module.init(key, x[0], memory))(keys)

    def total(params):
        return (module.apply(params, x, memory, is_first)[0] ** 2).sum()

    both = jax.jit(jax.value_and_grad(total))
    alone = both(jax.tree.map(lambda p: p[1], many))
    together = jax.tree.map(lambda y: y[1], jax.vmap(both)(many))
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, together, alone)


def _carried(jaxpr):
    """Yields the shape of everything that a scan carries, at any depth."""
    for equation in jaxpr.eqns:
        for inner in equation.params.values():
            yield from _carried(inner.jaxpr) if hasattr(inner, "jaxpr") else ()
        if equation.primitive.name == "scan":
            skipped = equation.params["num_consts"]
            carried = equation.invars[skipped:][: equation.params["num_carry"]]
            yield from (x.aval.shape for x in carried)
