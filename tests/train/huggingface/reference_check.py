"""Does Toroid read config.json as transformers does, and export tokenizers as SentencePiece has them?

usage: reference_check.py TOROID [CASES [SEED]]   (needs transformers, sentencepiece, protobuf, safetensors, numpy; not torch)

The first part imports CASES configs made of random keys, many of them null, contradictory or in an old form, and compares the
run's config with what the config class of transformers holds. Where transformers fails, Toroid must refuse; where Toroid takes a
config, all values must be equal. Toroid may refuse more. The second part trains small SentencePiece models of many kinds, sends
each through import and export, and compares ids and text of the exported tokenizer with SentencePiece's own.
"""
import collections
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy
import sentencepiece
import transformers
from safetensors.numpy import save_file

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
TOROID = sys.argv[1]
CASES = int(sys.argv[2]) if len(sys.argv) > 2 else 600
rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
failures = 0

CLASSES = {"gemma": transformers.GemmaConfig, "gemma2": transformers.Gemma2Config, "gemma3_text": transformers.Gemma3TextConfig}
LAYERS = 3


def fail(*what):
    global failures
    failures += 1
    print("FAILED:", *what)


def toroid(*arguments):
    """None, or why Toroid refused."""
    done = subprocess.run([TOROID, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode not in (0, 2):
        sys.exit(f"toroid {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


def shape(vocab):
    return dict(hidden_size=8, num_hidden_layers=LAYERS, num_attention_heads=2, num_key_value_heads=1, head_dim=4, intermediate_size=8, vocab_size=vocab)


def write_weights(folder, kind, vocab):
    folder.mkdir(parents=True)
    shapes = {"model.embed_tokens": (vocab, 8), "model.norm": (8,)}
    layer = dict.fromkeys(["input_layernorm", "post_attention_layernorm"], (8,)) | {
        "mlp.gate_proj": (8, 8), "mlp.up_proj": (8, 8), "mlp.down_proj": (8, 8), "self_attn.q_proj": (8, 8), "self_attn.k_proj": (4, 8),
        "self_attn.v_proj": (4, 8), "self_attn.o_proj": (8, 8)}
    if kind != "gemma":
        layer |= dict.fromkeys(["pre_feedforward_layernorm", "post_feedforward_layernorm"], (8,))
    if kind == "gemma3_text":
        layer |= dict.fromkeys(["self_attn.q_norm", "self_attn.k_norm"], (4,))
    shapes |= {f"model.layers.{i}.{name}": size for i in range(LAYERS) for name, size in layer.items()}
    save_file({f"{name}.weight": numpy.full(size, 0.25, numpy.float32) for name, size in shapes.items()}, folder / "model.safetensors")


def maybe(keys, probability, key, *values):
    if rng.random() < probability:
        keys[key] = rng.choice(values)


def rope():
    keys = {}
    maybe(keys, 0.7, "rope_theta", 1e4, 1e6, 5e5, None, 7)
    maybe(keys, 0.7, "rope_type", "default", "linear", "default", "yarn", None)
    maybe(keys, 0.3, "type", "default", "linear")
    maybe(keys, 0.4, "factor", 1.0, 2.0, 8.0, None)
    maybe(keys, 0.05, "partial_rotary_factor", 0.5, 1.0, None)
    return keys


def rope_parameters():
    keys = {}
    maybe(keys, 0.7, "full_attention", rope(), rope(), None)
    maybe(keys, 0.7, "sliding_attention", rope(), {"rope_theta": 3.0}, {"rope_type": "default"}, None)
    return rng.choice([rope(), keys, keys, keys | rope(), None])


def random_keys():
    keys = {}
    maybe(keys, 0.35, "rope_theta", 1e4, 1e6, 5e5, None, 7)
    maybe(keys, 0.25, "rope_local_base_freq", 1e4, 3.0, None)
    maybe(keys, 0.3, "rope_scaling", None, {}, rope(), rope(), rope())
    maybe(keys, 0.45, "rope_parameters", rope_parameters())
    maybe(keys, 0.15, "sliding_window", 5, None, 4096, 0)
    maybe(keys, 0.15, "sliding_window_pattern", 1, 2, 3, 6, None)
    maybe(keys, 0.1, "_sliding_window_pattern", 2, 3, 6, None)
    full, sliding = ["full_attention"], ["sliding_attention"]
    maybe(keys, 0.2, "layer_types", None, full * 3, [*sliding, *full, "attention"], sliding * 3, full * 2, ["chunked_attention"] * 3)
    maybe(keys, 0.2, "hidden_act", "gelu", "gelu_pytorch_tanh", "gelu_pytorch_tanh", "relu", "silu", None)
    maybe(keys, 0.2, "hidden_activation", "gelu", "gelu_pytorch_tanh", "gelu_pytorch_tanh", "relu", "silu", None)
    maybe(keys, 0.1, "query_pre_attn_scalar", 4, 24, None)
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        maybe(keys, 0.1, key, None, 5.0)
    maybe(keys, 0.1, "rms_norm_eps", 1e-5, None)
    for key in ("attention_bias", "use_bidirectional_attention"):
        maybe(keys, 0.05, key, False, None)
    for key in ("tie_word_embeddings", "use_cache"):
        maybe(keys, 0.05, key, True, None)
    maybe(keys, 0.1, "max_position_embeddings", 64, None)
    maybe(keys, 0.1, "bos_token_id", 1, None, 3)
    maybe(keys, 0.1, "eos_token_id", 1, [1, 7], None, 3)
    maybe(keys, 0.1, "pad_token_id", None, 0, 3)
    return keys


def of_transformers(kind, keys):
    """What the class holds; an exception where it, or the model that would be made of it, fails or does what Toroid has not."""
    config = CLASSES[kind](**json.loads(json.dumps(shape(16) | keys)))
    first = kind == "gemma"
    types = ["full_attention"] * LAYERS if first else config.layer_types
    assert set(types) <= {"full_attention", "sliding_attention"}

    def angles(parameters):
        scale = {"default": 1.0, "linear": parameters.get("factor")}[parameters["rope_type"]]
        return float(parameters["rope_theta"]), float(scale)

    eos = config.eos_token_id
    held = dict(types=types, eps=config.rms_norm_eps, tokens=config.max_position_embeddings,
                ids=(config.bos_token_id, eos if isinstance(eos, list) else [] if eos is None else [eos], config.pad_token_id))
    held["activation"] = {"gelu_pytorch_tanh": "GELU_TANH", "relu": "RELU", "silu": "SILU", "gelu": "GELU"}[config.hidden_act if first else config.hidden_activation]
    if first and held["activation"] == "GELU" and keys.get("hidden_activation") != "gelu":
        held["activation"] = "GELU_TANH"  # what the first Gemma files mean, whatever transformers makes of them
    for key, layer in (("global", "full_attention"), ("local", "sliding_attention")):
        if layer in types:
            held[key] = angles(config.rope_parameters[layer] if kind == "gemma3_text" else config.rope_parameters)
    if not first:
        assert config.sliding_window  # masks are made of it whatever the layers are
        held |= dict(scalar=float(config.query_pre_attn_scalar), caps=(config.attn_logit_softcapping or 0, config.final_logit_softcapping or 0))
        if "sliding_attention" in types:
            held["window"] = config.sliding_window
    return held


def of_toroid(run):
    text = (run / "config.textproto").read_text()
    model, ids = re.search(r"^model \{.*?^\}", text, re.S | re.M).group(0).split("token_ids", 1)

    def values(key, where=model):
        return re.findall(rf"^\s*{key}: (\S+)", where, re.M)

    def some(key):
        return [int(value) for value in values(key, ids) if int(value) >= 0]

    pattern = values("layer_pattern") or ["GLOBAL"]
    names = {"GLOBAL": "full_attention", "LOCAL": "sliding_attention"}
    return {"types": [names[pattern[i % len(pattern)]] for i in range(LAYERS)], "eps": float(values("norm_eps")[0]),
            "tokens": int(values("tokens_per_sequence", text)[0]), "ids": (*(some("bos") or [None]), some("eos"), *(some("pad") or [None])),
            "activation": values("activation")[0], "global": (float(values("base")[0]), float(values("scale")[0])),
            "local": (float(values("local_base")[0]), 1.0), "window": int(values("window")[0]), "scalar": float(values("query_pre_attn_scalar")[0]),
            "caps": (float(values("attention_softcap")[0]), float(values("logit_softcap")[0]))}


def configs(folder):
    for kind in CLASSES:
        write_weights(folder / kind, kind, 16)
    seen = collections.Counter()
    for case in range(CASES):
        kind, keys = rng.choice(list(CLASSES)), random_keys()
        try:
            expected = of_transformers(kind, keys)
        except Exception as error:
            expected, why = None, error
        (folder / kind / "config.json").write_text(json.dumps({"model_type": kind} | shape(16) | keys))
        refused = toroid("import", folder / kind, "--out", folder / f"run{case}")
        if refused is not None:
            seen["refused by both" if expected is None else "refused by Toroid alone"] += 1
        elif expected is None:
            fail(f"{kind} {keys} was taken, though transformers says: {str(why)[:200]}")
        else:
            found = of_toroid(folder / f"run{case}")
            different = {key: (found[key], value) for key, value in expected.items() if found[key] != value}
            if different:
                fail(f"{kind} {keys}: Toroid, transformers: {different}")
            seen["equal"] += 1
    print(f"configs: {dict(seen)}")


RUNS = ["\n" * n for n in range(1, 8)] + ["\u2581" * n for n in range(2, 12)]
GEMMA = dict(pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>")
KINDS = {
    "defaults": {}, "swapped": dict(bos_id=2, eos_id=1), "unk at 3": dict(pad_id=0, eos_id=1, bos_id=2, unk_id=3), "no ends": dict(bos_id=-1, eos_id=-1),
    "named": dict(bos_piece="[B]", eos_piece="[E]", unk_piece="[U]", pad_id=3, pad_piece="[P]"), "control": dict(control_symbols=["<mask>", "<pad>"]),
    "Gemma": GEMMA | dict(user_defined_symbols=["<mask>", "<start_of_turn>", *RUNS]), "Gemma without a mask": GEMMA,
    "words": dict(user_defined_symbols=["hello", "<x>", "tool"]), "gaps": dict(user_defined_symbols=["\u2581" * 5, "\n\n\n"]),
    "spaces": dict(user_defined_symbols=["\u2581hello", "a\u2581b", " tool"]), "prefixes": dict(user_defined_symbols=["a", "ab", "aba", "<x>", "<x>a"]),
}
REFUSED = {"NFKC": dict(normalization_rule_name="nfkc"), "NMT": dict(normalization_rule_name="nmt_nfkc"), "case": dict(normalization_rule_name="nfkc_cf"),
           "prefix": dict(add_dummy_prefix=True), "spaces": dict(remove_extra_whitespaces=True), "suffix": dict(treat_whitespace_as_suffix=True),
           "no bytes": dict(byte_fallback=False)}
WORDS = "the torus ring of gradient sharding self. def (x, y) == 0 1234 snake_case größer Москва 生活的真谛是 😀 <b> reduces reduced hello tool".split()
SCRAPS = ["a", "b", " ", "  ", "\t", "\n", "hello", "tool", "the", "<x>", "é", "生", "1", "\u00a0", "z", " " * 7, "\ufb01"]


def prose(words):
    return "".join(rng.choice(WORDS) + rng.choice([" "] * 18 + ["\n", "\n\n", "\n    ", "\n\t\t", "  ", "\t", "   "]) for _ in range(words))


def trained(settings):
    model = io.BytesIO()
    defaults = dict(model_type="bpe", vocab_size=600, byte_fallback=True, hard_vocab_limit=False, add_dummy_prefix=False, remove_extra_whitespaces=False,
                    normalization_rule_name="identity", minloglevel=2, allow_whitespace_only_pieces=True)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([prose(12) for _ in range(300)]), model_writer=model, **(defaults | settings))
    return model.getvalue()


def tokenizers(folder):
    write_weights(folder / "model", "gemma", 1024)
    (folder / "model/config.json").write_text(json.dumps({"model_type": "gemma"} | shape(1024)))
    for name, settings in REFUSED.items():
        (folder / "model/tokenizer.model").write_bytes(trained(settings))
        if toroid("import", folder / "model", "--out", folder / f"refused {name}") is None:
            fail(f"the tokenizer {name} was taken")
    for name, settings in KINDS.items():
        (folder / "model/tokenizer.model").write_bytes(trained(settings))
        for step in (("import", folder / "model", "--out", folder / name), ("export", "--checkpoint", folder / name, "--out", folder / f"{name} out")):
            if (refused := toroid(*step)) is not None:
                sys.exit(f"{name}: {refused}")
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "model/tokenizer.model"))
        ours = transformers.AutoTokenizer.from_pretrained(folder / f"{name} out")
        config = transformers.AutoConfig.from_pretrained(folder / f"{name} out")
        ends = [id if id >= 0 else None for id in (model.bos_id(), model.eos_id(), model.pad_id())]
        if [ours.bos_token_id, ours.eos_token_id, ours.pad_token_id] != ends or ours.unk_token_id != model.unk_id():
            fail(f"{name}: special ids are {ours.bos_token_id, ours.eos_token_id, ours.pad_token_id, ours.unk_token_id}")
        if [config.bos_token_id, config.eos_token_id, config.pad_token_id] != ends:
            fail(f"{name}: config.json says {config.bos_token_id, config.eos_token_id, config.pad_token_id}, not {ends}")
        if len(ours) != model.vocab_size():
            fail(f"{name}: {len(ours)} tokens, not {model.vocab_size()}")
        for case in range(300):
            text = prose(rng.randrange(12)) if case % 2 else "".join(rng.choice(SCRAPS) for _ in range(rng.randrange(25)))
            ids = ours(text).input_ids
            if ids != [model.bos_id()] * (model.bos_id() >= 0) + model.encode(text):
                fail(f"{name}: {text!r} is cut into {ours.convert_ids_to_tokens(ids)}")
            elif ours.decode(ids, skip_special_tokens=True) != text:
                fail(f"{name}: {text!r} decodes to {ours.decode(ids, skip_special_tokens=True)!r}")
    print(f"tokenizers: {len(KINDS)} kinds compared, {len(REFUSED)} refused")


with tempfile.TemporaryDirectory() as scratch:
    configs(Path(scratch) / "configs")
    tokenizers(Path(scratch) / "tokenizers")
print(f"{failures} failures")
sys.exit(failures > 0)
