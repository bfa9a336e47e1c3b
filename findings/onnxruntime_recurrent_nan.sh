#!/usr/bin/env bash
# onnxruntime's LSTM and GRU make numbers of a NaN, where its other operators keep it: a broken sensor goes unseen.
#
# Seen with onnxruntime 1.32.0 on a CPU (x86_64). A sequence of three steps, in the second of which one of five inputs is NaN. By the
# operators' definitions all outputs are NaN from there on, and PyTorch's and JAX's are. onnxruntime's RNN gives NaN, and so does the
# cell written with Gemm and Tanh; its LSTM and GRU give numbers, at once and afterwards, in every width that was tried. Their tanh is
# not within 1 either: where all inputs are 1000, outputs of the GRU reach 1.0000005.
#
# Output seen:
#     onnxruntime 1.32.0
#     by hand  NaN of 16 outputs, step by step: [0, 16, 16]
#     RNN      NaN of 16 outputs, step by step: [0, 16, 16]
#     GRU      NaN of 16 outputs, step by step: [0, 0, 0]
#     LSTM     NaN of 16 outputs, step by step: [0, 0, 0]
#     GRU      largest output: 1.0000005
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.3.5
cat >"$folder/nan.py" <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

D, H = 5, 16
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(0.0, 0.3, shape).astype(np.float32)


def session(nodes, inputs, weights, output):
    graph = helper.make_graph(
        nodes,
        "cell",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(x, name) for name, x in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def layer(op):
    """Runs a sequence [T, 1, D] through the operator: [T, H]."""
    size = GATES[op] * H
    weights = {"w": normal(1, size, D), "r": normal(1, size, H), "b": normal(1, 2 * size)}
    node = helper.make_node(op, ["x", *weights], ["y"], hidden_size=H)
    run = session([node], ["x"], weights, "y")
    return lambda x: run.run(None, {"x": x})[0].reshape(len(x), H)


def by_hand(x):
    """Runs a sequence through tanh(W x + R h + b), step by step: [T, H]."""
    weights = {"w": normal(D, H), "r": normal(H, H), "b": normal(H)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["from_x"]),
        helper.make_node("MatMul", ["h", "r"], ["from_h"]),
        helper.make_node("Add", ["from_x", "from_h"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["y"]),
    ]
    run, h, rows = session(nodes, ["x", "h"], weights, "y"), np.zeros((1, H), np.float32), []
    for step in x:
        h = run.run(None, {"x": step, "h": h})[0]
        rows.append(h[0])
    return np.stack(rows)


x = normal(3, 1, D)
x[1, 0, 2] = np.nan
print(f"onnxruntime {onnxruntime.__version__}")
found = {}
for name, run in [("by hand", by_hand), *((op, layer(op)) for op in GATES)]:
    y = run(x)
    found[name] = np.isnan(y).sum(axis=1).tolist()
    print(f"{name:8} NaN of {H} outputs, step by step: {found[name]}")
large = np.full((1, 1, D), 1000.0, np.float32)
largest = max(np.abs(layer("GRU")(large)).max() for _ in range(10))
print(f"GRU      largest output: {largest:.7f}")
assert found == {"by hand": [0, H, H], "RNN": [0, H, H], "GRU": [0, 0, 0], "LSTM": [0, 0, 0]}, "this has changed"
assert largest > 1.0, "this has changed"
PY
"$folder/venv/bin/python" "$folder/nan.py"
