#!/usr/bin/env python3
"""Golden values of the update rules from PyTorch's own (torch >= 2.9), in fp32 on a CPU.

    pip install torch numpy && python3 tests/optim/make_golden.py > tests/optim/golden.json

Gradients and first weights are drawn here and stand in the file, so that the tests need no PyTorch.
"""
import json

import torch


def numbers(tensor):
    return [float(f"{float(value):.9g}") for value in tensor.flatten()]  # exact in fp32


def case(name, rule, shape, decay, rates, make):
    weight = torch.nn.Parameter(torch.randn(shape) * 0.1)
    optimizer = make(weight)
    out = {"name": name, "rule": rule, "shape": list(shape), "weight": numbers(weight.detach()), "steps": []}
    for rate in rates:
        weight.grad = torch.randn(shape)
        for group in optimizer.param_groups:
            group["lr"] = rate
        step = {"rate": rate, "gradient": numbers(weight.grad)}
        if rule.startswith("sgd"):  # decay is decoupled here, coupled there
            with torch.no_grad():
                weight.mul_(1 - rate * decay)
        optimizer.step()
        step["weight"] = numbers(weight.detach())
        out["steps"].append(step)
    return out


def muon(nesterov):
    # PyTorch multiplies in bf16 alone; its own function, told to stay in fp32, is the reference for fp32.
    return lambda weight: torch.optim.Muon([weight], lr=1, weight_decay=0.1, momentum=0.95, nesterov=nesterov,
                                           adjust_lr_fn="match_rms_adamw")


def main():
    torch.manual_seed(7)
    rates = [0.02, 0.01, 0.005]
    cases = []
    for shape in [(6, 10), (10, 6), (8, 8), (1, 5), (40, 24)]:
        for nesterov in [True, False]:
            # bfloat16() is the one place where the type of the products is chosen.
            keep = torch.Tensor.bfloat16
            torch.Tensor.bfloat16 = lambda self: self.clone()
            cases.append(case("fp32", "muon" if nesterov else "muon_plain", shape, 0.1, rates, muon(nesterov)))
            torch.Tensor.bfloat16 = keep
    for shape in [(6, 10), (24, 40), (40, 24)]:
        cases.append(case("bf16", "muon", shape, 0.1, rates, muon(True)))
    for nesterov in [True, False]:
        cases.append(case("fp32", "sgd" if not nesterov else "sgd_nesterov", (3, 5), 0.1, rates,
                          lambda weight: torch.optim.SGD([weight], lr=1, momentum=0.9, nesterov=nesterov)))
    print(json.dumps({"torch": torch.__version__, "cases": cases}))


if __name__ == "__main__":
    main()
