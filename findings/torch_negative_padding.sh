#!/usr/bin/env bash
# A convolution's padding may be negative, and then the word for what is padded decides whether pixels are cut off or it fails.
#
# Seen with torch 2.11.0. Whoever computes "same" padding as (kernel - stride) / 2, as image encoders do, gets -1 where the stride is
# larger than the kernel. With padding_mode "reflect", "replicate" or "circular" torch then cuts pixels off at the border,
# without a word: the mode pads by `F.pad`, which takes negative numbers. With "zeros" the same layer raises. So an experiment
# that changes nothing but the word changes the size of the image, or ends.
#
# Output seen:
#     torch 2.11.0, kernel 2, stride 4, padding -1, image 12 x 12
#     reflect: 3 x 3, the border's pixels have no gradient
#     replicate: 3 x 3, the border's pixels have no gradient
#     circular: 3 x 3, the border's pixels have no gradient
#     zeros: negative padding is not supported
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv" torch==2.11.0 numpy
cat >"$folder/pad.py" <<'PY'
import torch
from torch import nn

kernel, stride, padding = 2, 4, -1
version = torch.__version__.partition("+")[0]
print(f"torch {version}, kernel {kernel}, stride {stride}, padding {padding}, image 12 x 12")
for mode in ("reflect", "replicate", "circular"):
    image = torch.rand(1, 1, 12, 12, requires_grad=True)
    layer = nn.Conv2d(1, 1, kernel, stride, padding, padding_mode=mode)
    out = layer(image)
    out.sum().backward()
    border = image.grad[0, 0].clone()
    border[1:-1, 1:-1] = 0
    assert not border.any(), f"{mode} reads the border: this has changed"
    print(f"{mode}: {out.shape[2]} x {out.shape[3]}, the border's pixels have no gradient")
    assert out.shape[2:] == (3, 3)
try:
    nn.Conv2d(1, 1, kernel, stride, padding)(torch.rand(1, 1, 12, 12))
except RuntimeError as error:
    print(f"zeros: {error}")
    assert "negative padding" in str(error)
else:
    raise SystemExit("zeros takes a negative padding: this has changed")
PY
"$folder/venv/bin/python" "$folder/pad.py"
