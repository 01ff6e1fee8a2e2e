"""Writes the imatrix golden files: a tiny random mixture of experts, read by llama-imatrix in both layouts.

    python oracles/imatrix_golden.py LLAMA_BIN crates/formats/tests/golden/imatrix

`tiny.gguf` and `tiny.dat` are what llama-imatrix wrote after two chunks of 64 tokens of README.md; `tiny.txt` is what PyPI gguf
reads there: name, columns, values, their sum, counts. Some experts saw no token.
"""

import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

COLS, FFN, HEADS, EXPERTS, USED = 32, 64, 2, 24, 2


def write_model(path):
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    tokens = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)] + ["▁".encode(), b"e", b"t", b"th", b"the"]
    kinds = [2, 3, 3] + [6] * 256 + [1] * 5
    writer.add_context_length(128)
    writer.add_embedding_length(COLS)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(COLS // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(USED)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([float(-i) for i in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def add(name, *shape):
        ones = name.endswith("norm.weight")
        writer.add_tensor(name, np.ones(shape, np.float32) if ones else rng.standard_normal(shape, np.float32) * 0.3)

    add("token_embd.weight", len(tokens), COLS)
    add("output_norm.weight", COLS)
    add("output.weight", len(tokens), COLS)
    for name in ["attn_norm", "ffn_norm"]:
        add(f"blk.0.{name}.weight", COLS)
    for name in ["attn_q", "attn_k", "attn_v", "attn_output"]:
        add(f"blk.0.{name}.weight", COLS, COLS)
    add("blk.0.ffn_gate_inp.weight", EXPERTS, COLS)
    for name in ["ffn_gate_exps", "ffn_up_exps"]:
        add(f"blk.0.{name}.weight", EXPERTS, FFN, COLS)
    add("blk.0.ffn_down_exps.weight", EXPERTS, COLS, FFN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    tools, out = pathlib.Path(sys.argv[1]).absolute(), pathlib.Path(sys.argv[2]).absolute()
    out.mkdir(parents=True, exist_ok=True)
    readme = pathlib.Path(__file__).parent.parent / "README.md"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_model(folder / "tiny-moe.gguf")
        (folder / "calibration.txt").write_text(readme.read_text()[:2000])
        for layout in ["gguf", "dat"]:
            subprocess.run(
                [tools / "llama-imatrix", "-m", "tiny-moe.gguf", "-f", "calibration.txt", "-o", out / f"tiny.{layout}", "-c", "64",
                 "-b", "64", "--chunks", "2", "--output-format", layout, "--no-ppl", "-t", "1"],
                cwd=folder, check=True, capture_output=True)
    with open(out / "tiny.txt", "w") as text:
        tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(out / "tiny.gguf").tensors}
        for name in sorted(name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")):
            sums, counts = tensors[name + ".in_sum2"], tensors[name + ".counts"].reshape(-1)
            print(name, sums.shape[-1], sums.size, repr(float(sums.sum(dtype=np.float64))), *map(int, counts), file=text)


if __name__ == "__main__":
    main()
