"""rsl_rl's model files with parts that are missing, wrong or of another type."""

import re
import warnings
from types import SimpleNamespace

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: uv sync --extra isaaclab")

import torch

from ppo_jax import Continuous
from ppo_jax.learning.ppo import make_ppo
from ppo_jax.policies.models import ModelConfig
from ppo_jax.rsl_rl.files import load_model, save_model
from ppo_jax.runs.config import Config, parts_of

MODEL = ModelConfig(hidden_dims=(8, 6), obs_normalization=True)
CONFIG = Config(actor=MODEL, critic=MODEL)
WEIGHT, BIAS = "mlp.2.weight", "mlp.4.bias"
ESCAPE = "\x1b"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file as rsl_rl writes it, of a policy that has learned for a while."""
    path = tmp_path_factory.mktemp("whole") / "model_9.pt"
    network, ppo_config, hparams = parts_of(CONFIG, Continuous(3))
    obs = {"policy": np.zeros((1, 5), np.float32)}
    state = make_ppo(network, ppo_config).init(jax.random.key(0), obs, hparams)
    rng = np.random.default_rng(0)
    draw = lambda x: np.asarray(rng.uniform(0.5, 1.0, x.shape), x.dtype) + (x.ndim == 0)
    save_model(path, CONFIG, jax.tree.map(draw, state)._replace(iteration=10))
    return path


@pytest.fixture
def changed(whole, tmp_path):
    """Writes the file again after a change; returns its path."""

    def write(change):
        saved = torch.load(whole, weights_only=True)
        other = change(saved)
        torch.save(saved if other is None else other, tmp_path / "model_1.pt")
        return tmp_path / "model_1.pt"

    return write


def put(value, *keys):
    """A change: the value, or what a function makes of the old one, in its place."""

    def change(saved):
        place = saved
        for key in keys[:-1]:
            place = place[key]
        old = place[keys[-1]]
        place[keys[-1]] = value(old) if callable(value) else value

    return change


def drop(*keys):
    def change(saved):
        place = saved
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


def with_number(number, at=0):
    def value(tensor):
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        tensor.view(-1)[at] = number
        return tensor

    return value


def actor(name):
    return "actor_state_dict", name


OPTIMIZER = "optimizer_state_dict"
GROUP = (OPTIMIZER, "param_groups", 0)
NAN, INF = float("nan"), float("inf")
FAULTS = {
    "a list": (lambda x: [x], "it has no 'actor_state_dict', but is a list"),
    "a tensor": (lambda x: torch.zeros(3), "has no 'actor_state_dict', but is a Tens"),
    "no actor": (drop("actor_state_dict"), "it has no 'actor_state_dict'"),
    "no critic": (drop("critic_state_dict"), "it has no 'critic_state_dict'"),
    "no optimizer": (drop(OPTIMIZER), "it has no 'optimizer_state_dict'"),
    "no iter": (drop("iter"), "it has no 'iter'"),
    "actor a list": (put([], "actor_state_dict"), "'actor_state_dict' is a list"),
    "critic None": (put(None, "critic_state_dict"), "'critic_state_dict' is a None"),
    "empty actor": (put({}, "actor_state_dict"), "actor has no 'mlp.0.weight'"),
    "no bias": (drop(*actor(BIAS)), "of the actor has no 'mlp.4.bias'"),
    "no variance": (drop(*actor("obs_normalizer._var")), "no 'obs_normalizer._var'"),
    "no count": (drop(*actor("obs_normalizer.count")), "no 'obs_normalizer.count'"),
    "weight a list": (put([[1.0]], *actor(WEIGHT)), "is a list, not a tensor"),
    "weight a number": (put(1.0, *actor(WEIGHT)), "is a float, not a tensor"),
    "weight None": (put(None, *actor(WEIGHT)), "is a NoneType, not a tensor"),
    "integers": (put(lambda x: x.long(), *actor(WEIGHT)), "'mlp.2.weight' .* is int64"),
    "bool": (put(lambda x: x > 0, *actor(WEIGHT)), "is bool: weights are floating"),
    "complex": (put(lambda x: x + 0j, *actor(WEIGHT)), "is complex64: weights are"),
    "sparse": (put(lambda x: x.to_sparse(), *actor(WEIGHT)), "is no plain tensor"),
    "meta": (put(lambda x: x.to("meta"), *actor(WEIGHT)), "is no plain tensor"),
    "NaN": (put(with_number(NAN), *actor(WEIGHT)), "'mlp.2.weight' .* is not finite"),
    "inf": (put(with_number(INF), "critic_state_dict", BIAS), "'mlp.4.bias' .*critic"),
    "1e300": (
        put(lambda x: x.double() * 1e300, *actor(WEIGHT)),
        "is not finite in float32",
    ),
    "a scalar": (put(torch.zeros(()), *actor("mlp.0.weight")), r"has the shape \[\]"),
    "a vector": (put(torch.zeros(3), *actor("mlp.0.weight")), r"has the shape \[3\]"),
    "transposed": (put(lambda x: x.T, *actor(WEIGHT)), r"has the shape \[8, 6\]"),
    "a layer too many": (put(torch.zeros(1), *actor(BIAS)), r"\[1\] .* \[3\]"),
    "std NaN": (
        put(with_number(NAN), *actor("distribution.std_param")),
        "'distribution.std_param' .* is not finite",
    ),
    "negative variance": (
        put(with_number(-1.0), *actor("obs_normalizer._var")),
        "'obs_normalizer._var' of 'actor_state_dict' has a negative",
    ),
    "negative count": (
        put(torch.tensor(-1), *actor("obs_normalizer.count")),
        "'obs_normalizer.count' .* negative",
    ),
    "count a vector": (
        put(torch.tensor([1, 2]), *actor("obs_normalizer.count")),
        r"'obs_normalizer.count' .* has the shape \[2\]",
    ),
    "another std": (
        put(lambda x: 2 * x, *actor("obs_normalizer._std")),
        "'obs_normalizer._std' .* is not the root of the variance",
    ),
    "iter a word": (put("9", "iter"), "'iter' is '9', no number of an iteration"),
    "iter a half": (put(9.5, "iter"), "'iter' is 9.5"),
    "iter NaN": (put(NAN, "iter"), "'iter' is nan"),
    "iter negative": (put(-1, "iter"), "'iter' is -1"),
    "iter large": (put(2**40, "iter"), "'iter' is 1099511627776"),
    "iter long": (put("x\n" * 99, "iter"), r"'iter' is .*\.\.\., no number"),
    "optimizer a list": (put([], OPTIMIZER), "'optimizer_state_dict' is a list"),
    "no groups": (drop(OPTIMIZER, "param_groups"), "has not one group of parameters"),
    "groups empty": (put([], OPTIMIZER, "param_groups"), "has not one group"),
    "group a list": (put([], *GROUP), "has not one group of parameters"),
    "no rate": (drop(*GROUP, "lr"), "the optimizer's 'lr' is None, no number"),
    "rate a word": (put("fast", *GROUP, "lr"), "'lr' is 'fast'"),
    "rate NaN": (put(NAN, *GROUP, "lr"), "'lr' is nan"),
    "rate negative": (put(-1e-3, *GROUP, "lr"), "'lr' is -0.001"),
    "rate 1e300": (put(1e300, *GROUP, "lr"), r"'lr' is 1e\+300"),
    "no state": (drop(OPTIMIZER, "state"), "'optimizer_state_dict' has no 'state'"),
    "state a list": (put([], OPTIMIZER, "state"), "has no 'state'"),
    "state of a word": (put({"a": {}}, OPTIMIZER, "state"), "holds 'a', no parameter"),
    "state too far": (
        put(lambda x: {99: x[0]}, OPTIMIZER, "state"),
        "remembers a parameter 99, but the models have 13",
    ),
    "no memory": (drop(OPTIMIZER, "state", 2, "exp_avg"), "has no 'exp_avg' of param"),
    "no step": (drop(OPTIMIZER, "state", 2, "step"), "has no 'step' of parameter 2"),
    "memory of a shape": (
        put(torch.zeros(7), OPTIMIZER, "state", 2, "exp_avg"),
        r"'exp_avg' of 'mlp.0.bias' of the actor has the shape \[7\], not \[8\]",
    ),
    "memory NaN": (
        put(with_number(NAN), OPTIMIZER, "state", 2, "exp_avg"),
        "'exp_avg' of parameter 2 .* is not finite",
    ),
    "memory negative": (
        put(with_number(-1.0), OPTIMIZER, "state", 2, "exp_avg_sq"),
        "'exp_avg_sq' of 'mlp.0.bias' .* negative",
    ),
    "memory a list": (put([1.0], OPTIMIZER, "state", 2, "exp_avg"), "is a list, not"),
    "of another kind": (drop(*GROUP, "betas"), "trained with another one, whose"),
    "an old one": (lambda x: {"model_state_dict": {}}, "before version 4: give one of"),
    "a student": (lambda x: {"student_state_dict": {}}, "has no 'actor_state_dict'"),
    "an object": (
        put(SimpleNamespace(), "infos"),
        r"tensors only, but an object of types.SimpleNamespace; nothing of it was run",
    ),
}


def refusal(path, config=CONFIG):
    """The sentence with which a file is refused; it must be one, and name the file."""
    with pytest.raises(ValueError) as error:
        load_model(path, config)
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence and ESCAPE not in sentence
    assert not re.search(r"trust|weights_only|safe_globals|http", sentence)
    return sentence


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(changed, fault):
    change, message = FAULTS[fault]
    assert re.search(message, refusal(changed(change)))


def test_the_whole_file_is_read(whole):
    """What the faults are faults of."""
    state = load_model(whole, CONFIG)
    assert int(state.iteration) == 10


class Evil:
    """Whoever unpickles it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def test_nothing_in_a_file_is_run(changed, tmp_path):
    path = changed(put(Evil(tmp_path / "made"), "infos"))
    assert "nothing of it was run" in refusal(path)
    assert not (tmp_path / "made").exists()


