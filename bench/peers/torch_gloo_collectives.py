#!/usr/bin/env python3
"""Time Gloo's collectives on fp32 arrays, as a peer to compare with.

One JSON line for each operation and size: seconds, the median over 7 calls of the slowest rank's. A size is the bytes of
the whole array: gathered, or before scattering.

usage: torchrun --nproc_per_node N torch_gloo_collectives.py BYTES...       Needs: pip install torch
"""
import json
import sys
import time

import torch
import torch.distributed as dist

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()


def timed(call):
    seconds = []
    for _ in range(8):
        dist.barrier()
        start = time.perf_counter()
        call()
        took = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
        dist.all_reduce(took, dist.ReduceOp.MAX)
        seconds.append(took.item())
    return sorted(seconds[1:])[3]  # the first one warms up


for size in map(int, sys.argv[1:]):
    share = torch.ones(size // 4 // ranks)
    whole = torch.ones(share.numel() * ranks)
    operations = {
        "all_gather": lambda: dist.all_gather_into_tensor(whole, share),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(share, whole),
        "all_reduce": lambda: dist.all_reduce(whole),
    }
    for name, call in operations.items():
        seconds = timed(call)
        if rank == 0:
            print(json.dumps({"gloo": name, "ranks": ranks, "bytes": whole.numel() * 4, "s": seconds}))
dist.destroy_process_group()
