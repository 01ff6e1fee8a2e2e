#!/usr/bin/env python3
"""nano: an 8-million-parameter Llama trained on two CPU cores, from data to files.

The whole recipe, one subcommand per stage (every path is an argument):

  train.py fetch     --pkgs DIR                      download the source packages named below
  train.py corpus    --pkgs DIR --enwik8 FILE --out DIR   write wiki.jsonl / code.jsonl
  train.py tokenizer --data DIR                      train the 8192-entry byte-level BPE
  train.py encode    --data DIR                      token streams (uint16)
  train.py train     --data DIR --ckpt DIR --deadline HH:MM   train (resumes by itself)
  train.py export    --data DIR --ckpt FILE --out DIR     Hugging Face layout, bf16
  train.py finetune  --data DIR --ckpt FILE --save FILE --kind code   short fine-tune
  train.py curve     --log FILE --out FILE.svg       validation curve of a training log
  train.py deltas    --final DIR --out DIR CKPT:NAME ...  compact differences

Needs torch, tokenizers, safetensors, numpy.
"""
import argparse, hashlib, html, json, math, os, queue, random, re, subprocess, sys, tarfile, textwrap, time
from pathlib import Path

VOCAB = 8192
EOT = "<|endoftext|>"

# ---------------------------------------------------------------- architecture
CONFIG = dict(
    architectures=["LlamaForCausalLM"], model_type="llama",
    vocab_size=VOCAB, hidden_size=256, intermediate_size=768,
    num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
    max_position_embeddings=2048, rope_theta=10000.0, rms_norm_eps=1e-5,
    hidden_act="silu", attention_bias=False, mlp_bias=False, attention_dropout=0.0,
    tie_word_embeddings=True, initializer_range=0.02,
    bos_token_id=0, eos_token_id=0, use_cache=True, torch_dtype="bfloat16",
)

# ---------------------------------------------------------------- text and code sources
# enwik8 (Wikipedia text, CC BY-SA / GFDL): only these bytes are used. The first million is the
# evaluation text and is never read here.
ENWIK_FROM, ENWIK_TO = 1_000_000, 95_000_000

# name -> (licence, cap in bytes of what is kept). Source distributions.
PYPI_SDIST = {
    "Django": ("BSD-3-Clause", 9_000_000), "Sphinx": ("BSD-2-Clause", 2_000_000),
    "Flask": ("BSD-3-Clause", 1_000_000), "Werkzeug": ("BSD-3-Clause", 1_000_000),
    "pytest": ("MIT", 2_500_000), "attrs": ("MIT", 800_000), "Twisted": ("MIT", 4_000_000),
    "scrapy": ("BSD-3-Clause", 1_800_000), "celery": ("BSD-3-Clause", 2_000_000),
    "tornado": ("Apache-2.0", 1_200_000),
}
# installed wheels, read from site-packages: import directory -> (package, licence, cap)
PYPI_WHEEL = {
    "torch": ("torch", "BSD-3-Clause", 4_000_000), "numpy": ("numpy", "BSD-3-Clause", 2_500_000),
    "transformers": ("transformers", "Apache-2.0", 2_500_000), "sympy": ("sympy", "BSD-3-Clause", 3_000_000),
    "networkx": ("networkx", "BSD-3-Clause", 2_000_000), "pydantic": ("pydantic", "MIT", 1_000_000),
    "pygments": ("Pygments", "BSD-2-Clause", 600_000), "requests": ("requests", "Apache-2.0", 300_000),
    "rich": ("rich", "MIT", 800_000), "setuptools": ("setuptools", "MIT", 700_000),
    "huggingface_hub": ("huggingface_hub", "Apache-2.0", 1_000_000), "jinja2": ("Jinja2", "BSD-3-Clause", 500_000),
    "click": ("click", "BSD-3-Clause", 400_000), "fsspec": ("fsspec", "BSD-3-Clause", 500_000),
    "urllib3": ("urllib3", "MIT", 400_000),
}
STDLIB = ("Python standard library", "PSF-2.0", 7_000_000)
# name -> version requirement; the licence field of each Cargo.toml is checked again (MIT or Apache-2.0)
CRATES = {
    "serde": "1", "serde_json": "1", "tokio": "1", "regex": "1", "regex-automata": "0.4", "clap": "4",
    "clap_builder": "4", "rayon": "1", "itertools": "0.14", "anyhow": "1", "thiserror": "2", "rand": "0.9",
    "ndarray": "0.16", "bytes": "1", "log": "0.4", "syn": "2", "memchr": "2", "nom": "8", "chrono": "0.4",
    "uuid": "1", "toml": "0.8", "half": "2", "hashbrown": "0.15", "indexmap": "2", "crossbeam-channel": "0.5",
    "crossbeam-epoch": "0.9", "futures-util": "0.3", "hyper": "1", "axum": "0.8", "tracing": "0.1",
    "tracing-subscriber": "0.3", "num-bigint": "0.4", "petgraph": "0.8", "flate2": "1", "base64": "0.22",
    "url": "2", "bitflags": "2", "smallvec": "1", "pulldown-cmark": "0.13", "image": "0.25",
}
CRATE_CAP = 900_000
NPM = {"lodash": ("MIT", 700_000), "express": ("MIT", 300_000), "axios": ("MIT", 500_000),
       "commander": ("MIT", 300_000), "vue": ("MIT", 500_000)}
EXTENSIONS = (".py", ".rs", ".js", ".mjs", ".ts", ".c", ".h", ".md", ".rst", ".txt", ".toml", ".html", ".css", ".cfg", ".pyi")


def fetch(a):
    pk = Path(a.pkgs)
    (pk / "pypi").mkdir(parents=True, exist_ok=True)
    (pk / "npm").mkdir(exist_ok=True)
    (pk / "rs" / "src").mkdir(parents=True, exist_ok=True)
    for n in PYPI_SDIST:
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", n], cwd=pk / "pypi", check=True)
    for n in NPM:
        subprocess.run(["npm", "pack", n], cwd=pk / "npm", check=True)
    (pk / "rs" / "src" / "lib.rs").write_text("")
    (pk / "rs" / "Cargo.toml").write_text('[package]\nname = "scratch"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n'
                                         + "".join(f'{n} = "{v}"\n' for n, v in CRATES.items()))
    subprocess.run(["cargo", "vendor", "--versioned-dirs"], cwd=pk / "rs", check=True)


# ---------------------------------------------------------------- corpus
def clean_wiki(page):
    """Plain prose of one wiki page, or None where there is little of it."""
    m = re.search(r"<title>(.*?)</title>", page)
    t = re.search(r"<text[^>]*>(.*)</text>", page, re.S)
    if not m or not t or t.group(1).lstrip()[:9].upper() == "#REDIRECT":
        return None
    s = html.unescape(html.unescape(t.group(1)))
    s = re.sub(r"<!--.*?-->", "", s, flags=re.S)
    s = re.sub(r"<(math|ref|gallery|table|timeline|nowiki|div)\b.*?</\1>", "", s, flags=re.S | re.I)
    s = re.sub(r"\{\|.*?\n\|\}", "", s, flags=re.S)
    for _ in range(4):
        n = re.sub(r"\{\{[^{}]*\}\}", "", s)
        if n == s:
            break
        s = n
    s = re.sub(r"<br ?/?>", "\n", s)
    s = re.sub(r"<[^<>\n]*>", "", s)
    for _ in range(3):
        s = re.sub(r"\[\[(?:image|file|category|[a-z\-]{2,12}):[^\[\]]*\]\]", "", s, flags=re.I)
        s = re.sub(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1", s)
    s = re.sub(r"\[https?://\S+ ?([^\]\n]*)\]", r"\1", s)
    s = s.replace("'''", "").replace("''", "")
    s = re.sub(r"^=+ *(.*?) *=+ *$", r"\1", s, flags=re.M)
    s = re.sub(r"^[ |!{].*$", "", s, flags=re.M)
    s = re.sub(r"^[*#:;]+ *", "* ", s, flags=re.M)
    s = re.sub(r"[ \t]+\n", "\n", s)
    s = re.sub(r"\n{3,}", "\n\n", s).strip()
    if len(s) < 400 or "As of the census" in s:
        return None
    cut = re.search(r"\n(See also|External links|References|Further reading)\n", s)
    if cut and cut.start() > 400:
        s = s[:cut.start()].rstrip()
    return html.unescape(m.group(1)) + "\n\n" + s + "\n"


def hard_wrap(s, width):
    out = []
    for line in s.split("\n"):
        out += textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) if line else [""]
        if line and not line.startswith("*"):
            out.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip() + "\n"


