"""Does an exported model open in transformers, with the same logits and the same tokens?

usage: transformers_check.py TOROID ENGINE_LOGITS GOLDEN_DIR [RUN...]   (needs torch, transformers, sentencepiece, safetensors)
       transformers_check.py --logits DIR...

The first form imports every case of GOLDEN_DIR (models that transformers saved), exports it again in fp32, in bf16 and in
shards, and compares transformers' logits of both, and with those that Toroid's engine computes from the checkpoint; then it
trains a SentencePiece model in the Gemma manner, sends it through import and export and compares ids. Each RUN is exported, and
the logits of export and engine are compared. The second form checks logits that were computed before: each DIR holds an
exported model in export/ and logits.safetensors with input_ids [B,T] (I64), logits [B,T,V] and, where documents are packed,
position_ids [B,T].
"""
import json
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

FP32_BOUND = 1e-5  # of the largest logit

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
failures = 0
passed = 0


def expect(ok, what):
    global failures, passed
    passed, failures = passed + bool(ok), failures + (not ok)
    if not ok:
        print("FAILED:", what)


def toroid(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"toroid {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr[-2000:]}")


def logits_of(folder, ids, dtype=torch.float32, **more):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=dtype)
    with torch.no_grad():
        return model.eval()(input_ids=ids, **more).logits.float()


def far(a, b):
    return float((a - b).abs().max() / b.abs().max())


def engine(program, engine_program, run, folder):
    """Exports `run` into folder/export and compares its logits with the engine's."""
    if not (folder / "export").exists():
        toroid(program, "export", "--checkpoint", run, "--out", folder / "export")
    toroid(engine_program, run, folder / "logits.safetensors")
    engine_logits(folder)


def models(program, engine_program, golden):
    cases = [case for case in sorted(golden.iterdir()) if (case / "model.safetensors").exists()]
    for case in cases:
        spec = json.loads((case / "config.json").read_text())
        if spec.get("mlp") == "plain" or spec.get("parallel_layers"):
            print(f"{case.name}: transformers has no such layer")
            continue
        ids = torch.randint(3, spec["vocab_size"], (2, 17), generator=torch.Generator().manual_seed(1))
        reference = logits_of(case, ids)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            toroid(program, "import", case, "--out", folder / "run")
            toroid(program, "export", "--checkpoint", folder / "run", "--out", folder / "f32")
            engine(program, engine_program, folder / "run", folder)
            toroid(program, "export", "--checkpoint", folder / "run", "--out", folder / "shards", "--shard-size", "20kB")
            toroid(program, "export", "--checkpoint", folder / "run", "--out", folder / "bf16", "--dtype", "BF16")
            one, many = logits_of(folder / "f32", ids), logits_of(folder / "shards", ids)
            half, half_reference = logits_of(folder / "bf16", ids, torch.bfloat16), logits_of(case, ids, torch.bfloat16)
            expect(torch.equal(one, reference), f"{case.name}: fp32 logits differ by {far(one, reference)}")
            expect(torch.equal(many, reference), f"{case.name}: logits of shards differ by {far(many, reference)}")
            expect(torch.equal(half, half_reference), f"{case.name}: bf16 logits differ by {far(half, half_reference)}")
            a, b = (transformers.AutoConfig.from_pretrained(f).to_dict() for f in (case, folder / "f32"))
            for key in ("architectures", "head_dim", "hidden_size", "layer_types", "max_position_embeddings", "rms_norm_eps",
                        "rope_parameters", "sliding_window", "query_pre_attn_scalar", "attn_logit_softcapping",
                        "final_logit_softcapping", "tie_word_embeddings", "vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"):
                expect(a.get(key) == b.get(key), f"{case.name}: config {key}: {a.get(key)} became {b.get(key)}")
            print(f"{case.name}: logits agree")


def texts():
    """Sources and documentation of this repository, and what trips tokenizers."""
    root = Path(__file__).resolve().parents[3]
    for path in sorted([*root.glob("docs/*.md"), *root.glob("core/**/*.cpp"), *root.glob("tests/**/*.py")]):
        yield path.read_text(encoding="utf-8")
    yield from ("", " ", "  ", "   a", "a  b", "a\tb", "\t\tx", "\n", "\n\n\n", "a \n b", "12345 6.78e9", "naïve café", "生活的真谛是", "😀😀",
                "a\u00a0b", "x" * 300, " " * 40 + "deep", "e\u0301", "<table>cell</table>", "\r\n")
    rng = random.Random(1)
    for _ in range(200):
        yield "".join(rng.choice("ab 12.,\n\té生<>") for _ in range(rng.randrange(60)))


