"""What the trained model draws, and whether new subjects can be bound to it: the figures of README.md.

    python evaluate.py --work DIR --out DIR [--processes 2]

waits for DIR/sd.pt (DIR/sd.json) and judges with judge.py, whose own error on true pictures comes first. Then plain
prompts of one to four objects; then Custom Diffusion on every held-out subject: K and V of cross-attention and the
token's embedding, on "a photo of a sks NOUN" with the photos and "a photo of a NOUN" with the model's own drawings. All
subjects are trained at once, each with weights of its own. Writes figures.json, plain.png and bind.png.
"""
import argparse
import json
import multiprocessing
import os
import random
import time
from pathlib import Path

import numpy as np

import judge
import shapes
import world

TOKEN = "sks"
PRIOR_DRAWINGS = 48
HALF = 8  # photos of a step, and drawings of the class
RATES = (1e-3, 3e-3)
GUIDANCES = (2.5, 4.0)
KINDS = ("right", "sharp", "shape", "features", "tint", "class", "scene")  # that pictures of a subject are counted by
SECONDS_OF_A_ROUND = 35  # of binding and judging, about


class Clock:
    def __init__(self, until):
        self.until = until

    def left(self):
        return self.until - time.time()


def plain_prompts(count, number):
    """[(nouns, prompt)]: half of the prompts name tints."""
    rng, found = random.Random(100 + count), []
    for i in range(number):
        nouns = rng.sample(list(world.CLASSES), count)
        phrases = [world.with_article(f"{rng.choice(list(world.TINTS))} {noun}" if i % 2 else noun) for noun in nouns]
        found.append((nouns, f"a photo of {world.listed(phrases)} {world.SCENES[i % 8]}"))
    return found