def wiki_docs(path, rng):
    data = Path(path).read_bytes()[:ENWIK_TO]
    start = data.index(b"  <page>", ENWIK_FROM)
    data = data[start:]
    hold = len(data) - 400_000                       # the tail is held out for validation
    hold = data.index(b"  <page>", hold)
    def docs(b):
        return re.findall(r"  <page>.*?</page>\n", b.decode("utf-8", "replace"), re.S)
    train = []
    for p in docs(data[:hold]):
        c = clean_wiki(p) if rng.random() < 0.45 else None
        if c is None:
            train.append(p)
        else:
            train.append(hard_wrap(c, rng.choice((64, 68, 70, 72, 75, 78))) if rng.random() < 0.5 else c)
    rng.shuffle(train)
    return train, docs(data[hold:])


def keep_text(b):
    if not 200 <= len(b) <= 80_000:
        return None
    try:
        s = b.decode("utf-8")
    except UnicodeDecodeError:
        return None
    lines = s.count("\n") + 1
    if len(s) / lines > 120 or len(s) / lines < 8 or "\0" in s:
        return None
    digits = sum(c.isdigit() for c in s)
    return s if digits < 0.15 * len(s) else None


def code_docs(pkgs, rng, log=print):
    import sysconfig
    seen, docs = set(), []
    def take(label, licence, cap, items):
        items = list(items)
        rng.shuffle(items)
        # documentation first, tests last, up to the cap
        items.sort(key=lambda x: (not x[0].endswith((".md", ".rst", ".txt")), "test" in x[0].lower()))
        got = n = 0
        for name, read in items:
            if not name.endswith(EXTENSIONS) or "locale/" in name or "changelog" in name.lower():
                continue
            s = keep_text(read())
            if s is None or got + len(s) > cap:
                continue
            h = hashlib.sha1(s.encode()).digest()
            if h in seen:
                continue
            seen.add(h)
            docs.append(s)
            got += len(s)
            n += 1
        log(f"  {label:28s} {licence:18s} {n:5d} files {got/1e6:6.2f} MB")
    def tree(d):
        for p in sorted(Path(d).rglob("*")):
            if p.is_file() and p.suffix in EXTENSIONS and "site-packages" not in str(p.relative_to(d)):
                yield str(p.relative_to(d)), p.read_bytes
    def tar(f):
        with tarfile.open(f) as t:
            for m in t:
                if m.isfile() and m.size < 100_000:
                    b = t.extractfile(m).read()
                    yield m.name, (lambda b=b: b)
    for n, (lic, cap) in PYPI_SDIST.items():
        for f in sorted((pkgs / "pypi").glob("*.tar.gz")):
            if f.name.lower().startswith(n.lower() + "-"):
                take(f.name[:-7], lic, cap, tar(f))
    site = Path(sysconfig.get_paths()["purelib"])
    for d, (n, lic, cap) in PYPI_WHEEL.items():
        if (site / d).is_dir():
            take(n, lic, cap, tree(site / d))
    take(*STDLIB, tree(sysconfig.get_paths()["stdlib"]))
    for n in CRATES:
        for d in sorted((pkgs / "rs" / "vendor").glob(f"{n}-[0-9]*")):
            lic = re.search(r'^license *= *"(.*)"', (d / "Cargo.toml").read_text(), re.M)
            lic = lic.group(1) if lic else ""
            if "MIT" in lic or "Apache-2.0" in lic:
                take(d.name, lic, CRATE_CAP, tree(d))
    for n, (lic, cap) in NPM.items():
        for f in sorted((pkgs / "npm").glob(f"{n}-*.tgz")):
            take(f.name[:-4], lic, cap, tar(f))
    rng.shuffle(docs)
    return docs


def corpus(a):
    rng = random.Random(1234)
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    w, wv = wiki_docs(a.enwik8, rng)
    c = code_docs(Path(a.pkgs), rng)
    nv = max(1, len(c) // 150)
    for name, d in (("wiki", w), ("wiki_val", wv), ("code", c[nv:]), ("code_val", c[:nv])):
        with open(out / f"{name}.jsonl", "w") as f:
            for s in d:
                f.write(json.dumps(s) + "\n")
        print(name, len(d), "documents", sum(len(s.encode()) for s in d) / 1e6, "MB")


def read_docs(path, rng=None, limit=None):
    n = 0
    with open(path) as f:
        for line in f:
            s = json.loads(line)
            yield s
            n += len(s)
            if limit and n > limit:
                return


# ---------------------------------------------------------------- tokenizer
def tokenizer(a):
    from tokenizers import Tokenizer, models, pre_tokenizers, decoders, trainers
    d = Path(a.data)
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = decoders.ByteLevel()
    tr = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[EOT], show_progress=False,
                             initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    def it():
        yield from read_docs(d / "wiki.jsonl", limit=18_000_000)
        yield from read_docs(d / "code.jsonl", limit=5_000_000)
    t.train_from_iterator(it(), tr)
    assert t.get_vocab_size() == VOCAB and t.token_to_id(EOT) == 0
    t.save(str(d / "tokenizer.json"))
    json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", bos_token=EOT, eos_token=EOT, unk_token=EOT,
                   add_bos_token=False, add_eos_token=False, add_prefix_space=False,
                   clean_up_tokenization_spaces=False, model_max_length=2048),
              open(d / "tokenizer_config.json", "w"), indent=2)


def encode(a):
    import numpy as np
    from tokenizers import Tokenizer
    d = Path(a.data)
    t = Tokenizer.from_file(str(d / "tokenizer.json"))
    for name in ("wiki_val", "code_val", "code", "wiki"):
        with open(d / f"{name}.bin.tmp", "wb") as f:
            batch, nb, nt = [], 0, 0
            def flush():
                nonlocal nt
                for e in t.encode_batch(batch):
                    ids = np.array(e.ids + [0], dtype=np.uint16)
                    nt += len(ids)
                    ids.tofile(f)
                batch.clear()
            for s in read_docs(d / f"{name}.jsonl"):
                batch.append(s)
                nb += len(s.encode())
                if len(batch) == 512:
                    flush()
            flush()
        os.replace(d / f"{name}.bin.tmp", d / f"{name}.bin")
        print(name, nt, "tokens", nb, "bytes", f"{nb/nt:.3f} bytes/token", flush=True)