def test_a_folder_is_no_file(tmp_path):
    assert "it is a folder: give a model_*.pt in it" in refusal(tmp_path)


def test_a_cut_file_is_refused_wherever_it_is_cut(whole, tmp_path):
    data, path = whole.read_bytes(), tmp_path / "model_1.pt"
    for length in np.linspace(0, len(data) - 1, 60).astype(int):
        path.write_bytes(data[:length])
        assert "it is no file of torch, or a damaged one" in refusal(path)


def test_a_flipped_bit_is_refused_or_changes_nothing(whole, tmp_path):
    """Never another policy, and never anything but a sentence."""
    data, path = whole.read_bytes(), tmp_path / "model_1.pt"
    wanted, rng = load_model(whole, CONFIG), np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(data), 150):
        bad = bytearray(data)
        bad[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        try:
            state = load_model(path, CONFIG)
        except ValueError:
            refused += 1
            refusal(path)
            continue
        jax.tree.map(np.testing.assert_array_equal, state, wanted)
    assert refused > 50


# --- types of weights


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_weights_of_half_the_size_are_read_exactly(changed, name):
    """Without a word: float32 holds all of them."""
    dtype = getattr(torch, name)
    path = changed(
        lambda saved: {
            key: {
                x: y.to(dtype) if torch.is_floating_point(y) else y
                for x, y in part.items()
            }
            if key in ("actor_state_dict", "critic_state_dict")
            else part
            for key, part in saved.items()
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = load_model(path, CONFIG)
    saved = torch.load(path, weights_only=True)["actor_state_dict"]
    weight = state.params["actor"]["mlp"]["layer_1"]["kernel"]
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight.T, saved[WEIGHT].double().numpy())


def test_float64_is_rounded_and_said(changed):
    def finer(saved):
        weights = saved["actor_state_dict"]
        for name in (WEIGHT, BIAS):
            weights[name] = weights[name].double() + 1e-12

    path = changed(finer)
    message = r"'mlp.2.weight' of 'actor_state_dict' and 1 more of float64 were rounded"
    with pytest.warns(UserWarning, match=message):
        state = load_model(path, CONFIG)
    saved = torch.load(path, weights_only=True)["actor_state_dict"]
    weight = state.params["actor"]["mlp"]["layer_1"]["kernel"]
    np.testing.assert_array_equal(weight.T, saved[WEIGHT].float().numpy())


def test_float64_that_float32_holds_is_read_without_a_word(changed):
    path = changed(put(lambda x: x.double(), *actor(WEIGHT)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(path, CONFIG)


def test_weights_with_a_gradient_are_weights(changed, whole):
    """What `torch.save` of parameters, and not of a state dict, keeps."""
    path = changed(put(lambda x: torch.nn.Parameter(x), *actor(WEIGHT)))
    read, wanted = load_model(path, CONFIG), load_model(whole, CONFIG)
    jax.tree.map(np.testing.assert_array_equal, read, wanted)
