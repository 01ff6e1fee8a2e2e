"""Reads a directory that Brevity wrote with others' code and compares it with the dense one that Brevity made of it.

    brevity compress MODEL --grid int4:64 --format compressed-tensors -o packed/   (or gptq, awq)
    brevity convert packed/ dense/ --type f32
    python oracles/directories.py packed/ dense/ [token ids]

compressed-tensors is unpacked by PyPI's package, GPTQ and AWQ bit by bit in torch. With token ids the dense directory is loaded by
transformers, and its next ten greedy tokens are printed, to compare with `brevity run`.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file


def tensors(directory):
    found = {}
    for file in sorted(pathlib.Path(directory).glob("*.safetensors")):
        found.update(load_file(file))
    return found


def codes(words, bits, dim):
    """Codes packed without gaps, lowest bits first, along `dim`."""
    words = (words.to(torch.int64) & 0xFFFFFFFF).movedim(dim, 0)
    stream = (words.unsqueeze(1) >> torch.arange(32).view(1, 32, 1)) & 1
    stream = stream.reshape(-1, words.shape[1])
    count = stream.shape[0] // bits
    stream = stream[: count * bits].reshape(count, bits, -1)
    return (stream << torch.arange(bits).view(1, bits, 1)).sum(1).movedim(0, dim)


def gptq(found, config):
    for name in [name for name in found if name.endswith(".qweight")]:
        stem = name.removesuffix("qweight")
        scales, group = found[stem + "scales"].float(), found[stem + "g_idx"].long()
        code = codes(found[name], config["bits"], 0)[: len(group)]
        zero = codes(found[stem + "qzeros"], config["bits"], 1)[:, : scales.shape[1]] + 1
        yield stem + "weight", (scales[group] * (code - zero[group])).T


def awq(found, config):
    shifts = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7]) * 4  # of each output of a word

    def nibbles(words):
        words = words.to(torch.int64) & 0xFFFFFFFF
        return ((words.unsqueeze(-1) >> shifts) & 15).flatten(1)

    for name in [name for name in found if name.endswith(".qweight")]:
        stem = name.removesuffix("qweight")
        code, zero, scales = nibbles(found[name]), nibbles(found[stem + "qzeros"]), found[stem + "scales"].float()
        repeat = code.shape[0] // scales.shape[0]
        yield stem + "weight", (scales.repeat_interleave(repeat, 0) * (code - zero.repeat_interleave(repeat, 0))).T


def compressed_tensors(found, config):
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

    bits = config["config_groups"]["group_0"]["weights"]["num_bits"]
    for name in [name for name in found if name.endswith(".weight_packed")]:
        stem = name.removesuffix("weight_packed")
        shape, scales = torch.Size(found[stem + "weight_shape"].tolist()), found[stem + "weight_scale"].float()
        zeros = torch.Size([shape[0], scales.shape[1]])
        code = unpack_from_int32(found[name], bits, shape).float()
        zero = unpack_from_int32(found[stem + "weight_zero_point"], bits, zeros, packed_dim=0).float()
        repeat = shape[1] // scales.shape[1]
        yield stem + "weight", scales.repeat_interleave(repeat, 1) * (code - zero.repeat_interleave(repeat, 1))


def main():
    packed, dense, *ids = sys.argv[1:]
    config = json.loads((pathlib.Path(packed) / "config.json").read_text()).get("quantization_config", {})
    readers = {"gptq": gptq, "awq": awq, "compressed-tensors": compressed_tensors}
    expected, worst, count = tensors(dense), 0.0, 0
    if reader := readers.get(config.get("quant_method")):
        for name, weight in reader(tensors(packed), config):
            worst, count = max(worst, (weight - expected[name].float()).abs().max().item()), count + 1
        print(f"{config['quant_method']}: {count} matrices, worst difference {worst}")
        assert count > 0 and worst == 0.0
    if ids:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32)
        text = torch.tensor([[int(token) for token in ids]])
        for _ in range(10):
            text = torch.cat([text, model(text).logits[:, -1:].argmax(-1)], 1)
        print(text[0].tolist())


if __name__ == "__main__":
    main()