# ---------------------------------------------------------------- synthetic recall
class Recall:
    """Rows whose answers can be read off the context. Random content carries no learnable signal,
    so each row comes with weights: 1 on the answer tokens, 0 on what cannot be predicted."""

    def __init__(self, tok, docs_path, seed, easy=0.0, kinds=(0.52, 0.08, 0.26, 0.14)):
        self.tok, self.easy, self.kinds = tok, easy, kinds    # easy: share of short pieces, many to a row
        self.rng = random.Random(seed)
        count = {}
        self.prose = []
        for s in read_docs(docs_path, limit=12_000_000):
            if not s.startswith("  <page>"):
                self.prose.append(s)
                for w in re.findall(r"[a-z]{3,10}", s[:4000]):
                    count[w] = count.get(w, 0) + 1
        self.words = [w for w, c in sorted(count.items(), key=lambda x: (-x[1], x[0])) if c >= 3][:12000]
        self.consonants, self.vowels = "bcdfghjklmnprstvwz", "aeiou"

    # random pieces
    def word(self):
        return self.rng.choice(self.words)

    def name(self):
        r = self.rng
        if r.random() < 0.4:
            return self.word().capitalize()
        return "".join(r.choice(self.consonants) + r.choice(self.vowels) for _ in range(r.randint(2, 3))).capitalize()

    def digits(self, a=3, b=7):
        r = self.rng
        return "".join(r.choice("0123456789") for _ in range(r.randint(a, b)))

    def hexa(self):
        return "".join(self.rng.choice("0123456789abcdef") for _ in range(self.rng.randint(4, 10)))

    def key_maker(self):
        k = self.rng.randrange(9)
        return [self.word, self.word, self.name, lambda: self.word() + "_" + self.word(),
                lambda: self.word() + "-" + self.digits(2, 3), lambda: self.word() + " " + self.word(),
                lambda: self.digits(3, 6), lambda: "key_" + self.digits(2, 4),
                lambda: self.rng.choice((self.word, self.name, self.hexa))()][k]

    def value_maker(self):
        k = self.rng.randrange(8)
        return [lambda: self.digits(), lambda: self.digits(5, 5), self.word, self.name,
                lambda: self.word() + " " + self.word(), self.hexa,
                lambda: self.word() + self.digits(2, 4),
                lambda: self.rng.choice((self.word, self.name, self.digits, self.hexa))()][k]

    def filler(self, chars):
        s = self.rng.choice(self.prose)
        i = self.rng.randrange(max(1, len(s) - chars))
        s = s[i:i + chars]
        j = s.find(" ")
        return s[j + 1:] if 0 <= j < 40 else s

    NOUNS = ["code", "number", "password", "secret word", "colour", "city", "name", "pass key", "value",
             "phone number", "address", "owner", "capital", "id", "token"]

    def kv_format(self):
        """(text before, pair -> segments, between, question -> segments); a segment is (text, weight)."""
        r = self.rng
        noun = r.choice(self.NOUNS)
        f = r.randrange(12)
        same = None
        if f == 0:
            st = lambda k, v: f'"{k}": "{v}",\n'; pre, mid = "{\n", "}\n"
        elif f == 1:
            st = lambda k, v: f'"{k}": "{v}", '; pre, mid = "{", "}\n"
        elif f == 2:
            st = lambda k, v: f"{k}: {v}\n"; pre, mid = "", "\n"
        elif f == 3:
            st = lambda k, v: f"{k} = {v}\n"; pre, mid = "", "\n"
        elif f == 4:
            st = lambda k, v: f"{k} -> {v}\n"; pre, mid = "", "\n"
        elif f == 5:
            st = lambda k, v: f"The {noun} of {k} is {v}. "; pre, mid = "", "\n"
        elif f == 6:
            st = lambda k, v: f"The {noun} for {k} is {v}.\n"; pre, mid = "", "\n"
        elif f == 7:
            st = lambda k, v: f"| {k} | {v} |\n"; pre, mid = "| key | value |\n|---|---|\n", "\n"
        elif f == 8:
            st = lambda k, v: f'{k} = "{v}"\n'; pre, mid = "", "\n"
        elif f == 9:
            st = lambda k, v: f"{k}\t{v}\n"; pre, mid = "", "\n"
        elif f == 10:
            st = lambda k, v: f"- {k}: {v}\n"; pre, mid = "", "\n"
        else:
            st = lambda k, v: f"{k}={v}; "; pre, mid = "", "\n"
        q = r.randrange(8)
        if q <= 3:
            qf = st
        elif q == 4:
            qf = lambda k, v: f"Question: What is the {noun} of {k}?\nAnswer: {v}\n"
        elif q == 5:
            qf = lambda k, v: f"Q: {k}\nA: {v}\n"
        elif q == 6:
            qf = lambda k, v: f"What is the {noun} for {k}? The {noun} for {k} is {v}.\n"
        else:
            qf = lambda k, v: f"{k}: {v}\n"
        return pre, st, mid, qf

    @staticmethod
    def parts(fmt, k, v, w):
        """Split a formatted pair so that the value (its last occurrence) carries weight w."""
        s = fmt(k, "\x00")
        i = s.rindex("\x00")
        return [(s[:i], 0.0), (v, w), (s[i + 1:i + 2], w * 0.5), (s[i + 2:], 0.0)]

    def kv(self, T):
        r = self.rng
        chars = T * 2.6
        pre, st, mid, qf = self.kv_format()
        km, vm = self.key_maker(), self.value_maker()
        share = r.uniform(0.3, 0.8)
        pairs, segs, n = {}, [(pre, 0.0)], len(pre)
        gap = r.random() < 0.2                              # prose between the pairs
        few = r.randint(2, 12) if r.random() < 0.25 else 10 ** 9   # few pairs, asked many times
        while n < chars * share and len(pairs) < few:
            k = km()
            if k in pairs:
                k += self.digits(1, 3)
                if k in pairs:
                    continue
            v = vm()
            pairs[k] = v
            p = self.parts(st, k, v, 0.0)
            if gap and r.random() < 0.3:
                p.append((self.filler(r.randint(40, 300)) + "\n", 0.3))
            segs += p
            n += sum(len(x) for x, _ in p)
        if few < 10 ** 9 and r.random() < 0.6:
            fl = self.filler(int(max(20, chars * share - n))) + "\n"
            segs.append((fl, 0.3))
            n += len(fl)
        segs.append((mid, 0.0))
        keys = list(pairs)
        r.shuffle(keys)
        while n < chars * 1.3:
            for k in keys:
                p = self.parts(qf, k, pairs[k], 1.0)
                segs += p
                n += sum(len(x) for x, _ in p)
                if n > chars * 1.3:
                    break
        return segs

    def passkey(self, T):
        r = self.rng
        chars = T * 3.2
        noun = r.choice(["pass key", "passkey", "secret number", "magic number", "access code", "secret word", "password"])
        n_keys = r.choice((1, 1, 2, 3, 5))
        vm = self.digits if r.random() < 0.7 else self.value_maker()
        names = [""] if n_keys == 1 and r.random() < 0.7 else [" for " + self.name() for _ in range(n_keys)]
        vals = [vm() for _ in names]
        form = r.randrange(3)
        body = [(self.filler(int(chars * 0.9 / (len(names) + 1))) + "\n", 0.3) for _ in range(len(names) + 1)]
        if r.random() < 0.4:                                 # any depth
            cut = r.random()
            body[0] = (body[0][0][:int(len(body[0][0]) * cut)] + "\n", 0.3)
        segs = []
        for i, (nm, v) in enumerate(zip(names, vals)):
            segs.append(body[i])
            segs += [(f"The {noun}{nm} is ", 0.0), (v, 0.0), (".", 0.0)]
            if form == 0:
                segs += [(f" Remember it. ", 0.0), (v, 1.0), (f" is the {noun}{nm}.\n", 0.2)]
            elif form == 1:
                segs += [(" Remember it.\n", 0.0)]
            else:
                segs += [("\n", 0.0)]
        segs.append(body[-1])
        order = list(range(len(names)))
        r.shuffle(order)
        for i in order:
            segs += [(f"What is the {noun}{names[i]}? The {noun}{names[i]} is ", 0.0), (vals[i], 2.0), (".\n", 0.5)]
        return segs

    def copy(self, T):
        r = self.rng
        chars = T * 3.0
        k = r.randrange(5)
        if k == 0:                                           # random words, repeated whole
            unit = " ".join(self.word() for _ in range(r.randint(4, int(T * 0.33)))) + r.choice(("\n", ". ", " | "))
        elif k == 1:                                         # random lines
            vm = self.value_maker()
            unit = "\n".join(vm() for _ in range(r.randint(3, max(4, int(T * 0.12))))) + "\n"
        elif k == 2:                                         # prose said twice
            unit = self.filler(r.randint(40, max(60, int(chars * 0.48)))) + "\n"
        elif k == 3:                                         # instruction
            unit = " ".join(self.value_maker()() for _ in range(r.randint(2, int(T * 0.1))))
            segs, n = [], 0
            while n < chars * 1.2:
                u = " ".join(self.value_maker()() for _ in range(r.randint(2, 12)))
                p = [("Repeat: ", 0.0), (u, 0.0), ("\nAnswer: ", 0.0), (u, 1.0), ("\n", 0.5)]
                segs += p
                n += sum(len(x) for x, _ in p)
            return segs
        else:                                                # pieces of a list, from random points
            words = [self.word() for _ in range(r.randint(8, max(10, int(T * 0.3))))]
            segs = [(" ".join(words) + "\n", 0.0)]
            n = len(segs[0][0])
            while n < chars * 1.2:
                i = r.randrange(len(words))
                w = words[i:i + r.randint(4, 40)]
                if len(w) < 3:
                    continue
                lead = 2
                p = [(" ".join(w[:lead]), 0.0), ("".join(" " + x for x in w[lead:]), 0.7), ("\n", 0.0)]
                segs += p
                n += sum(len(x) for x, _ in p)
            return segs
        segs, n = [(unit, 0.0)], len(unit)
        while n < chars * 1.2:
            segs.append((unit, 0.7))
            n += len(unit)
        return segs

    def row(self, T, kind=None):
        """T+1 token ids and T+1 weights (weights[i] is the weight of predicting ids[i])."""
        r = self.rng
        given = kind
        draw = lambda: given or r.choices(("kv", "passkey", "copy", "tokens"), self.kinds)[0]
        kind = draw()
        head = [0] if r.random() < 0.6 else []
        if kind == "tokens":                                 # random token ids, repeated
            n = r.randint(16, T // 2)
            u = [r.randrange(1, VOCAB) for _ in range(n)]
            ids, w = list(u), [0.0] * n
            while len(ids) < T + 1:
                ids += u
                w += [0.3] * n
            ids, w = head + ids, [0.0] * len(head) + w
            return ids[:T + 1], w[:T + 1]
        easy = r.random() < self.easy
        T1 = T if r.random() < 0.75 else r.randint(min(T, 200), T)   # some shorter, several to a row
        ids, w = [], []
        while len(ids) < T + 1:
            if easy:
                T1, kind = r.randint(40, 160), draw()
                kind = "copy" if kind == "tokens" else kind
            segs = getattr(self, kind)(min(T1, max(96, T + 1 - len(ids))))
            text = "".join(s for s, _ in segs)
            e = self.tok.encode(text)
            ends, ws, pos = [], [], 0
            for s, x in segs:
                pos += len(s)
                ends.append(pos)
                ws.append(x)
            j = 0
            ids += head or [0] * bool(ids)
            w += [0.0] * (len(ids) - len(w))
            for t, (b, en) in zip(e.ids, e.offsets):
                # a token belongs to the segment its last character is in
                while j < len(ends) - 1 and en > ends[j]:
                    j += 1
                ids.append(t)
                w.append(ws[j])
        if kind == "passkey" and len(ids) > T + 1 and T1 == T:    # keep the question: drop from the front
            return ids[-(T + 1):], w[-(T + 1):]
        return ids[:T + 1], w[:T + 1]


def recall_probe(tok, argmax, seed, context, n, kind="kv", words=None):
    """Held-out prompts: pairs filling `context` tokens, then one question. Returns the share of answers
    that greedy decoding gets exactly right (checked in one pass: every answer token is the argmax)."""
    r = random.Random(seed)
    ok = good = total = 0
    for i in range(n):
        text, answer = probe_prompt(r, words, tok, context, kind, i)
        x, y = tok.encode(text).ids, tok.encode(answer).ids
        z = argmax(x + y[:-1])[len(x) - 1:]
        ok += z == y
        good += sum(p == q for p, q in zip(z, y))
        total += len(y)
    return ok / n, good / total


def probe_prompt(r, words, tok, context, kind, i):
    def fill(make, limit):
        parts, n = [], 0
        while True:
            s = make()
            m = len(tok.encode(s).ids)
            if n + m > limit:
                return parts
            parts.append(s)
            n += m
    if kind == "kv":
        form = i % 4
        used = set()
        items = []
        def make():
            while True:
                k = r.choice(words) if form != 3 else r.choice(words) + "_" + r.choice(words)
                if k not in used:
                    break
            used.add(k)
            v = str(r.randrange(10000, 100000)) if form != 1 else r.choice(words)
            items.append((k, v))
            return (f'"{k}": "{v}",\n', f"{k}: {v}\n", f"The code of {k} is {v}. ", f"{k} = {v}\n")[form]
        parts = fill(make, context - 24)
        items = items[:len(parts)]
        k, v = r.choice(items)
        q = (f'\n"{k}": "', f"\n{k}:", f"\nThe code of {k} is", f"\n{k} =")[form]
        return "".join(parts) + q, (v if form == 0 else " " + v)
    if kind == "passkey":
        v = str(r.randrange(10000, 100000))
        sents = ["The grass is green. ", "The sky is blue. ", "The sun is yellow. ", "Here we go. ", "There and back again. "]
        parts = fill(lambda: sents[r.randrange(5)], context - 40)
        j = r.randrange(len(parts))
        parts.insert(j, f"The pass key is {v}. Remember it. {v} is the pass key. ")
        return "".join(parts) + "\nWhat is the pass key? The pass key is", " " + v
    if kind == "copy":
        ws = [r.choice(words) for _ in range(context // 5)]
        s = " ".join(ws)
        j = r.randrange(len(ws) - 14)
        return s + "\n" + " ".join(ws[j:j + 3]), " " + " ".join(ws[j + 3:j + 8])
    raise ValueError(kind)


# ---------------------------------------------------------------- model (plain Llama)
class Fast:
    """Loss and gradients of the same model through kernels.cpp, written out by hand: no autograd, one core."""

    def __init__(self, torch, so, model, flat=None):
        import ctypes
        self.flat, self.version = flat, None
        self.t, self.lib, self.model = torch, ctypes.CDLL(os.path.abspath(so)), model
        P, I, Fl = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
        for name, sig, res in (("attn", [P] * 5 + [I] * 4, None), ("attn_back", [P] * 7 + [I] * 4, None),
                               ("rms", [P] * 6 + [I, I, Fl], None), ("rms_back", [P] * 7 + [I] * 2, None),
                               ("swiglu", [P] * 2 + [I] * 2, None), ("swiglu_back", [P] * 3 + [I] * 2, None),
                               ("ce", [P] * 3 + [I] * 2, Fl), ("dw", [P] * 3 + [I] * 3, None)):
            f = getattr(self.lib, "nano_" + name)
            f.argtypes, f.restype = sig, res
            setattr(self, name, f)

    def weights(self, version):
        """All parameters in bf16, converted once per optimiser step; q, k, v and gate, up lie side by side."""
        if version is None or version != self.version:
            t, C, m = self.t, CONFIG, self.model
            self.version = version
            flat = t.cat([p.detach().reshape(-1) for p in m.parameters()]) if self.flat is None else self.flat
            flat, views, o = flat.to(t.bfloat16), {}, 0
            D = C["hidden_size"]
            for n, p in m.named_parameters():
                views[n] = flat[o:o + p.numel()].view(p.shape)
                for last, first in (("v", "q"), ("up", "gate")):         # the joined matrices
                    if n.endswith("." + last):
                        views[n.rsplit(".", 1)[0] + "." + first] = flat[start[first]:o + p.numel()].view(-1, D)
                if n.endswith((".q", ".gate")):
                    start = {n.rsplit(".", 1)[1]: o}
                o += p.numel()
            self.bf = views
        return self.bf

    def step(self, ids, target, w, grads, version=None):
        """ids, target [B, T]; w [B, T] weights; grads: name -> fp32 buffer, added to (those of q, k, v and of
        gate, up adjacent in memory). Returns the weighted loss."""
        t, C, m = self.t, CONFIG, self.model
        bf, D, FF = t.bfloat16, C["hidden_size"], C["intermediate_size"]
        H, KV, eps = C["num_attention_heads"], C["num_key_value_heads"], C["rms_norm_eps"]
        B, T = ids.shape
        M = B * T
        E = lambda n, dt=bf: t.empty(M, n, dtype=dt)
        p = lambda x: None if x is None else x.data_ptr()
        cos, sin = m.cos, m.sin

        def norm(x, a, wt):
            xo, h, r = (E(D, t.float32) if a is not None else x), E(D), t.empty(M)
            self.rms(p(x), p(a), p(wt), p(xo) if a is not None else None, p(h), p(r), M, D, eps)
            return xo, h, r

        W = self.weights(version)
        x, d, saved = m.emb[ids.reshape(-1)], None, []
        for i, l in enumerate(m.layers):
            Wqkv, Wo, Wgu, Wd = (W[f"layers.{i}.{k}"] for k in ("q", "o", "gate", "down"))
            x1, h1, r1 = norm(x, d, l.n1)
            qkv = h1 @ Wqkv.t()
            o, lse = E(H * 64), t.empty(B * H * T)
            self.attn(p(qkv), p(cos), p(sin), p(o), p(lse), B, H, KV, T)
            x2, h2, r2 = norm(x1, o @ Wo.t(), l.n2)
            gu = h2 @ Wgu.t()
            s = E(FF)
            self.swiglu(p(gu), p(s), M, FF)
            d = s @ Wd.t()
            saved.append((Wqkv, Wo, Wgu, Wd, x1, h1, r1, qkv, o, lse, x2, h2, r2, gu, s))
            x = x2
        xf, h, rf = norm(x, d, m.norm)

        # head: only the positions that carry weight, in slices
        wf, tf, S = w.reshape(-1), target.reshape(-1), 512
        keep = (wf > 0).nonzero()[:, 0]
        n = keep.numel()
        full = n == M
        if not full:
            keep = t.cat((keep, keep.new_zeros((-n) % S)))
            hk, tk, wk = h[keep], tf[keep].contiguous(), wf[keep].contiguous()
            wk[n:] = 0
        else:
            hk, tk, wk = h, tf.contiguous(), wf.contiguous()
        Wb = W["emb"]
        dhk = t.empty_like(hk)
        ge = grads["emb"]
        loss = 0.0
        for i in range(0, hk.shape[0], S):
            xs = hk[i:i + S]
            k = xs.shape[0]
            lg = xs @ Wb.t()
            loss += self.ce(p(lg), tk[i:i + S].data_ptr(), wk[i:i + S].data_ptr(), k, VOCAB)
            t.mm(lg, Wb, out=dhk[i:i + S])
            self.dw(p(lg), xs.data_ptr(), p(ge), k, VOCAB, D)
        if full:
            dh = dhk
        else:
            dh = t.zeros_like(h)
            dh[keep[:n]] = dhk[:n]
        dx, dxb = t.zeros(M, D), E(D)
        self.rms_back(p(xf), p(rf), p(m.norm), p(dh), p(dx), p(grads["norm"]), p(dxb), M, D)
        for i in reversed(range(len(saved))):
            Wqkv, Wo, Wgu, Wd, x1, h1, r1, qkv, o, lse, x2, h2, r2, gu, s = saved.pop()
            l, g = m.layers[i], lambda k: grads[f"layers.{i}.{k}"]
            ds = dxb @ Wd
            self.dw(p(dxb), p(s), p(g("down")), M, D, FF)
            dgu = t.empty_like(gu)
            self.swiglu_back(p(gu), p(ds), p(dgu), M, FF)
            dh2 = dgu @ Wgu
            self.dw(p(dgu), p(h2), p(g("gate")), M, 2 * FF, D)
            self.rms_back(p(x2), p(r2), p(l.n2), p(dh2), p(dx), p(g("n2")), p(dxb), M, D)
            do = dxb @ Wo
            self.dw(p(dxb), p(o), p(g("o")), M, D, H * 64)
            dqkv = t.empty_like(qkv)
            self.attn_back(p(qkv), p(cos), p(sin), p(o), p(do), p(lse), p(dqkv), B, H, KV, T)
            dh1 = dqkv @ Wqkv
            self.dw(p(dqkv), p(h1), p(g("q")), M, qkv.shape[1], D)
            self.rms_back(p(x1), p(r1), p(l.n1), p(dh1), p(dx), p(g("n1")), p(dxb), M, D)
        ge.index_add_(0, ids.reshape(-1), dx)
        return loss


def build(torch, seed=0):
    import torch.nn as nn
    import torch.nn.functional as F
    C = CONFIG
    D, H, KV, HD, L, FF = (C["hidden_size"], C["num_attention_heads"], C["num_key_value_heads"], C["head_dim"],
                           C["num_hidden_layers"], C["intermediate_size"])
    eps = C["rms_norm_eps"]
    bf = torch.bfloat16

    def rms(x, w):
        return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w).to(bf)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            P = lambda *s: nn.Parameter(torch.randn(*s) * s[1] ** -0.5 * 0.7)
            self.q, self.k, self.v = P(H * HD, D), P(KV * HD, D), P(KV * HD, D)
            self.o = nn.Parameter(torch.zeros(D, H * HD))
            self.gate, self.up = P(FF, D), P(FF, D)
            self.down = nn.Parameter(torch.zeros(D, FF))
            self.n1, self.n2 = nn.Parameter(torch.ones(D)), nn.Parameter(torch.ones(D))

        def forward(self, x, cos, sin):
            B, T, _ = x.shape
            h = rms(x, self.n1)
            qkv = F.linear(h, torch.cat((self.q, self.k, self.v)).to(bf))
            qk = qkv[..., :(H + KV) * HD].view(B, T, H + KV, HD).transpose(1, 2).float()
            a, b = qk[..., :HD // 2], qk[..., HD // 2:]
            qk = torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(bf)
            v = qkv[..., (H + KV) * HD:].view(B, T, KV, HD).transpose(1, 2)
            o = attention(qk[:, :H], qk[:, H:], v)
            x = x + F.linear(o.transpose(1, 2).reshape(B, T, H * HD), self.o.to(bf)).float()
            h = rms(x, self.n2)
            gu = F.linear(h, torch.cat((self.gate, self.up)).to(bf))
            g = (F.silu(gu[..., :FF].float()) * gu[..., FF:].float()).to(bf)
            return x + F.linear(g, self.down.to(bf)).float()

    class Nano(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb = nn.Parameter(torch.randn(VOCAB, D) * 0.02)
            self.layers = nn.ModuleList(Layer() for _ in range(L))
            self.norm = nn.Parameter(torch.ones(D))
            f = C["rope_theta"] ** (-torch.arange(0, HD, 2).float() / HD)
            p = torch.outer(torch.arange(C["max_position_embeddings"]).float(), f)
            self.register_buffer("cos", p.cos(), persistent=False)
            self.register_buffer("sin", p.sin(), persistent=False)

        def forward(self, ids):
            T = ids.shape[1]
            x = F.embedding(ids, self.emb)
            cos, sin = self.cos[:T], self.sin[:T]
            for l in self.layers:
                x = l(x, cos, sin)
            return rms(x, self.norm)

    def attention(q, k, v):
        G = H // KV
        return F.scaled_dot_product_attention(q, k.repeat_interleave(G, 1), v.repeat_interleave(G, 1), is_causal=True)

    torch.manual_seed(seed)
    return Nano()


def make_head(torch):
    """Cross-entropy fused with its gradient, in slices that stay in cache; skips positions of weight 0."""
    def piece(lg, tgt, w):
        lg = lg.float()
        lse = torch.logsumexp(lg, -1)
        loss = ((lse - lg.gather(1, tgt[:, None])[:, 0]) * w).sum()
        p = torch.exp(lg - lse[:, None]) * w[:, None]
        hot = torch.arange(lg.shape[1])[None, :] == tgt[:, None]
        return loss, torch.where(hot, p - w[:, None], p).to(torch.bfloat16)
    piece = torch.compile(piece, dynamic=False) if COMPILE else piece

    class Head(torch.autograd.Function):
        @staticmethod
        def forward(ctx, h, W, tgt, w):
            S = 512
            keep = (w > 0).nonzero()[:, 0]
            n = keep.numel()
            pad = (-n) % S
            if pad:                                          # pad with weight-0 repeats of a position
                keep = torch.cat((keep, keep[:1].expand(pad)))
            hk, tk, wk = h[keep], tgt[keep], w[keep]
            if pad:
                wk[n:] = 0
            Wb = W.to(torch.bfloat16)
            dW = torch.zeros_like(W)
            dh = torch.empty_like(hk)
            loss = torch.zeros(())
            for i in range(0, n + pad, S):
                x = hk[i:i + S]
                l, g = piece(x @ Wb.t(), tk[i:i + S], wk[i:i + S])
                loss += l
                dh[i:i + S] = g @ Wb
                dW += g.t() @ x
            full = torch.zeros_like(h)
            full.index_add_(0, keep, dh)
            ctx.save_for_backward(full, dW)
            return loss

        @staticmethod
        def backward(ctx, g):
            dh, dW = ctx.saved_tensors
            return dh * g.to(dh.dtype), dW * g, None, None
    return Head.apply


COMPILE = True
KERNELS = None                            # path of the compiled kernels.cpp, or None for torch alone


# ---------------------------------------------------------------- optimiser: Muon + AdamW
class Optimiser:
    def __init__(self, torch, model, muon_lr, adam_lr, wd, muon=True):
        self.t = torch
        named = list(model.named_parameters())
        self.mats = [p for n, p in named if p.ndim == 2 and n != "emb"] if muon else []
        ids = {id(p) for p in self.mats}
        self.rest = [p for n, p in named if id(p) not in ids]
        self.muon_lr, self.adam_lr, self.wd = muon_lr, adam_lr, wd
        self.buf = [torch.zeros_like(p) for p in self.mats]
        self.m = [torch.zeros_like(p) for p in self.rest]
        self.v = [torch.zeros_like(p) for p in self.rest]
        self.n = 0

    def state(self):
        return dict(buf=self.buf, m=self.m, v=self.v, n=self.n)

    def load(self, s):
        self.buf, self.m, self.v, self.n = s["buf"], s["m"], s["v"], s["n"]

    def step(self, mult, momentum=0.95):
        t = self.t
        self.n += 1
        with t.no_grad():
            b1, b2 = 0.9, 0.95
            for p, m, v in zip(self.rest, self.m, self.v):
                g = p.grad
                m.lerp_(g, 1 - b1)
                v.mul_(b2).addcmul_(g, g, value=1 - b2)
                d = (v / (1 - b2 ** self.n)).sqrt_().add_(1e-10)
                p.addcdiv_(m, d, value=-self.adam_lr * mult / (1 - b1 ** self.n))
            groups = {}
            for p, b in zip(self.mats, self.buf):
                b.lerp_(p.grad, 1 - momentum)
                groups.setdefault(tuple(p.shape), []).append((p, p.grad.lerp(b, momentum)))
            for shape, pg in groups.items():
                X = t.stack([g for _, g in pg])
                wide = shape[0] <= shape[1]
                X = (X if wide else X.transpose(1, 2)).contiguous()
                X = (X / (X.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(t.bfloat16)
                for _ in range(5):                           # Newton-Schulz towards the nearest orthogonal matrix
                    A = X @ X.transpose(1, 2)
                    X = 3.4445 * X + (-4.7750 * A + 2.0315 * (A @ A)) @ X
                X = X.float() if wide else X.transpose(1, 2).float()
                s = self.muon_lr * mult * max(1.0, shape[0] / shape[1]) ** 0.5
                for (p, _), x in zip(pg, X):
                    p.mul_(1 - self.muon_lr * mult * self.wd).add_(x, alpha=-s)


# ---------------------------------------------------------------- training
class Stream:
    def __init__(self, path, pos=0):
        import numpy as np
        self.d = np.memmap(path, dtype=np.uint16, mode="r")
        self.pos = pos

    def row(self, T, rng):
        head = [0] if rng.random() < 0.15 else []
        n = T + 1 - len(head)
        if self.pos + n > len(self.d):
            self.pos = rng.randrange(T)
        x = self.d[self.pos:self.pos + n]
        self.pos += n - 1 + len(head)
        return head + x.tolist(), [1.0] * (T + 1)


def save_atomic(torch, obj, path):
    torch.save(obj, str(path) + ".tmp")
    os.replace(str(path) + ".tmp", path)


def lr_mult(p, step, decay_from, warm=100):
    if p >= decay_from:
        x = min(1.0, (p - decay_from) / (1 - decay_from))
        return max(0.0, 1 - x) ** 1.2
    return min(1.0, (step + 1) / warm)


def seq_len(p, long_from):
    return 512 if p < long_from else 2048


def bits(torch, model, head_logits, ids, T):
    """Summed bits of a token array in windows of T, first token of each window given the EOT before it."""
    tot = 0.0
    with torch.no_grad():
        for i in range(0, len(ids), T):
            x = torch.tensor([[0] + ids[i:i + T]])
            h = model(x[:, :-1])[0]
            for j in range(0, h.shape[0], 512):
                lg = head_logits(h[j:j + 512])
                tot += torch.nn.functional.cross_entropy(lg, x[0, j + 1:j + 513][:lg.shape[0]], reduction="sum").item()
    return tot / math.log(2)


def argmax_all(torch, model, ids):
    with torch.no_grad():
        h = model(torch.tensor([ids]))[0]
        return (h @ model.emb.to(torch.bfloat16).t()).float().argmax(-1).tolist()


def flat_views(flat, model):
    """name -> view of `flat`, in the order of the parameters."""
    out, o = {}, 0
    for n, p in model.named_parameters():
        out[n] = flat[o:o + p.numel()].view(p.shape)
        o += p.numel()
    return out


def worker(index, model, flat, grad, tasks, results, lock):
    """One single-threaded process: takes micro-batches, adds gradients into its own shared buffers.
    (Two such processes lose far less than two OpenMP threads when the cores are shared with others.)"""
    import torch
    torch.set_num_threads(1)
    fast = Fast(torch, KERNELS, model, flat) if KERNELS else None
    named = flat_views(grad, model)
    if not fast:
        for n, p in model.named_parameters():
            p.grad = named[n]
    head = make_head(torch)
    run = torch.compile(model, dynamic=False) if COMPILE else model
    seen = set()
    while True:
        task = tasks.get()
        if task is None:
            return
        x, w, batch, version = task
        x, w = torch.from_numpy(x.astype("int64")), torch.from_numpy(w)

        def go():
            if fast:
                with torch.no_grad():
                    return fast.step(x[:, :-1].contiguous(), x[:, 1:].contiguous(), w[:, 1:] / batch, named, version) * batch
            h = run(x[:, :-1])
            loss = head(h.reshape(-1, h.shape[-1]), model.emb, x[:, 1:].reshape(-1), w[:, 1:].reshape(-1) / batch)
            loss.backward()
            return loss.item() * batch
        if fast or x.shape in seen:
            r = go()
        else:                                                # compile one at a time: the second finds it cached
            with lock:
                r = go()
            seen.add(x.shape)
        results.put((r, float(w[:, 1:].sum())))


def train(a):
    import torch, numpy as np, datetime
    import torch.multiprocessing as mp
    global COMPILE, KERNELS
    COMPILE, KERNELS = not a.no_compile, a.kernels
    torch.set_num_threads(1)
    ck = Path(a.ckpt)
    ck.mkdir(parents=True, exist_ok=True)
    if a.pid:
        Path(a.pid).write_text(str(os.getpid()))
    from tokenizers import Tokenizer
    d = Path(a.data)
    tok = Tokenizer.from_file(str(d / "tokenizer.json"))
    now = datetime.datetime.now(datetime.timezone.utc)
    hh, mm = map(int, a.deadline.split(":"))
    end = now.replace(hour=hh, minute=mm, second=0, microsecond=0)
    if end < now:
        end += datetime.timedelta(days=1)
    deadline = end.timestamp()
    model = build(torch)
    raw = model
    opt = Optimiser(torch, model, a.muon_lr, a.adam_lr, a.wd)
    wiki, code = Stream(d / "wiki.bin"), Stream(d / "code.bin")
    st = dict(step=0, tokens=0, spent=0.0, progress=0.0, lr=0.0)
    last = ck / "last.pt"
    if last.exists():
        s = torch.load(last, weights_only=False)
        model.load_state_dict(s["model"])
        opt.load(s["opt"])
        st = s["st"]
        wiki.pos, code.pos = s["pos"]
        print("resumed at step", st["step"], flush=True)
    if a.progress >= 0:                                      # the budget changed: say how far along this is
        st["progress"] = a.progress
        st["spent"] = (deadline - time.time()) * a.progress / (1 - a.progress)
    rng = random.Random(99 + st["step"])
    recall = Recall(tok, d / "wiki.jsonl", 7 + st["step"], a.easy, [float(x) for x in a.kinds.split(",")])
    # parameters and each worker's gradients: one flat shared array each
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).share_memory_()
    for (n, p), v in zip(model.named_parameters(), flat_views(flat, model).values()):
        p.data = v
    grads = [torch.zeros_like(flat).share_memory_() for _ in range(a.workers)]
    fork = mp.get_context("fork")
    tasks, results, lock = fork.Queue(), fork.Queue(), fork.Lock()
    procs = [fork.Process(target=worker, args=(i, model, flat, grads[i], tasks, results, lock), daemon=True) for i in range(a.workers)]
    for q in procs:
        q.start()
    torch.set_num_threads(a.main_threads)
    for (n, p), v in zip(model.named_parameters(), flat_views(grads[0], model).values()):
        p.grad = v
    val = {n: np.fromfile(d / f"{n}_val.bin", dtype=np.uint16)[:16384].astype(int).tolist() for n in ("wiki", "code")}
    valb = {n: len(tok.decode([t for t in v], skip_special_tokens=False).encode()) for n, v in val.items()}
    print("parameters", sum(p.numel() for p in model.parameters()), "val bytes", valb, flush=True)

    def evaluate(T, probes):
        W = raw.emb.detach().to(torch.bfloat16)
        lg = lambda h: (h @ W.t()).float()
        r = {n: bits(torch, raw, lg, v, T) / valb[n] for n, v in val.items()}
        msg = " ".join(f"{n} {x:.4f} bpb" for n, x in r.items())
        if probes:
            g = lambda ids: argmax_all(torch, raw, ids)
            for ctx in [c for c in (400, 900, 1500) if c < T]:
                msg += f" kv{ctx} {'%.2f/%.2f' % recall_probe(tok, g, 5, ctx, 16, 'kv', recall.words)}"
            msg += f" copy {'%.2f/%.2f' % recall_probe(tok, g, 5, 300, 8, 'copy', recall.words)}"
            msg += f" passkey {'%.2f/%.2f' % recall_probe(tok, g, 5, min(T, 1600) - 100, 6, 'passkey')}"
        return msg

    def make(T, batch, micro, share_r):
        out = []
        for _ in range(batch // micro):
            xs, ws = [], []
            for _ in range(micro // T):
                u = rng.random()
                if u < share_r:
                    x, w = recall.row(T)
                    w = [q * a.recall_weight for q in w]
                elif u < share_r + a.code:
                    x, w = code.row(T, rng)
                else:
                    x, w = wiki.row(T, rng)
                xs.append(x)
                ws.append(w)
            out.append((np.array(xs, dtype=np.uint16), np.array(ws, dtype=np.float32)))
        return out

    prepared = None
    t_save, t_eval, last_probe, acc, accn, t_log = time.time(), time.time(), time.time(), 0.0, 0, time.time()
    tok_log = 0
    stop = []
    import signal
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))     # a polite stop: saves, to be resumed
    while True:
        t0 = time.time()
        left = deadline - t0
        if left <= 0 or st["step"] >= a.max_steps or stop:
            break
        st["progress"] = p = max(st["progress"], st["spent"] / (st["spent"] + left))
        T = a.force_T or seq_len(p, a.long_from)
        mult = lr_mult(p, st["step"], a.decay_from)
        st["lr"] = mult
        batch, micro = (a.batch if T > 512 else a.batch // 2), max(T, a.micro)
        share_r = a.recall if p < 0.9 else a.recall * 0.8
        key = (T, batch)
        if prepared is None or prepared[0] != key:
            prepared = (key, make(T, batch, micro, share_r))
        for x, w in prepared[1]:
            tasks.put((x, w, batch, st["step"]))
        n_tasks = len(prepared[1])
        prepared = (key, make(T, batch, micro, share_r))            # the next step's rows, while the workers compute
        for _ in range(n_tasks):
            while True:
                try:
                    l, n = results.get(timeout=30)
                    break
                except queue.Empty:
                    if not all(q.is_alive() for q in procs):
                        raise SystemExit("a worker died")
            acc += l
            accn += n
        st["tokens"] += batch
        tok_log += batch
        for g in grads[1:]:
            grads[0].add_(g)
        torch.nn.utils.clip_grad_norm_(opt.rest, 1.0)
        opt.step(mult, momentum=0.85 + 0.1 * min(1, st["step"] / 200))
        for g in grads:
            g.zero_()
        st["step"] += 1
        dt = time.time() - t0
        st["spent"] += min(dt, 60.0)                         # a pause is not training time
        if st["step"] % (20 if st["step"] > 20 else 2) == 0:
            n = time.time()
            print(f"{datetime.datetime.now(datetime.timezone.utc):%H:%M:%S} step {st['step']} tok {st['tokens']/1e6:.2f}M T {T} p {p:.3f} lr {mult:.3f} "
                  f"loss {acc/max(accn,1):.4f} tok/s {tok_log/(n-t_log):.0f}", flush=True)
            acc = accn = 0.0
            t_log, tok_log = n, 0
        if time.time() - t_save > a.save_every:
            save_atomic(torch, dict(model=raw.state_dict(), opt=opt.state(), st=dict(st), pos=(wiki.pos, code.pos)), last)
            save_atomic(torch, dict(model={k: v.clone() for k, v in raw.state_dict().items()}, st=dict(st)), ck / f"step{st['step']:06d}.pt")
            t_save = time.time()
        if time.time() - t_eval > a.eval_every and left > 90:
            s = time.time()
            probes = time.time() - last_probe > a.probe_every
            print(f"EVAL {datetime.datetime.now(datetime.timezone.utc):%H:%M:%S} step {st['step']} tok {st['tokens']/1e6:.2f}M {evaluate(T, probes)} ({time.time()-s:.0f} s)", flush=True)
            t_eval = time.time()
            if probes:
                last_probe = time.time()
    save_atomic(torch, dict(model=raw.state_dict(), opt=opt.state(), st=dict(st), pos=(wiki.pos, code.pos)), last)
    if stop:
        return
    save_atomic(torch, dict(model=raw.state_dict(), st=dict(st)), ck / "final.pt")
    print("FINAL", st, evaluate(2048, True), flush=True)


# ---------------------------------------------------------------- files
def hf_tensors(torch, sd):
    """Our parameters under their Hugging Face names, bf16 (round to nearest even)."""
    names = dict(q="self_attn.q_proj", k="self_attn.k_proj", v="self_attn.v_proj", o="self_attn.o_proj",
                 gate="mlp.gate_proj", up="mlp.up_proj", down="mlp.down_proj",
                 n1="input_layernorm", n2="post_attention_layernorm")
    out = {"model.embed_tokens.weight": sd["emb"], "model.norm.weight": sd["norm"]}
    for i in range(CONFIG["num_hidden_layers"]):
        for k, n in names.items():
            out[f"model.layers.{i}.{n}.weight"] = sd[f"layers.{i}.{k}"]
    return {k: v.detach().to(torch.bfloat16).contiguous() for k, v in out.items()}


def write_weights(torch, sd, path):
    from safetensors.torch import save_file
    save_file(hf_tensors(torch, sd), str(path), metadata={"format": "pt"})
    os.chmod(path, 0o644)


def export(a):
    import torch, shutil
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    s = torch.load(a.ckpt, weights_only=False)
    write_weights(torch, s["model"], out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    for n in ("tokenizer.json", "tokenizer_config.json"):
        if (Path(a.data) / n).resolve() != (out / n).resolve():
            shutil.copyfile(Path(a.data) / n, out / n)
    (out / "generation_config.json").write_text(json.dumps(dict(bos_token_id=0, eos_token_id=0), indent=2) + "\n")
    print(out, (out / "model.safetensors").stat().st_size, "bytes of weights, step", s["st"]["step"])


def finetune(a):
    """A short fine-tune with AdamW on one kind of row, to have a close relative of the final model."""
    import torch
    global COMPILE
    COMPILE = False
    torch.set_num_threads(a.threads)
    from tokenizers import Tokenizer
    d = Path(a.data)
    model = build(torch)
    s = torch.load(a.ckpt, weights_only=False)
    model.load_state_dict(s["model"])
    opt = torch.optim.AdamW(model.parameters(), lr=a.lr, betas=(0.9, 0.95), weight_decay=0.0)
    head, rng = make_head(torch), random.Random(5)
    fast = Fast(torch, a.kernels, model) if a.kernels else None
    if a.kind == "recall":
        rec = Recall(Tokenizer.from_file(str(d / "tokenizer.json")), d / "wiki.jsonl", 4242)
        row = rec.row
    else:
        st = Stream(d / f"{a.kind}.bin", pos=15_000_000)     # not reached in the main run
        row = lambda T: st.row(T, rng)
    tot = 0.0
    for i in range(a.steps):
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1.0, (i + 1) / 10) * (1 - i / a.steps)
        xs, ws = zip(*(row(a.length) for _ in range(a.rows)))
        x, w = torch.tensor(xs), torch.tensor(ws, dtype=torch.float32)
        wn = w[:, 1:] / w[:, 1:].sum()
        if fast:
            flat = torch.zeros(sum(p.numel() for p in model.parameters()))
            for p, v in zip(model.parameters(), flat_views(flat, model).values()):
                p.grad = v
            with torch.no_grad():
                loss = torch.tensor(fast.step(x[:, :-1].contiguous(), x[:, 1:].contiguous(), wn.contiguous(), flat_views(flat, model)))
        else:
            h = model(x[:, :-1])
            loss = head(h.reshape(-1, h.shape[-1]), model.emb, x[:, 1:].reshape(-1), wn.reshape(-1))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        tot += loss.item()
        if (i + 1) % 20 == 0:
            print("finetune step", i + 1, f"loss {tot / 20:.4f}", flush=True)
            tot = 0.0
    st = dict(step=s["st"]["step"] + a.steps, tokens=s["st"]["tokens"] + a.steps * a.rows * a.length, lr=0.0,
              finetune=dict(kind=a.kind, steps=a.steps, adam_lr=a.lr, tokens=a.steps * a.rows * a.length))
    save_atomic(torch, dict(model=model.state_dict(), st=st), a.save)


def curve(a):
    """The validation curve of a training log, as an SVG and as a Markdown table."""
    pts = []
    for l in open(a.log):
        m = re.match(r"EVAL \S+ step (\d+) tok ([\d.]+)M wiki ([\d.]+) bpb code ([\d.]+) bpb(.*)\(", l)
        if m:
            while pts and pts[-1][0] >= int(m[1]):           # a restart went back to a checkpoint
                pts.pop()
            pts.append((int(m[1]), float(m[2]), float(m[3]), float(m[4]), m[5].strip()))
        m = re.match(r"FINAL \{'step': (\d+), 'tokens': (\d+).*?\} wiki ([\d.]+) bpb code ([\d.]+) bpb(.*)", l)
        if m:
            pts.append((int(m[1]), int(m[2]) / 1e6, float(m[3]), float(m[4]), m[5].strip()))
    W, Hh, L, B = 640, 300, 50, 40
    x1 = max(p[1] for p in pts) * 1.03
    lo, hi = 1.4, 3.0
    X = lambda t: L + (W - L - 10) * t / x1
    Y = lambda v: 10 + (Hh - B - 10) * (hi - min(v, hi)) / (hi - lo)
    o = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {Hh}" font-family="sans-serif" font-size="12">',
         f'<rect width="{W}" height="{Hh}" fill="#fff"/>']
    for i in range(9):
        v = lo + 0.2 * i
        o.append(f'<path d="M{L} {Y(v):.1f}H{W - 10}" stroke="#ddd"/><text x="{L - 6}" y="{Y(v) + 4:.1f}" text-anchor="end">{v:.1f}</text>')
    step = max(1, round(x1 / 8))
    for i in range(0, int(x1) + 1, step):
        o.append(f'<text x="{X(i):.1f}" y="{Hh - B + 18}" text-anchor="middle">{i}</text>')
    for k, colour, name in ((2, "#1f5fa8", "Wikipedia"), (3, "#c2571a", "code")):
        o.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="' + " ".join(f"{X(p[1]):.1f},{Y(p[k]):.1f}" for p in pts) + '"/>')
        o.append(f'<text x="{W - 120}" y="{30 + 16 * (k - 2)}" fill="{colour}">{name}</text>')
    o.append(f'<text x="{(W + L) / 2}" y="{Hh - 6}" text-anchor="middle">million training tokens (validation, bits per byte)</text></svg>')
    Path(a.out).write_text("\n".join(o) + "\n")
    print("| step | million tokens | Wikipedia bpb | code bpb | recall (exact/token share) |\n| ---: | ---: | ---: | ---: | --- |")
    for p in pts:
        print(f"| {p[0]} | {p[1]:.2f} | {p[2]:.3f} | {p[3]:.3f} | {p[4]} |")


def ordered(u):
    """bf16 bits as integers whose order is the order of the values (see deltas/README.md)."""
    import numpy as np
    u = u.astype(np.int32)
    return np.where(u & 0x8000, 0x7FFF - u, u)               # -0 and +0 differ by one: the map is one-to-one


def deltas(a):
    import torch, numpy as np, lzma, tempfile
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    final = Path(a.final, "model.safetensors").read_bytes()
    n = int.from_bytes(final[:8], "little")
    base = np.frombuffer(final[8 + n:], dtype="<u2")
    for spec in a.items:
        path, name = spec.rsplit(":", 1)
        s = torch.load(path, weights_only=False)
        with tempfile.TemporaryDirectory() as t:
            write_weights(torch, s["model"], Path(t, "m"))
            other = Path(t, "m").read_bytes()
        assert other[:8 + n] == final[:8 + n] and len(other) == len(final)
        diff = ordered(np.frombuffer(other[8 + n:], dtype="<u2")) - ordered(base)
        z = np.where(diff >= 0, 2 * diff, -2 * diff - 1)     # zigzag
        assert z.max() < 1 << 17
        big = np.flatnonzero(z >= 0xFFFF)                    # escapes: rare, kept as (index, value) pairs
        z16 = np.where(z >= 0xFFFF, 0xFFFF, z).astype("<u2")
        esc = np.stack((big, z[big]), 1).astype("<u4").tobytes()
        payload = (z16 & 0xFF).astype(np.uint8).tobytes() + (z16 >> 8).astype(np.uint8).tobytes() + esc
        packed = lzma.compress(payload, format=lzma.FORMAT_XZ, preset=6)
        head = dict(format="nano-delta-1", name=name, step=s["st"]["step"], tokens=s["st"]["tokens"], lr_multiplier=s["st"]["lr"],
                    values=len(base), escapes=len(big), payload_bytes=len(payload),
                    base_sha256=hashlib.sha256(final).hexdigest(), sha256=hashlib.sha256(other).hexdigest())
        if "finetune" in s["st"]:
            head["finetune"] = s["st"]["finetune"]
        hb = json.dumps(head).encode()
        (out / f"{name}.delta").write_bytes(b"NANODLT1" + len(hb).to_bytes(4, "little") + hb + packed)
        print(name, (out / f"{name}.delta").stat().st_size, "bytes;", f"{np.mean(z == 0):.3f} of the values equal, {len(big)} escapes", head)


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(dest="cmd", required=True)
    def cmd(name, fn, **kw):
        s = sub.add_parser(name)
        for k, v in kw.items():
            s.add_argument("--" + k, **v)
        s.set_defaults(fn=fn)
        return s
    req = dict(required=True)
    cmd("fetch", fetch, pkgs=req)
    cmd("corpus", corpus, pkgs=req, enwik8=req, out=req)
    cmd("tokenizer", tokenizer, data=req)
    cmd("encode", encode, data=req)
    f = lambda x: dict(type=float, default=x)
    n = lambda x: dict(type=int, default=x)
    s = cmd("train", train, data=req, ckpt=req, deadline=req, pid={}, kernels={}, workers=n(2), main_threads=n(2), batch=n(8192), micro=n(1024),
            muon_lr=f(0.02), adam_lr=f(0.003), wd=f(0.1), recall=f(0.25), code=f(0.16), recall_weight=f(1.5),
            save_every=f(300), eval_every=f(300), probe_every=f(600), max_steps=n(10 ** 9), force_T=n(0), progress=f(-1), long_from=f(0.45), decay_from=f(0.5), easy=f(0.1), kinds=dict(default="0.52,0.08,0.26,0.14"))
    s.add_argument("--no_compile", action="store_true")
    cmd("export", export, data=req, ckpt=req, out=req)
    cmd("finetune", finetune, data=req, ckpt=req, save=req, kind=dict(default="code"), kernels={}, threads=n(2), steps=n(150),
        rows=n(8), length=n(512), lr=f(5e-5))
    cmd("curve", curve, log=req, out=req)
    s = cmd("deltas", deltas, final=req, out=req)
    s.add_argument("items", nargs="+")
    a = p.parse_args()
    a.fn(a)


if __name__ == "__main__":
    main()
