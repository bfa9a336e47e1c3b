"""Expressions of ONNX operators, and the model that computes some of them.

An expression is a value: `apply("Add", x, constant(1.0))` is a tree, of which a part
that occurs twice is computed once.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ppo_jax.types import Array

OPSET = 18  # rsl_rl's
IR_VERSION = 8  # that came with it: every runtime that knows the opset reads it


class Node(NamedTuple):
    """An operator and what it is applied to; an input or a constant has no operator."""

    op: str
    inputs: tuple["Value", ...]
    attributes: Mapping[str, Any]
    num_outputs: int = 1
    name: str = ""  # of an input or a constant
    data: Any = None  # of a constant


class Value(NamedTuple):
    """One output of a node."""

    node: Node
    index: int = 0


ABSENT = Value(Node("", (), {}))  # an operator's optional input, left away


class Interface(NamedTuple):
    """What goes into a model or comes out of it."""

    name: str
    shape: tuple[int | str, ...]  # a word for a number that is free
    dtype: Any = np.float32


def placeholder(name: str) -> Value:
    """Returns an input of the model."""
    return Value(Node("", (), {}, name=name))


def constant(data: Any, name: str = "", dtype: Any = np.float32) -> Value:
    """Returns an array that the file holds."""
    return Value(Node("", (), {}, name=name, data=np.asarray(data, dtype)))


def apply(op: str, *inputs: Value, **attributes: Any) -> Value:
    """Returns an operator's only output."""
    return Value(Node(op, inputs, attributes))


def apply_many(
    op: str, num_outputs: int, *inputs: Value, **attributes: Any
) -> tuple[Value, ...]:
    """Returns all outputs of an operator."""
    node = Node(op, inputs, attributes, num_outputs)
    return tuple(Value(node, index) for index in range(num_outputs))


def linear(layer: Mapping[str, Array], x: Value, name: str = "") -> Value:
    """Returns x W + b of a layer {"kernel": [in, out], "bias": [out]}."""
    weight = constant(layer["kernel"], name and f"{name}.weight")
    bias = constant(layer["bias"], name and f"{name}.bias")
    return apply("Gemm", x, weight, bias)


def build(
    inputs: list[Interface],
    outputs: list[tuple[Interface, Value]],
    metadata: Mapping[str, str],
    producer_version: str,
) -> Any:
    """Returns the model that computes values from inputs, checked by onnx.

    Args:
      inputs: of the model; those of `placeholder` have the same names.
      outputs: of the model, and what they are.
      metadata: kept in the file as it is.
      producer_version: of this project.
    """
    from onnx import checker, helper

    operators, initializers = _operators(outputs)
    graph = helper.make_graph(
        operators,
        "policy",
        [_describe(interface) for interface in inputs],
        [_describe(interface) for interface, _ in outputs],
        initializers,
    )
    model = helper.make_model(
        graph,
        producer_name="ppo_jax",
        producer_version=producer_version,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, dict(metadata))
    checker.check_model(model, full_check=True)
    return model


def _operators(outputs: list[tuple[Interface, Value]]) -> tuple[list[Any], list[Any]]:
    """Returns the operators that compute the outputs, in order, and the constants."""
    from onnx import helper, numpy_helper

    names: dict[tuple[int, int], str] = {}
    initializers, operators = [], []
    for count, node in enumerate(_in_order([value for _, value in outputs])):
        own = node.name or f"{node.op or 'constant'}_{count}"
        own = "" if node is ABSENT.node else own
        for index in range(node.num_outputs):
            names[id(node), index] = f"{own}.{index}" if index else own
        if node.data is not None:
            initializers.append(numpy_helper.from_array(node.data, own))
        elif node.op:
            ins = [names[id(value.node), value.index] for value in node.inputs]
            outs = [names[id(node), index] for index in range(node.num_outputs)]
            operators.append(
                helper.make_node(node.op, ins, outs, own, **node.attributes)
            )
    for interface, value in outputs:  # an output's name is promised
        source = names[id(value.node), value.index]
        operators.append(helper.make_node("Identity", [source], [interface.name]))
    return operators, initializers


def _in_order(values: list[Value]) -> Iterator[Node]:
    """Yields every node once, after those that it reads."""
    seen: set[int] = set()

    def visit(node: Node) -> Iterator[Node]:
        if id(node) in seen:
            return
        seen.add(id(node))
        for value in node.inputs:
            yield from visit(value.node)
        yield node

    for value in values:
        yield from visit(value.node)


def _describe(interface: Interface) -> Any:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(interface.dtype))
    return helper.make_tensor_value_info(interface.name, kind, interface.shape)
