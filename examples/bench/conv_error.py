"""The rounding error of PyTorch's own 3 x 3 convolution, beside that of cones' two methods:

    python conv_error.py
    cargo test --release --lib errors_against_f64 -- --nocapture

Both: 320 channels of unit normals, weights of unit normals, root mean square of the difference from f64, relative.
"""
import torch

torch.manual_seed(0)
x, w = torch.randn(2, 320, 64, 64), torch.randn(320, 320, 3, 3)
exact = torch.nn.functional.conv2d(x.double(), w.double(), padding=1)
error = torch.nn.functional.conv2d(x, w, padding=1).double() - exact
print(f"PyTorch {torch.__version__}: {(error.square().mean() / exact.square().mean()).sqrt():.2e}")
