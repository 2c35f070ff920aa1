"""Training steps of small networks without waiting for Python: on a GPU one step is one CUDA graph.

On a GPU the networks compute in bfloat16 from float32 weights, compiled where that works; on a CPU everything is plain
float32. Either way there is a running average of the weights, and training that has lost its way (no finite loss) goes
back a few seconds.
"""
import copy
import math
import os
import sys
import time
from pathlib import Path

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BEGUN = time.time()
SYNC_EVERY = 25  # steps between looks at the clock


def say(*what):
    print(f"{time.strftime('%H:%M:%S')} {Path(sys.argv[0]).stem} +{time.time() - BEGUN:.0f}s", *what, flush=True)


def set_up():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    if DEVICE.type == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def wait_for(path, until):
    """Wait until another process has written a file (which it does by renaming)."""
    while not path.exists():
        if time.time() > until:
            raise TimeoutError(f"{path} did not come")
        time.sleep(0.2)


def rate_at(progress, step, warm_steps):
    """A short rise by steps, then half a cosine over the time there is."""
    return min(1, (step + 1) / warm_steps) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, progress))))


class Trainer:
    """`loss(*networks)` gives a scalar; it draws its own batch. The networks must be on DEVICE already."""

    def __init__(self, networks, loss, rate, average=0.999, weight_decay=0.01, betas=(0.9, 0.99), compiled=None,
                 warm_steps=200, half=True):
        self.networks, self.loss, self.rate, self.average, self.warm_steps = networks, loss, rate, average, warm_steps
        self.first = [copy.deepcopy(network.state_dict()) for network in networks]
        self.named = [(f"{i}.{name}", p) for i, network in enumerate(networks)
                      for name, p in network.named_parameters()]
        self.parameters = [p for _, p in self.named]
        self.masters = [p.detach().float().clone() for p in self.parameters]
        self.averages = [m.clone() for m in self.masters]
        self.gradients = [torch.zeros_like(m) for m in self.masters]
        for master, gradient in zip(self.masters, self.gradients):
            master.grad = gradient
        if DEVICE.type == "cuda" and half:
            for network in networks:
                network.to(torch.bfloat16)
        # No decay on embeddings: it would shrink the rows of tokens that the captions never use.
        decays = [p.ndim > 1 and "embedding" not in name for name, p in self.named]
        groups = [{"params": [m for m, d in zip(self.masters, decays) if d is which], "weight_decay": decay}
                  for which, decay in ((True, weight_decay), (False, 0.0))]
        on_gpu = DEVICE.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=torch.tensor(rate, device=DEVICE) if on_gpu else rate,
            betas=betas, fused=True if on_gpu else None, foreach=None if on_gpu else True, capturable=on_gpu)
        self.keep = torch.tensor(0.0, device=DEVICE)  # how much of the average moves in a step
        self.total = torch.zeros((), device=DEVICE)
        self.steps, self.graph, self.good, self.setbacks = 0, None, None, 0
        self.run = [self.compile(n, c) for n, c in zip(networks, compiled or [False] * len(networks))]

    @staticmethod
    def compile(network, wanted):
        return torch.compile(network, dynamic=False) if wanted and DEVICE.type == "cuda" else network

    def step(self):
        loss = self.loss(*self.run)
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        found = [torch.zeros_like(p) if g is None else g for g, p in zip(found, self.parameters)]
        torch._foreach_copy_(self.gradients, list(found))
        norm = torch.stack(torch._foreach_norm(self.gradients)).norm()
        torch._foreach_mul_(self.gradients, (1 / (norm + 1e-6)).clamp(max=1))
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.masters)
            away = torch._foreach_sub(self.masters, self.averages)
            torch._foreach_mul_(away, self.keep)
            torch._foreach_add_(self.averages, away)
        self.total += loss.detach()

    def prepare(self):
        """Compile and capture, on whatever the batch's buffers hold; then begin from the first weights again."""
        if DEVICE.type != "cuda":
            return
        begun = time.time()
        try:
            self.warm()
        except Exception as error:  # whatever a compiler of another version does not like: without it, then
            say(f"WITHOUT torch.compile: {type(error).__name__}: {str(error)[:300]}")
            self.run = list(self.networks)
            self.warm()
        say(f"warm after {time.time() - begun:.1f} s")
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.step()
            self.graph = graph
            self.graph.replay()
            torch.cuda.synchronize()
        except Exception as error:
            torch.cuda.synchronize()
            self.graph = None
            say(f"WITHOUT a CUDA graph: {type(error).__name__}: {str(error)[:300]}")
        clock = time.time()
        for _ in range(10):
            self.advance()
        torch.cuda.synchronize()
        say(f"ready: {100 * (time.time() - clock):.2f} ms a step, {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
        self.reset()

    def warm(self):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(4):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()

    @torch.no_grad()
    def reset(self):
        for network, state in zip(self.networks, self.first):
            network.load_state_dict(state)
        fresh = [dict(n.named_parameters()) for n in self.networks]
        first = [state[name] for state, names in zip(self.first, fresh) for name in names]
        for master, averaged, value in zip(self.masters, self.averages, first):
            master.copy_(value)
            averaged.copy_(value)
        for state in self.optimizer.state.values():
            for value in state.values():
                if torch.is_tensor(value):
                    value.zero_()
        self.total.zero_()

    def advance(self):
        self.graph.replay() if self.graph else self.step()

    def train(self, until, after=None):
        """Steps until the clock says so. `after(progress)` is called now and then."""
        begun, shown, last = time.time(), time.time(), 0
        while (progress := (time.time() - begun) / max(until - begun, 1e-3)) < 1:
            for _ in range(SYNC_EVERY if DEVICE.type == "cuda" else 1):
                lr = self.rate * rate_at(progress, self.steps, self.warm_steps)
                for group in self.optimizer.param_groups:
                    if torch.is_tensor(group["lr"]):
                        group["lr"].fill_(lr)
                    else:
                        group["lr"] = lr
                self.keep.fill_(1 - min(self.average, (1 + self.steps) / (10 + self.steps)))
                self.advance()
                self.steps += 1
            if time.time() - shown > 5 or self.steps <= SYNC_EVERY:
                mean = self.total.item() / (self.steps - last)
                say(f"step {self.steps} loss {mean:.5f} rate {lr:.2e} "
                    f"{1000 * (time.time() - shown) / (self.steps - last):.2f} ms a step")
                if math.isfinite(mean):
                    self.good = [averaged.clone() for averaged in self.averages]
                else:
                    self.go_back()
                self.total.zero_()
                shown, last = time.time(), self.steps
            elif DEVICE.type == "cuda":
                torch.cuda.current_stream().synchronize()
            if after:
                after(progress)
        return self.steps

    @torch.no_grad()
    def go_back(self):
        """To the averaged weights of the last good report, at half the rate."""
        if not self.good or self.setbacks == 3:
            raise FloatingPointError("the loss is not finite")
        self.setbacks += 1
        self.rate /= 2
        say(f"NOT FINITE: back, at half the rate ({self.setbacks})")
        for master, averaged, good in zip(self.masters, self.averages, self.good):
            master.copy_(good)
            averaged.copy_(good)
        torch._foreach_copy_(self.parameters, self.masters)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

    @torch.no_grad()
    def finished(self):
        """The networks with the averaged weights, in float32."""
        for network in self.networks:
            network.float()
        for parameter, averaged in zip((p for n in self.networks for p in n.parameters()), self.averages):
            parameter.copy_(averaged)
        return [network.eval() for network in self.networks]
