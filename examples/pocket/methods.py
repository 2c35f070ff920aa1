"""Candidates for finding concept neurons, against each other: the table of METHODS.md.

    python methods.py --json methods.json blue-guide-dog green-jeep
    python methods.py --table methods.json

Every candidate sees the same five photos and twenty of the model's own drawings of the class, takes steps of 8 + 8 of
them (timesteps in strata), and gives back a factor in [0, 1] for each cross-attention K and V weight: 0 where it is
shut. The fine-tuned weights that they are compared with are given back as they are. Pictures are drawn by diffusers and
judged by judge.py. What won is the library's learned mask; `cones find` and judge.py measure that.
"""
import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import bind
import check
import judge
import train_sd
import world

HERE = Path(__file__).parent
HALF, STEPS, DENSITY = 8, 200, 0.03
TOKEN = "sks"


class Lesson:
    """The photos and drawings of one subject, and the gradients of the loss on them."""

    def __init__(self, pipeline, name, subject):
        noun = subject["class"]
        self.pipeline, self.unet = pipeline, pipeline.unet.requires_grad_(False)
        self.prompts = [f"a photo of a {TOKEN} {noun}", f"a photo of a {noun}"]
        paths = sorted((HERE / "subjects" / name).glob("*.png"))
        photos = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        prompts, seeds = [self.prompts[1]] * 20, range(1000, 1020)
        drawings = list(check.draw_with_diffusers(HERE / "model", prompts, seeds, pipeline=pipeline))
        self.latents = [bind.latents(pipeline, photos), bind.latents(pipeline, drawings)]
        self.contexts = [bind.context(pipeline, prompt) for prompt in self.prompts]
        self.sites = {n: m for n, m in self.unet.named_modules() if n.endswith(("attn2.to_k", "attn2.to_v"))}
        self.theta = {n: m.weight.detach().clone() for n, m in self.sites.items()}
        self.alphas = train_sd.alphas_cumprod()

    def put(self, weights):
        for name, module in self.sites.items():
            module.weight.data.copy_(weights[name])

    def gradients(self, step, halves=(0, 1), contexts=(0, 1), guidance=None):
        """∂L/∂θ at the weights that are in place; `halves` and `contexts` say which pictures meet which prompt."""
        generator = torch.Generator().manual_seed(step)
        chosen = [self.latents[h][(step * HALF + torch.arange(HALF)) % len(self.latents[h])] for h in halves]
        clean = torch.cat(chosen)
        part = train_sd.TRAIN_STEPS // HALF
        within = torch.randint(part, (len(clean),), generator=generator)
        times = (torch.arange(HALF) * part).repeat(len(halves)) + within
        noise = torch.randn(clean.shape, generator=generator)
        alpha = self.alphas[times][:, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        text = torch.cat([self.contexts[c].expand(HALF, -1, -1) for c in contexts])
        for module in self.sites.values():
            module.weight.requires_grad_(True)
        output = self.unet(noisy, times, text).sample
        loss = (output - target).square().mean() * len(halves)
        found = torch.autograd.grad(loss, [m.weight for m in self.sites.values()])
        for module in self.sites.values():
            module.weight.requires_grad_(False)
        return dict(zip(self.sites, found))


def mean_scores(lesson, steps, **which):
    """Mean of θ·g and of g² at the untouched weights."""
    first, second = {n: 0 for n in lesson.theta}, {n: 0 for n in lesson.theta}
    for k in range(steps):
        for name, g in lesson.gradients(k, **which).items():
            first[name] = first[name] + lesson.theta[name] * g / steps
            second[name] = second[name] + g.square() / steps
    return first, second


def shut_highest(scores, density=DENSITY):
    """Shuts the share of all weights that score highest, where the score is positive."""
    every = torch.cat([s.flatten() for s in scores.values()])
    least = every.kthvalue(max(1, int(len(every) * (1 - density)))).values.clamp(min=0)
    return {name: (s <= least).float() for name, s in scores.items()}


def algorithm1(lesson):
    return shut_highest(mean_scores(lesson, STEPS)[0])


def algorithm1_10(lesson):
    return shut_highest(mean_scores(lesson, STEPS)[0], 0.10)


def by_layer(lesson):
    return {name: shut_highest({name: s})[name] for name, s in mean_scores(lesson, STEPS)[0].items()}


def by_row(lesson):
    scores, _ = mean_scores(lesson, STEPS)
    kth = lambda s: s.kthvalue(int(s.shape[1] * (1 - DENSITY)), dim=1, keepdim=True).values
    least = {name: kth(s).clamp(min=0) for name, s in scores.items()}
    return {name: (s <= least[name]).float() for name, s in scores.items()}


def second_order(lesson):
    """θ·g − ½θ²F, with the mean squared gradient of a step times its samples for F: the empirical Fisher diagonal."""
    scores, squares = mean_scores(lesson, STEPS)
    return shut_highest({n: s - 0.5 * lesson.theta[n].square() * squares[n] * 2 * HALF for n, s in scores.items()})


def token_contrast(lesson):
    """Scores of the photos under the token's prompt, minus their scores under the class's."""
    with_token, _ = mean_scores(lesson, STEPS // 2, halves=(0,), contexts=(0,))
    without, _ = mean_scores(lesson, STEPS // 2, halves=(0,), contexts=(1,))
    return shut_highest({n: s - without[n] for n, s in with_token.items()})


def rounds(lesson, count=8):
    """Scores at the masked point, averaged with a decay; each round shuts more, and what no longer scores reopens."""
    mask, scores = {n: torch.ones_like(t) for n, t in lesson.theta.items()}, {n: 0 for n in lesson.theta}
    steps = STEPS // count
    for r in range(count):
        lesson.put({n: t * mask[n] for n, t in lesson.theta.items()})
        for k in range(steps):
            for name, g in lesson.gradients(r * steps + k).items():
                scores[name] = 0.98 * scores[name] + 0.02 * lesson.theta[name] * g
        mask = shut_highest(scores, 0.10 * (r + 1) / count)
    return mask


def straight_through(lesson, rate=0.05, penalty=0.0):
    """Real scores, a sigmoid's gradient behind a step function (Bengio et al. 2013), from Algorithm 1's order."""
    start, _ = mean_scores(lesson, STEPS // 4)
    order = {n: s / s.square().mean().sqrt() for n, s in start.items()}
    real = {n: (1 - 0.5 * o).clamp(-1, 2) for n, o in order.items()}
    optimizer = torch.optim.Adam(list(real.values()), lr=rate)
    for k in range(STEPS):
        lesson.put({n: t * (real[n] > 0) for n, t in lesson.theta.items()})
        for name, g in lesson.gradients(1000 + k).items():
            slope = torch.sigmoid(real[name])
            slope = slope * (1 - slope)
            real[name].grad = (lesson.theta[name] * g / lesson.theta[name].square().mean() - penalty) * slope
        optimizer.step()
    return {n: (r > 0).float() for n, r in real.items()}


def fine_tuned(lesson, steps=STEPS, rate=0.1):
    """Adam on all values, in steps of a share of a site's root mean square: what masks are compared with."""
    weights = {n: t.clone() for n, t in lesson.theta.items()}
    groups = [{"params": [w], "lr": rate * float(w.square().mean().sqrt())} for w in weights.values()]
    optimizer = torch.optim.Adam(groups)
    full = [g["lr"] for g in groups]
    for k in range(steps):
        for group, lr in zip(optimizer.param_groups, full):
            group["lr"] = lr * min(1, (steps - k) / (0.4 * steps))
        lesson.put(weights)
        for name, g in lesson.gradients(k).items():
            weights[name].grad = g
        optimizer.step()
    return weights


def grams(lesson, subject_phrase, noun):
    """Mean of x·xᵀ over the embeddings of prompts with the subject, and of prompts without."""
    templates = ["a photo of a {}", "a picture of a {}", "a {}"]
    templates += [f"a photo of a {{}} {scene}" for scene in world.SCENES]
    found = []
    for phrase in (subject_phrase, noun):
        x = torch.cat([bind.context(lesson.pipeline, t.format(phrase))[0] for t in templates]).double()
        found.append(x.T @ x / len(x))
    return found


def closest_subset(theta, wanted, own, others, price=0.0):
    """Per row the b ∈ {0, 1} of least ‖θ∘b − d‖²_own + ‖θ∘b‖²_others + price·|b|, d = θ − wanted; by single flips."""
    theta, d = theta.double(), (theta - wanted).double()
    both, diagonal = own + others, (own + others).diagonal()
    b = torch.zeros_like(theta)
    charge = price * (theta.square() * diagonal).mean()
    for _ in range(4 * theta.shape[1]):
        pull = (theta * b) @ both - d @ own
        sign = 1 - 2 * b
        cost = 2 * sign * theta * pull + theta.square() * diagonal + sign * charge
        least, at = cost.min(1)
        going = least < 0
        if not going.any():
            break
        rows = going.nonzero()[:, 0]
        b[rows, at[rows]] = 1 - b[rows, at[rows]]
    return (1 - b).float()


def projected(lesson, rate=0.1):
    weights = fine_tuned(lesson, rate=rate)
    own, others = grams(lesson, *[p.removeprefix("a photo of a ") for p in lesson.prompts])
    return {n: closest_subset(t, weights[n], own, others) for n, t in lesson.theta.items()}


def projected_gently(lesson):
    return projected(lesson, rate=0.02)


def soft_mask(lesson, rate=0.1, steps=STEPS):
    """A share in [0, 1] of every weight, by projected gradient steps in units of the site's root mean square."""
    z = {n: torch.zeros_like(t) for n, t in lesson.theta.items()}
    mean, square = {n: 0 for n in z}, {n: 0 for n in z}
    for k in range(steps):
        lesson.put({n: t * (1 - z[n]) for n, t in lesson.theta.items()})
        now = rate * min(1, (steps - k) / (0.4 * steps))
        for name, g in lesson.gradients(k).items():
            g = -lesson.theta[name] * g
            mean[name], square[name] = 0.9 * mean[name] + 0.1 * g, 0.99 * square[name] + 0.01 * float(g.square().mean())
            unbiased = (mean[name] / (1 - 0.9 ** (k + 1))) / (square[name] / (1 - 0.99 ** (k + 1))) ** 0.5
            z[name] = (z[name] - now * unbiased).clamp(0, 1)
    return {n: 1 - share for n, share in z.items()}


def random_neurons(lesson):
    """As many as Algorithm 1 shuts, anywhere."""
    generator = torch.Generator().manual_seed(0)
    return {n: (torch.rand(t.shape, generator=generator) >= DENSITY).float() for n, t in lesson.theta.items()}


CANDIDATES = {
    "plain model": lambda lesson: {n: torch.ones_like(t) for n, t in lesson.theta.items()},
    "random neurons": random_neurons,
    "Algorithm 1": algorithm1,
    "Algorithm 1, 10 %": algorithm1_10,
    "highest per layer": by_layer,
    "highest per row": by_row,
    "second order": second_order,
    "token minus class": token_contrast,
    "rounds, re-opening": rounds,
    "straight-through": straight_through,
    "fine-tune, project": projected,
    "the same, rate 0.02": projected_gently,
    "soft mask, not rounded": soft_mask,
}
TUNED = {"fine-tuned values": fine_tuned}


def measure(pipeline, judges, subject, name):
    """The rows of every candidate for one subject."""
    lesson, noun, rows = Lesson(pipeline, name, subject), subject["class"], {}
    texts = [f"a photo of a {TOKEN} {noun} {s}" for s in world.SCENES for _ in range(judge.EACH)]
    texts += [f"a photo of a {noun} {s}" for s in world.SCENES for _ in range(judge.EACH)]
    seeds = [100 * i + k for i in range(len(world.SCENES)) for k in range(judge.EACH)] * 2
    for title, candidate in {**CANDIDATES, **TUNED}.items():
        lesson.put(lesson.theta)
        start = time.perf_counter()
        found = candidate(lesson)
        seconds = time.perf_counter() - start
        masks = title in CANDIDATES
        lesson.put({n: t * found[n] for n, t in lesson.theta.items()} if masks else found)
        pictures = list(check.draw_with_diffusers(HERE / "model", texts, seeds, pipeline=pipeline))
        row = judge.measure(judges, subject, pictures[:len(texts) // 2], pictures[len(texts) // 2:])
        row["seconds"] = seconds
        if masks:
            row["shut"] = sum(float((f < 0.5).sum()) for f in found.values()) / sum(f.numel() for f in found.values())
        rows[title] = row
        print(f"{name:18} {title:24} " + "  ".join(f"{k} {round(v, 3)}" for k, v in row.items()), flush=True)
    lesson.put(lesson.theta)
    return rows


def table(results):
    """Medians over subjects, as a Markdown table."""
    columns = ["right", "sharp", "variant", "hue", "scene", "class plain"]
    print("| | " + " | ".join(columns) + " | shut | seconds |\n|" + " --- |" * (len(columns) + 3))
    for title in next(iter(results.values())):
        of = [rows[title] for rows in results.values()]
        median = {key: statistics.median(row[key] for row in of) for key in of[0]}
        shut = f"{100 * median['shut']:.1f} %" if "shut" in median else "all values"
        counts = " | ".join(f"{median[c]:g}" for c in columns)
        print(f"| {title} | {counts} | {shut} | {median['seconds']:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path, default=Path("methods.json"), help="results so far; subjects are added")
    parser.add_argument("--table", type=Path, metavar="JSON")
    options = parser.parse_args()
    if options.table:
        return table(json.loads(options.table.read_text()))
    known = json.loads((HERE / "subjects/subjects.json").read_text())
    results = json.loads(options.json.read_text()) if options.json.exists() else {}
    pipeline, judges = check.load_pipeline(HERE / "model"), (judge.ObjectJudge(), judge.SceneJudge())
    for name in options.names:
        results[name] = measure(pipeline, judges, known[name], name)
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