class Bench:
    def __init__(self, options, pool):
        import torch
        from diffusers import AutoencoderKL
        import fast
        import nets
        import pack
        fast.set_up()
        self.torch, self.nets, self.say, self.device = torch, nets, fast.say, fast.DEVICE
        self.work, self.out, self.pool, self.tiny = options.work, options.out, pool, options.tiny
        self.text, self.unet, self.words = pack.load_trained(self.work, self.device)
        self.vae = AutoencoderKL.from_pretrained(self.work / "vae").to(self.device).eval()
        self.scaling = self.vae.config.scaling_factor
        self.empty = self.context([""])
        self.steps = 2 if self.tiny else 24

    def context(self, prompts):
        with self.torch.no_grad():
            return self.text(self.words.batch(prompts).to(self.device))

    def draw(self, context, seeds, guidance=2.5, unet=None):
        latents = self.nets.sample(unet or self.unet, context, self.empty, seeds, self.steps, guidance)
        return self.nets.decode(self.vae, latents, self.scaling)

    def through(self, pictures):
        """As the autoencoder leaves them."""
        import train_vae
        return list(self.nets.decode(self.vae, train_vae.encode(self.vae, np.stack(pictures)).float(), 1.0))

    def judge(self, jobs):
        return self.pool.map(judge.judge_picture, jobs, chunksize=4)

    def plain(self, number):
        """Plain prompts of one to four objects: all classes present, and each."""
        table, tiles = {}, []
        for count in (1, 2, 3, 4):
            listed = plain_prompts(count, number)
            for guidance in GUIDANCES:
                pictures = self.draw(self.context([text for _, text in listed]), range(len(listed)), guidance)
                if guidance == GUIDANCES[0 if count == 1 else 1]:
                    tiles += list(pictures[:32])
                row = {"pictures": len(listed), "all": 0, "each": 0, "scene": 0}
                for (nouns, _), (slots, scene), i in zip(
                        listed, self.judge([(picture, count, False) for picture in pictures]), range(len(listed))):
                    seen = [label[0] for label, _ in slots if label]
                    row["all"] += all(noun in seen for noun in nouns)
                    row["each"] += sum(noun in seen for noun in nouns) / count
                    row["scene"] += scene == world.SCENES[i % 8]
                table[f"{count} objects, guidance {guidance}"] = row
                self.say(f"plain, {count} objects, guidance {guidance}:", row)
        world.sheet(tiles, 16).save(self.out / "plain.png")
        return table

    def bind(self, names, steps, per_scene, clock, rates=RATES):
        """Custom Diffusion on all subjects at all rates at once, judged after each count of steps."""
        torch, nets = self.torch, self.nets
        runs = [(name, rate) for rate in rates for name in names]
        subjects = [world.SUBJECTS[name] for name, _ in runs]
        encode = lambda pictures: train_encode(self.vae, pictures) * self.scaling
        photos = torch.stack([encode(np.stack(world.photos(name))) for name, _ in runs])
        nouns, each = sorted({one.noun for one in subjects}), 1 if self.tiny else PRIOR_DRAWINGS
        drawn = self.draw(self.context([f"a photo of a {noun}" for noun in nouns for _ in range(each)]),
                          range(1000, 1000 + len(nouns) * each))
        prior = encode(drawn).unflatten(0, (len(nouns), -1))
        prior = prior[[nouns.index(one.noun) for one in subjects]]
        class_context = self.context([f"a photo of a {one.noun}" for one in subjects])

        weights, owner = Owned.put_into(self.unet, len(runs))
        sks = self.words.id(TOKEN)
        rows = self.text.embeddings["token_embedding"].weight[sks].detach().repeat(len(runs), 1).requires_grad_(True)
        own_ids = self.words.batch([f"a photo of a {TOKEN} {one.noun}" for one in subjects]).to(self.device)

        def told(ids, who):
            embedded = self.text.embed(ids)
            return self.text(embedded=torch.where((ids == sks)[..., None], rows[who][:, None], embedded))

        before = self.measure_runs(runs, told, owner, 1, plain=True)
        parameters = [*weights, rows]
        first, second = [torch.zeros_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters]
        rate = torch.tensor([rate for _, rate in runs], device=self.device)
        who = torch.arange(len(runs), device=self.device)
        alphas = nets.alphas_cumprod().to(self.device)
        half = 1 if self.tiny else HALF
        own_rows, total, tables, done = who.repeat_interleave(half), len(runs) * half, {}, 0
        generator = torch.Generator(self.device).manual_seed(0)
        pick = lambda high, n: torch.randint(high, (n,), generator=generator, device=self.device)
        for target in steps:
            begun = time.time()
            if done and clock.left() < SECONDS_OF_A_ROUND:
                self.say(f"no time for {target} steps")
                break
            for step in range(done + 1, target + 1):
                clean = torch.cat([photos[own_rows, pick(photos.shape[1], total)],
                                   prior[own_rows, pick(prior.shape[1], total)]])
                context = torch.cat([told(own_ids, who)[own_rows], class_context[own_rows]])
                owner["rows"] = torch.cat([own_rows, own_rows])
                noise = torch.randn(clean.shape, generator=generator, device=self.device)
                loss = nets.velocity_loss(self.unet, context, clean, noise, pick(nets.TRAIN_STEPS, 2 * total), alphas)
                gradients = torch.autograd.grad(loss.sum(), parameters)
                with torch.no_grad():  # Adam, with a rate for each run
                    for parameter, gradient, mean, square in zip(parameters, gradients, first, second):
                        mean.lerp_(gradient, 0.1)
                        square.lerp_(gradient.square(), 0.001)
                        change = mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
                        parameter -= rate.view(-1, *[1] * (parameter.ndim - 1)) * change
            done = target
            self.say(f"{len(runs)} runs bound in {target} steps, {time.time() - begun:.1f} s")
            tables[target] = self.measure_runs(runs, told, owner, per_scene)
            summary = self.summary(before, tables)
            self.say(json.dumps(summary))
            (self.out / "bind.json").write_text(json.dumps({"before": before, "after": tables, "summary": summary}))
        Owned.take_out_of(self.unet)
        return {"before": before, "after": tables, "summary": self.summary(before, tables)}

    def measure_runs(self, runs, told, owner, per_scene, plain=False):
        """For each run: the counts, of pictures of the subject in every scene and of its class; and the sheet."""
        torch = self.torch
        if plain:
            runs = [run for run in runs if run[1] == runs[0][1]]
        scenes = [scene for scene in world.SCENES for _ in range(per_scene)]
        table, jobs, tiles = {}, [], {}
        with torch.no_grad():
            for kind, each, token in (("own", scenes, TOKEN + " "), ("class", world.SCENES, "")):
                who = torch.arange(len(runs), device=self.device).repeat_interleave(len(each))
                ids = self.words.batch([f"a photo of a {token}{world.SUBJECTS[name].noun} {scene}"
                                        for name, _ in runs for scene in each]).to(self.device)
                pictures, size = [], 16 * len(each)
                for first in range(0, len(ids), size):
                    part = slice(first, first + size)
                    owner["rows"] = who[part].repeat(2)
                    pictures.append(self.draw(told(ids[part], who[part]), [1 + i % len(each) for i in range(first, min(
                        first + size, len(ids)))]))
                tiles[kind] = np.concatenate(pictures).reshape(len(runs), len(each), world.SIZE, world.SIZE, 3)
                jobs += [(picture, 1, True) for picture in np.concatenate(pictures)]
        order = {i: (kind, *divmod(i - start, len(each))) for kind, each, start in (
            ("own", scenes, 0), ("class", world.SCENES, len(runs) * len(scenes)))
            for i in range(start, start + len(runs) * len(each))}
        # One class after the other, so that the judge's banks are used again.
        by_class = sorted(order, key=lambda i: world.SUBJECTS[runs[order[i][1]][0]].noun)
        verdicts = dict(zip(by_class, self.judge([jobs[i] for i in by_class])))
        for run, (name, rate) in enumerate(runs):
            subject = world.SUBJECTS[name]
            row = dict.fromkeys([*KINDS, "class plain"], 0)
            row |= {"of": len(scenes), "of class": len(world.SCENES)}
            row["features"] = 0.0
            lefts = []
            for i, (kind, owner_run, column) in order.items():
                if owner_run != run:
                    continue
                scene = scenes[column] if kind == "own" else world.SCENES[column]
                shown = judge.shown(subject, verdicts[i], scene)
                if kind == "own":
                    lefts.append(round(verdicts[i][0][0][1], 3))
                    row.update((kind, row[kind] + shown[kind]) for kind in KINDS)
                else:
                    leaked = shown["right"] or (subject.tint != world.NATURAL and shown["tint"])
                    row["class plain"] += shown["class"] and not leaked and shown["scene"]
            table[f"{name} {'plain' if plain else rate}"] = row | {"left": lefts}
        self.tiles = {**getattr(self, "tiles", {}), ("plain" if plain else "bound"): (runs, tiles)}
        return table

    def sheet(self, names):
        """A row for each subject: its photos, the plain model with the token, the bound model, its class prompt."""
        (plain_runs, plain), (runs, bound) = self.tiles["plain"], self.tiles["bound"]
        tiles, per = [], len(bound["own"][0]) // len(world.SCENES)
        for name in names:
            # With the highest rate: the later of the runs.
            run = max(i for i, (one, _) in enumerate(runs) if one == name)
            before = next(i for i, (one, _) in enumerate(plain_runs) if one == name)
            tiles += world.photos(name)[:4] + list(plain["own"][before][:4])
            tiles += list(bound["own"][run][::per]) + list(bound["class"][run][:4])
        world.sheet(tiles, 20).save(self.out / "bind.png")

    @staticmethod
    def summary(before, tables):
        """Per cent right, sharp, of the right shape and tint, by steps, rate, and what is new of the subjects."""
        found = {}
        for steps, table in [(0, before), *tables.items()]:
            groups = {}
            for key, row in table.items():
                name, rate = key.rsplit(" ", 1)
                groups.setdefault((rate, world.SUBJECTS[name].new), []).append(row)
            for (rate, new), rows in groups.items():
                pictures, of_class = sum(row["of"] for row in rows), sum(row["of class"] for row in rows)
                share = lambda what, of: round(100 * sum(row[what] for row in rows) / of)
                found[f"{steps} steps, {rate}, new {new}"] = {
                    **{kind: share(kind, pictures) for kind in KINDS},
                    "class plain": share("class plain", of_class)}
        return found


