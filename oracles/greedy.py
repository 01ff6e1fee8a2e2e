"""Golden greedy texts: what llama.cpp continues prompts with.

    python oracles/greedy.py LLAMA_COMPLETION BREVITY MODELS [NAME...]     # writes crates/model/tests/golden/greedy.json

MODELS is the folder that BREVITY_MODELS names, BREVITY the program, which converts nano and stories15M to GGUF for
llama.cpp. With names, only those models' texts are made again. Needs the standard library and llama.cpp's
`llama-completion`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "crates" / "model" / "tests" / "golden" / "greedy.json"
TOKENS = 64
NANO = Path(__file__).resolve().parent.parent / "models" / "nano"
MODELS = {
    "nano": "",
    "stories15m": "stories/stories15M.bin",
    "smollm2": "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "smollm2-f32": "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "tinyllama": "tinyllama/tinyllama-1.1b-chat.IQ2_XXS.gguf",
}
PROMPTS = [
    "Once upon a time",
    "The capital of France is",
    "def fibonacci(n):\n",
    "Call me Ishmael. Some years ago",
    "The three laws of thermodynamics are",
    "1 2 3 4 5 6 7",
    "Q: What is the largest planet?\nA:",
    "In the beginning",
    "Dear Sir or Madam,\n",
    "Das ist ein",
]


def complete(binary, model, prompt):
    command = [binary, "-m", str(model), "-p", prompt, "-n", str(TOKENS), "-no-cnv", "--temp", "0", "-t", "1",
               "--no-display-prompt", "--simple-io", "--no-warmup", "--no-escape"]
    result = subprocess.run(command, capture_output=True, check=True)
    return result.stdout.decode("utf-8", "replace")


def as_gguf(brevity, name, model, folder):
    if model.suffix == ".gguf" and not name.endswith("-f32"):
        return model
    out = Path(folder) / "model.gguf"
    subprocess.run([brevity, "convert", str(model), str(out), "--type", "f32", "--force", "--quiet"], check=True)
    return out


def main():
    binary, brevity, models, names = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:]
    texts = json.loads(OUT.read_text())["texts"] if OUT.exists() else {}
    for name in names or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            model = as_gguf(brevity, name, models / MODELS[name] if MODELS[name] else NANO, folder)
            texts[name] = [{"prompt": prompt, "text": complete(binary, model, prompt)} for prompt in PROMPTS]
    texts = {name: texts[name] for name in MODELS if name in texts}
    OUT.write_text(json.dumps({"tokens": TOKENS, "models": MODELS, "texts": texts}, indent=1, ensure_ascii=False) + "\n")


main()
