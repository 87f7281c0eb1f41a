#!/usr/bin/env python3
"""Time PyTorch's scaled_dot_product_attention on a GPU, forward and backward, as a peer to compare with.

bf16, causal, random data, grouped queries; medians of 5 rounds of 10 calls, after 3 to warm up, by events. The defaults are a layer of Gemma 2B.

usage: torch_sdpa.py [SEQUENCES] [TOKENS] [HEADS] [KV_HEADS] [HEAD_DIM]; prints one JSON line. Needs: pip install torch
"""
import json
import statistics
import sys

import torch
from torch.nn.functional import scaled_dot_product_attention

given = [int(value) for value in sys.argv[1:]]
sequences, tokens, heads, kv_heads, head_dim = given + [1, 8192, 8, 1, 256][len(given):]
if not torch.cuda.is_available():
    sys.exit("torch_sdpa.py: PyTorch sees no GPU here")

torch.manual_seed(0)


def random(of_heads):
    return torch.randn(sequences, of_heads, tokens, head_dim, device="cuda", dtype=torch.bfloat16, requires_grad=True)


def attend(way):
    if way == "enable_gqa":
        return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return scaled_dot_product_attention(q, k.expand_as(q), v.expand_as(q), is_causal=True)


def median_s(run):
    """Of one call, several of which follow each other between two events, so that the host's time is not in it."""
    calls, seconds = 10, []
    for i in range(8):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            run()
        end.record()
        torch.cuda.synchronize()
        if i >= 3:
            seconds.append(begin.elapsed_time(end) / 1e3 / calls)
    return statistics.median(seconds)


q, k, v = random(heads), random(kv_heads), random(kv_heads)
gradient = torch.randn(sequences, heads, tokens, head_dim, device="cuda", dtype=torch.bfloat16)
# Which of the two its fused kernels take depends on the version: the faster one counts, of each pass.
times = {}
for way in ("enable_gqa", "expand"):
    try:
        forward = median_s(lambda: attend(way))
        out = attend(way)
        backward = median_s(lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True))
        times[way] = (forward, backward)
    except (RuntimeError, TypeError) as error:  # a version without the argument, or no room for plain kernels
        print(f"torch_sdpa.py: {way}: {error}", file=sys.stderr)
if not times:
    sys.exit("torch_sdpa.py: PyTorch carries out neither form of grouped queries")
forward, backward = (min(one[i] for one in times.values()) for i in range(2))
way = " and ".join(times)
flops = 4 * sequences * heads * head_dim * tokens * (tokens + 1) / 2  # two products, of the pairs that count
print(json.dumps({"forward_s": forward, "backward_s": backward, "forward_tflops": round(flops / forward / 1e12, 1),
                  "backward_tflops": round(2.5 * flops / backward / 1e12, 1), "way": way}))