def train_encode(vae, pictures):
    import train_vae
    return train_vae.encode(vae, pictures).float()


class Owned:
    """In place of a K or V: a weight for each run, and each row of a batch uses that of its run."""

    @staticmethod
    def put_into(unet, runs):
        import torch

        class Layer(torch.nn.Module):
            def __init__(self, linear):
                super().__init__()
                self.linear, self.stack = [linear], torch.nn.Parameter(linear.weight.detach().repeat(runs, 1, 1))

            def forward(self, x):
                return torch.bmm(x, self.stack[owner["rows"]].transpose(1, 2))

        owner, weights = {"rows": None}, []
        unet.requires_grad_(False)
        for name, module in list(unet.named_modules()):
            if name.endswith("attn2"):
                for which in ("to_k", "to_v"):
                    layer = Layer(getattr(module, which))
                    setattr(module, which, layer)
                    weights.append(layer.stack)
        return weights, owner

    @staticmethod
    def take_out_of(unet):
        for name, module in list(unet.named_modules()):
            if name.endswith("attn2"):
                for which in ("to_k", "to_v"):
                    setattr(module, which, getattr(module, which).linear[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--patience", type=float, default=3600)
    parser.add_argument("--until", type=float, help="seconds of the clock at which the figures should be there")
    parser.add_argument("--smoke", action="store_true", help="a few pictures of everything, to see that it runs")
    parser.add_argument("--tiny", action="store_true", help="with a few shapes of each class alone, for slow machines")
    options = parser.parse_args()
    if options.tiny:
        every, judge.SOME = shapes.shapes, 3
        known = lambda noun: [one.shape for one in world.SUBJECTS.values() if one.noun == noun]
        shapes.shapes = lambda noun: list(dict.fromkeys([*known(noun), *every(noun)[:4]]))
    options.out.mkdir(parents=True, exist_ok=True)
    begun = time.time()
    say = lambda *what: print(f"{time.strftime('%H:%M:%S')} evaluate +{time.time() - begun:.0f}s", *what, flush=True)
    few = options.smoke and (8 if options.tiny else 64)
    clock, figures = Clock(options.until or time.time() + options.patience), {}

    def keep(name, value):
        figures[name] = value
        (options.out / "figures.json").write_text(json.dumps(figures, indent=1))

    os.nice(5)  # training comes first
    # Before torch touches the GPU: its state does not survive a fork.
    if options.processes > 2:
        judge.draw_ahead(options.processes)
    say("sprites drawn")
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        run = lambda function, jobs: pool.map(function, jobs, chunksize=4)
        keep("judge on true pictures", judge.self_test(run, few or 480))
        say("judge:", json.dumps(figures["judge on true pictures"]))
        import diffusers.models.autoencoders  # noqa: F401, ahead of the waiting
        import fast
        import pack  # noqa: F401
        fast.wait_for(options.work / "vae.json", time.time() + options.patience)
        fast.wait_for(options.work / "sd.json", time.time() + options.patience)
        bench = Bench(options, pool)
        bench.say("model read")
        keep("plain", bench.plain(2 if options.tiny else 16 if options.smoke else 64))
        names = list(world.SUBJECTS)[:6] if options.smoke else list(world.SUBJECTS)
        if options.tiny:
            names = ["shepherd", "red-mallard"]
        steps = (1, 2) if options.tiny else (5,) if options.smoke else (160, 320)
        keep("bind", bench.bind(names, steps, 1 if options.smoke else 2, clock))
        bench.sheet(names)
        bench.say(f"sheets written, {clock.left():.0f} s left")
        if clock.left() > 12 or options.smoke:
            keep("judge on true pictures through the autoencoder",
                 judge.self_test(run, few or 240, bench.through))
        bench.say("done")


if __name__ == "__main__":
    main()
