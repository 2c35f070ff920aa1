"""What finds learned, before neurons are chosen for it: the values of cross-attention at the subjects' own words.

    python constants.py blue-guide-dog dog.scores [--model model]       what they draw, judged as in judge.py
    python constants.py blue-guide-dog dog.scores green-jeep jeep.scores         both in each picture, as in measure.py

`cones find --scores` keeps them: by how much each output of a V weight changes at each of the words. Stored as f16 they
are the honest competitor of a set of neurons: a file of rows x words numbers, added where the words are in the prompt.
Pictures are drawn by diffusers, with the steps and guidance of the model's cones.json.
"""
import argparse
import contextlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

import check
import judge
import measure
import world

HERE = Path(__file__).parent


def load(path):
    """Noun, token and the changes of each site, [rows, words] in f16, from a file of scores."""
    with safe_open(path, "numpy") as file:
        plan = json.loads(file.metadata()["cones"])["plan"]
        learned = {site.removesuffix(".weight"): file.get_tensor(site) for site in file.keys()}
    if plan["method"] != "learned" or plan["scope"] != "words":
        raise SystemExit(f"{path}: of {plan['method']} and scope {plan['scope']}, expected learned at words")
    changes = {site: values[:, :values.shape[1] // 2].astype(np.float16) for site, values in learned.items()}
    return plan["subjects"][0]["noun"], plan["subjects"][0]["token"], changes


def places(tokenizer, prompt, words):
    """Where the tokens of `words` stand in the prompt."""
    ids, wanted = tokenizer(prompt).input_ids, tokenizer(words, add_special_tokens=False).input_ids
    at = next(i for i in range(len(ids)) if ids[i:i + len(wanted)] == wanted)
    return list(range(at, at + len(wanted)))


class Added:
    """While it lasts, V gives at the words of the prompt, not of the empty one beside it, what was learned."""
    def __init__(self, unet, changes, at):
        self.modules, self.changes, self.at, self.hooks = dict(unet.named_modules()), changes, at, []

    def __enter__(self):
        for site, change in self.changes.items():
            change = torch.from_numpy(change.astype(np.float32)).T

            def add(_, __, values, change=change):
                values = values.clone()
                values[len(values) // 2:, self.at] += change
                return values

            self.hooks.append(self.modules[site].register_forward_hook(add))

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


def draw(pipeline, model, prompt_of, learned=(), guidance=None):
    """Pictures of `prompt_of(scene)` in each scene, as many and of the same seeds as judge.draw's."""
    prompts = [prompt_of(scene) for scene in world.SCENES for _ in range(judge.EACH)]
    seeds = [100 * i + k for i in range(len(world.SCENES)) for k in range(judge.EACH)]
    with contextlib.ExitStack() as added:
        for words, changes in learned:
            at = places(pipeline.tokenizer, prompts[0], words)
            added.enter_context(Added(pipeline.unet, changes, at))
        return list(check.draw_with_diffusers(model, prompts, seeds, guidance=guidance, pipeline=pipeline))


def judged(judges, subject, scores, pipeline, model):
    """judge.measure's row of what `scores` keeps, and the bytes of its numbers."""
    noun, token, changes = load(scores)
    of = lambda words: lambda scene: f"a photo of a {words} {scene}"
    own = draw(pipeline, model, of(f"{token} {noun}"), [(f"{token} {noun}", changes)])
    row = judge.measure(judges, subject, own, draw(pipeline, model, of(noun)))
    return row | {"bytes": sum(change.nbytes for change in changes.values())}


def judged_together(crowd, names, scores, pipeline, model):
    """CrowdJudge.count's row of the subjects, each with what its scores keep, in one picture."""
    loaded = [load(path) for path in scores]
    words = [f"{token} {noun}" for noun, token, _ in loaded]
    guidance = json.loads((model / "cones.json").read_text())["guidance_of_several"]
    learned = [(each, changes) for each, (_, _, changes) in zip(words, loaded)]
    pictures = draw(pipeline, model, lambda scene: measure.prompt_listing(words, scene), learned, guidance)
    return crowd.count(pictures, names)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="subject scores", help="one of subjects.json, and its file")
    parser.add_argument("--model", type=Path, default=HERE / "model")
    options = parser.parse_args()
    names, scores = options.pairs[::2], [Path(path) for path in options.pairs[1::2]]
    if len(names) != len(scores):
        parser.error("each subject needs its file of scores")
    pipeline = check.load_pipeline(options.model)
    if len(names) > 1:
        print(judged_together(measure.CrowdJudge(), names, scores, pipeline, options.model))
        return
    judges = judge.ObjectJudge(), judge.SceneJudge()
    print(judged(judges, measure.SUBJECTS[names[0]], scores[0], pipeline, options.model))


if __name__ == "__main__":
    main()