def tokenizer(program):
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "text").write_text("\n".join(texts()), encoding="utf-8")
        runs = ["\n" * n for n in range(2, 8)] + ["\u2581" * n for n in range(2, 32)]
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text"), model_prefix=str(folder / "tokenizer"), model_type="bpe", vocab_size=1500, byte_fallback=True,
            split_digits=True, allow_whitespace_only_pieces=True, add_dummy_prefix=False, remove_extra_whitespaces=False,
            normalization_rule_name="identity", pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>",
            bos_piece="<bos>", user_defined_symbols=["<mask>", "<start_of_turn>", "<end_of_turn>", *runs, "<table>", "</table>"],
            minloglevel=2)
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        config = transformers.GemmaConfig(vocab_size=model.vocab_size(), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                          num_attention_heads=1, num_key_value_heads=1, head_dim=16, max_position_embeddings=64,
                                          hidden_act="gelu_pytorch_tanh")
        transformers.GemmaForCausalLM(config).save_pretrained(folder / "model")
        shutil.copy(folder / "tokenizer.model", folder / "model")
        toroid(program, "import", folder / "model", "--out", folder / "run")
        toroid(program, "export", "--checkpoint", folder / "run", "--out", folder / "out")
        ours = transformers.AutoTokenizer.from_pretrained(folder / "out")
        different, shown = 0, 0
        for text in texts():
            if any(tag in text for tag in ("<pad>", "<eos>", "<bos>", "<unk>")):
                continue  # transformers takes these for what they name; SentencePiece and Toroid take them for text
            ids = ours(text).input_ids
            expected = [model.bos_id(), *model.encode(text)]
            if ids != expected:
                different += 1
                at = next((i for i, (x, y) in enumerate(zip(ids, expected)) if x != y), min(len(ids), len(expected)))
                if (shown := shown + 1) <= 5:
                    print(f"  {text[:40]!r}: at {at}: {ours.convert_ids_to_tokens(ids[at:at + 6])}, SentencePiece "
                          f"{[model.id_to_piece(i) for i in expected[at:at + 6]]}")
            elif ours.decode(ids, skip_special_tokens=True) != text:
                different += 1
                print(f"  {text[:60]!r} decodes to {ours.decode(ids, skip_special_tokens=True)[:60]!r}")
        expect(different == 0, f"the exported tokenizer differs from SentencePiece on {different} texts")
        expect(ours.convert_tokens_to_ids("<start_of_turn>") == model.piece_to_id("<start_of_turn>"), "the id of a turn tag")
        expect(ours("<start_of_turn>user").input_ids[1] == model.piece_to_id("<start_of_turn>"), "a turn tag is one token")
        expect((ours.bos_token_id, ours.eos_token_id, ours.pad_token_id, ours.unk_token_id) == (2, 1, 0, 3), "special ids")
        expect(len(ours) == model.vocab_size(), f"{len(ours)} tokens, not {model.vocab_size()}")
        print("tokenizer: compared")


def engine_logits(folder):
    given = load_file(folder / "logits.safetensors")
    ids = given["input_ids"].long()
    more = {"position_ids": given["position_ids"].long()} if "position_ids" in given else {}
    expected = logits_of(folder / "export", ids, **more)
    distance = far(given["logits"].float(), expected)
    expect(distance <= FP32_BOUND, f"{folder}: logits differ by {distance} of the largest")
    print(f"{folder}: the engine's logits agree to {distance:.2g} of the largest")


torch.set_num_threads(1)
if sys.argv[1] == "--logits":
    for name in sys.argv[2:]:
        engine_logits(Path(name))
else:
    models(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    for name in sys.argv[4:]:
        with tempfile.TemporaryDirectory() as scratch:
            engine(sys.argv[1], sys.argv[2], Path(name), Path(scratch))
    tokenizer(sys.argv[1])
print(f"{passed} passed, {failures} failed")
sys.exit(failures > 0)
