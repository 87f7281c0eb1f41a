#!/usr/bin/env python3
"""Time one training step of Gemma 2B in PyTorch on a GPU, as a peer to compare with.

torch.compile of transformers' Gemma with SDPA, fp32 weights and moments, bf16 compute (autocast), fused AdamW,
gradient clipping at 1.0, one sequence a microbatch; each layer computed again in the backward pass only where memory does
not take it otherwise ("recompute" in the JSON).

usage: torch_gemma_gpu_step.py [SEQUENCES] [TOKENS] [STEPS]; prints one JSON line. Needs: pip install torch transformers
"""
import json
import sys
import time

import torch
from transformers import GemmaConfig, GemmaForCausalLM

sequences = int(sys.argv[1]) if len(sys.argv) > 1 else 4
tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 8192
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 5
if not torch.cuda.is_available():
    sys.exit("torch_gemma_gpu_step.py: PyTorch sees no GPU here")

torch.manual_seed(0)
torch.set_float32_matmul_precision("high")
config = GemmaConfig(vocab_size=256128, hidden_size=2048, intermediate_size=16384, num_hidden_layers=18,
                     num_attention_heads=8, num_key_value_heads=1, head_dim=256, max_position_embeddings=tokens,
                     use_cache=False)
with torch.device("cuda"):
    model = GemmaForCausalLM._from_config(config, attn_implementation="sdpa", dtype=torch.float32)
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
ids = torch.randint(0, config.vocab_size, (sequences, tokens), device="cuda")
run = torch.compile(model)
recompute = False


def step():
    start = time.perf_counter()
    for row in ids:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = run(input_ids=row[None], labels=row[None]).loss / sequences
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    return time.perf_counter() - start


try:
    first = step()
except torch.cuda.OutOfMemoryError:
    recompute = True
if recompute:  # outside of the handler, which would keep what the step had
    optimizer.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    torch._dynamo.reset()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    run = torch.compile(model)
    first = step()
seconds = sorted(step() for _ in range(steps))[steps // 2]
print(json.dumps({"median_s": round(seconds, 4), "tokens_per_s": round(sequences * tokens / seconds),
                  "first_step_s": round(first, 1), "recompute": recompute,
                  "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2)}))
