"""What PyTorch's training steps of the small nets take on a GPU by the estimate that codegen/gpu/roofline.c makes of ours: its
operations are counted on the CPU, each as one kernel (a convolution's gradients as one each), one after the other in a CUDA graph,
that moves its arguments and results once, at the same shares of the peaks and with the same time between kernels. No kernel of
PyTorch is ever better than that, and eager calls add the time of the host.

    step(net, batch) -> (kernels, microseconds), or None without PyTorch"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "bench")]

FLOPS, BYTES, COMPUTE_SHARE, MEMORY_SHARE, BETWEEN_US = 66.9e12, 3.35e12, 0.5, 0.8, 1.2 + 2.3   # roofline.c: H100 SXM, float32
NO_KERNEL = set("view _unsafe_view t transpose permute detach expand alias as_strided empty empty_strided empty_like new_empty new_empty_strided "
                "slice select reshape unsqueeze squeeze _reshape_alias _record_function_enter_new _record_function_exit".split())


def step(net, batch):
    try:
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode
        from torch.utils._pytree import tree_leaves
        from torch.utils.flop_counter import flop_registry
        import nets
        import peers
    except ImportError:
        return None

    class Count(TorchDispatchMode):
        kernels, us = 0, 0.0

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            out = op(*args, **(kwargs or {}))
            name = op._schema.name.split("::")[1]
            if name not in NO_KERNEL:
                moved = sum(4 * t.numel() for t in tree_leaves((args, out)) if isinstance(t, torch.Tensor))
                flops = flop_registry[op.overloadpacket](*args, **(kwargs or {}), out_val=out) if op.overloadpacket in flop_registry else 0
                self.kernels += sum(args[-1]) if name == "convolution_backward" else 1
                self.us += 1e6 * max(flops / (FLOPS * COMPUTE_SHARE), moved / (BYTES * MEMORY_SHARE))
            return out

    module = getattr(nets, net)().train()
    x, y = torch.rand(batch, *peers.SHAPES[net]), torch.zeros(batch, dtype=torch.int64)
    loss, optimizer = torch.nn.CrossEntropyLoss(), torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, foreach=True)
    for counter in (Count(), Count()):   # the first step makes the optimizer's state
        with counter:
            optimizer.zero_grad(set_to_none=True)
            loss(module(x), y).backward()
            optimizer.step()
    return counter.kernels, counter.us + BETWEEN_US * counter.kernels
