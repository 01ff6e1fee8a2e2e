"""Writes rows of real weights, importances and the errors of ggml's own quantiser on them.

    gcc -O2 -fopenmp -I$GGML/include oracles/ggml_errors.c $BUILD/libggml-base.a -lstdc++ -lm -lpthread -o ggml_errors
    python oracles/quantize_golden.py ./ggml_errors MODELS nano.imatrix.gguf crates/formats/tests/golden/quantize

nano.imatrix.gguf: `llama-imatrix -m nano.gguf -f crates/brevity/texts/calibration.txt -c 512 --chunks 60 -o nano.imatrix.gguf`.
For each NAME: NAME.COLS.f32, NAME.importance.f32 and NAME.txt (type, squared error, weighted error with importances). The rows of
TinyStories 15M (weights.f32, importance.f32, ggml.txt) are older than this script and stay. Importances of models without an imatrix
are log-normal (sigma 1.5), as wide as those of real layers.
"""

import pathlib
import subprocess
import sys

import gguf
import numpy as np
from safetensors import safe_open


def bf16_rows(path, name, rows):
    with safe_open(path, "pt") as file:
        return file.get_slice(name)[:rows].float().numpy()


def main():
    tool, models, imatrix, out = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])
    here = pathlib.Path(__file__).parent.parent
    rng = np.random.default_rng(3)
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(imatrix).tensors}
    down = tensors["blk.2.ffn_down.weight.in_sum2"].reshape(-1) / tensors["blk.2.ffn_down.weight.counts"].reshape(-1)
    random = lambda cols: np.exp(1.5 * rng.standard_normal(cols))
    samples = {
        "nano": (bf16_rows(here / "models/nano/model.safetensors", "model.layers.2.mlp.down_proj.weight", 12), down),
        "minilm": (bf16_rows(models / "minilm/model.safetensors", "encoder.layer.3.output.dense.weight", 8), random(1536)),
        "random": (bf16_rows(models / "random-1b/model.safetensors", "model.layers.0.mlp.gate_proj.weight", 6), random(2048)),
    }
    for name, (weights, importance) in samples.items():
        cols = weights.shape[1]
        files = out / f"{name}.{cols}.f32", out / f"{name}.importance.f32"
        np.ascontiguousarray(weights, "<f4").tofile(files[0])
        np.ascontiguousarray(importance, "<f4").tofile(files[1])
        lines = subprocess.run([tool, files[0], str(cols), files[1]], check=True, capture_output=True, text=True).stdout
        (out / f"{name}.txt").write_text("".join(" ".join(line.split()[:3]) + "\n" for line in lines.splitlines()))


if __name__ == "__main__":
    main()
