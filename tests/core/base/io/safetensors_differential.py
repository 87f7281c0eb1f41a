"""Our safetensors against PyPI's: the same files accepted, the same bytes written.

usage: safetensors_differential.py PROBE [SEED] [FILES]   (needs safetensors and numpy)
Differences that are meant: ours refuses unknown keys, more than 32 dimensions, tensors named twice, dimensions or their products
past 2^63 (of empty tensors) and
dtypes that Toroid does not know.
"""
import json
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save, save_file

TYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "U16": 2, "U32": 4, "U64": 8}


class Probe:
    def __init__(self, program):
        self.child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline().strip()
        if not answer:
            sys.exit(f"the probe died on: {line} (exit {self.child.wait()})")
        return answer


def random_header(rng):
    """A valid header and the number of data bytes it needs."""
    entries, at = [], 0
    for i in range(rng.randrange(5)):
        dtype = rng.choice(list(TYPES))
        shape = [rng.choice([0, 1, 2, 3, 7]) for _ in range(rng.randrange(4))]
        size = TYPES[dtype]
        for dim in shape:
            size *= dim
        entries.append((f"t{i}", {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}))
        at += size
    rng.shuffle(entries)
    header = dict(entries)
    if rng.random() < 0.3:
        header["__metadata__"] = {"a": "b"}
    return header, at


def mutate(rng, header, size):
    """A file that is probably wrong in one way."""
    names = [n for n in header if n != "__metadata__"]
    kind = rng.randrange(12)
    extra = 0
    if names and kind < 6:
        entry = header[rng.choice(names)]
        value = rng.choice([-1, 0, 1, 2, 4, 5, 8, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 1.0, 1e400, None, "1", [1]])
        if kind < 3:
            entry["data_offsets"][rng.randrange(2)] = value
        elif kind < 5 and entry["shape"]:
            entry["shape"][rng.randrange(len(entry["shape"]))] = value
        else:
            entry["shape"].append(value)
    elif names and kind == 6:
        header[rng.choice(names)]["dtype"] = rng.choice(["F32", "U8", "F64", "f32", "", "F33"])
    elif names and kind == 7:
        del header[rng.choice(names)][rng.choice(["dtype", "shape", "data_offsets"])]
    elif kind == 8:
        extra = rng.choice([-1, 1, 8])
    text = json.dumps(header, separators=(",", ":")).replace("Infinity", "1e400").encode()
    text += b" " * rng.choice([0, 0, (8 - len(text)) % 8])
    length = len(text)
    if kind == 9:
        text = bytes(b ^ (1 << rng.randrange(8)) if i == rng.randrange(len(text)) else b for i, b in enumerate(text))
    elif kind == 10:
        length += rng.choice([-1, 1, 8, 2**32, 2**63])
    elif kind == 11:
        text += rng.choice([b"x", b"{}", b"\n", b"\0"])
        length = len(text)
    return struct.pack("<Q", length % 2**64) + text + b"\0" * max(0, size + extra)


def reference(path):
    try:
        with safetensors.safe_open(path, "np") as f:
            f.keys()
        return "accepted"
    except Exception as error:  # noqa: BLE001: whatever it raises is a refusal
        return f"refused: {error}"


def meant(answer):
    """Differences that docs/formats.md states."""
    return any(text in answer for text in ("unknown key", "more than 32 dimensions", "does not know", "past 2^63", "passes 2^63", "twice"))


def main():
    probe = Probe(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    files = int(sys.argv[3]) if len(sys.argv) > 3 else 3000
    rng = random.Random(seed)
    counts = {"accepted": 0, "refused": 0, "meant": 0}
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.safetensors"
        for i in range(files):
            data = mutate(rng, *random_header(rng))
            path.write_bytes(data)
            ours, theirs = probe.ask(f"read {path}"), reference(path)
            if ours.split(":")[0] == theirs.split(":")[0]:
                counts[ours.split(":")[0]] += 1
            elif meant(ours):
                counts["meant"] += 1
            else:
                failures += 1
                print(f"file {i} of seed {seed}: ours {ours}; theirs {theirs}; {data[:300]!r}")
        for i in range(200):
            kinds = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_]
            tensors = {}
            for k in range(rng.randrange(6)):
                shape = tuple(rng.randrange(5) for _ in range(rng.randrange(4)))
                name = "".join(rng.choice('ab.é"\\\n\t\x01世') for _ in range(rng.randrange(1, 6))) + str(k)
                tensors[name] = np.asarray(np.random.default_rng(i * 10 + k).random(shape) * 100).astype(rng.choice(kinds))
            metadata = {"format": "pt"} if rng.random() < 0.5 else None
            theirs = save(tensors, metadata)
            path.write_bytes(theirs)
            copy = Path(folder) / "copy.safetensors"
            answer = probe.ask(f"copy {path} {copy}")
            if answer != "accepted" or copy.read_bytes() != theirs:
                failures += 1
                print(f"writing {i}: {answer}; theirs {theirs[:300]!r}; ours {copy.read_bytes()[:300] if copy.exists() else None!r}")
    print(f"{counts['accepted']} accepted and {counts['refused']} refused by both, {counts['meant']} refused on purpose, 200 written")
    print(f"{files + 200 - failures} passed, {failures} failed")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
