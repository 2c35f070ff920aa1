"""Train the small CLIP that `cones eval` measures pocket pictures with.

    python train_clip.py --work DIR --minutes 6 [--batch 96]

waits for DIR/pairs.npy and DIR/pairs.json (world.py); writes DIR/clip.pt and DIR/clip.json: how well it retrieves on
pairs that no step has seen.

A judge has to know what it judges, so that this one sees all looks, also those that the diffusion model never does.
Captions name every tint. No word tells two shapes of a class apart; a second loss, between two pictures of the same
objects in different scenes, makes the picture tower do that.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import nets
import world
from fast import DEVICE, Trainer, say, set_up, wait_for

SAME_OBJECTS_TEMPERATURE = 0.1
HELD_BACK = 1280
GROUP = 64  # pictures to choose among in the report


def contrast(logits, same):
    """Cross-entropy both ways, where `same` says which items are the same: a twin in the batch is not called wrong."""
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


@torch.no_grad()
def report(clip, pictures, ids, objects):
    hits = {"caption of a picture": 0, "picture of a caption": 0, "same objects in another scene": 0}
    rounds = len(ids) // GROUP
    for i in range(rounds):
        part = slice(i * GROUP, (i + 1) * GROUP)
        first, second = (clip.image(nets.to_tensor(pictures[part][:, view]).to(DEVICE)) for view in (0, 1))
        like = first @ clip.text(ids[part]).t()
        same_text = (ids[part][:, None] == ids[part][None]).all(-1)
        same_objects = objects[part][:, None] == objects[part][None]
        rows = torch.arange(len(like), device=like.device)
        hits["caption of a picture"] += same_text[rows, like.argmax(1)].sum().item()
        hits["picture of a caption"] += same_text[rows, like.argmax(0)].sum().item()
        hits["same objects in another scene"] += same_objects[rows, (first @ second.t()).argmax(1)].sum().item()
    shares = {what: count / (rounds * GROUP) for what, count in hits.items()}
    photos = [photo for name in world.SUBJECTS for photo in world.photos(name)]
    found = clip.image(nets.to_tensor(np.stack(photos)).to(DEVICE))
    near = (found @ found.t()).fill_diagonal_(-1)
    owner = torch.arange(len(photos), device=DEVICE) // world.PHOTOS
    shares["a subject's photo has one of its own as nearest"] = (owner[near.argmax(1)] == owner).float().mean().item()
    return shares


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--batch", type=int, default=512 if DEVICE.type == "cuda" else 32, help="pairs of a step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--patience", type=float, default=600)
    parser.add_argument("--start", type=Path, help="a file whose appearance begins the training")
    options = parser.parse_args()
    set_up()
    torch.manual_seed(1)
    work, batch, words = options.work, options.batch, nets.Words()
    clip = nets.Clip(words).to(DEVICE)
    say(f"CLIP: {sum(p.numel() for p in clip.parameters()) / 1e6:.2f} M weights")
    views = torch.randint(0, 255, (batch, 2, nets.SIDE, nets.SIDE, 3), dtype=torch.uint8, device=DEVICE)
    ids = torch.tensor([words.encode("a dog")] * batch, device=DEVICE)
    sets = torch.arange(batch, device=DEVICE)
    texts = torch.arange(batch, device=DEVICE)

    def loss(clip):
        kind = clip.visual_projection.weight.dtype
        pictures = torch.cat([views[:, 0], views[:, 1]]).permute(0, 3, 1, 2).to(kind).div(127.5).sub(1)
        first, second = clip.image(pictures).chunk(2)
        same_text, same_objects = (texts[:, None] == texts).float(), (sets[:, None] == sets).float()
        scale = clip.logit_scale.float().clamp(max=4.6).exp()
        return (contrast(scale * first @ clip.text(ids).t(), same_text)
                + 0.5 * contrast(first @ second.t() / SAME_OBJECTS_TEMPERATURE, same_objects))

    trainer = Trainer([clip], loss, options.rate, average=0.995, weight_decay=0.05, betas=(0.9, 0.98))
    patience = time.time() + options.patience
    wait_for(work / "pairs.npy", patience)
    if options.start:
        wait_for(options.start, patience)
    trainer.prepare()
    until = time.time() + 60 * options.minutes
    pictures = np.load(work / "pairs.npy")
    rows = json.loads((work / "pairs.json").read_text())
    number = {}
    objects = torch.tensor([number.setdefault(row[1], len(number)) for row in rows], device=DEVICE)
    texts_of = torch.tensor([number.setdefault(row[0], len(number)) for row in rows], device=DEVICE)
    told = words.batch([row[0] for row in rows]).to(DEVICE)
    back = min(HELD_BACK, len(pictures) // 2 // GROUP * GROUP)
    shown = torch.from_numpy(pictures[:-back]).to(DEVICE)
    say(f"{len(shown)} pairs")
    step = trainer.advance

    def advance():
        chosen = torch.randint(len(shown), (batch,), device=DEVICE)
        views.copy_(shown[chosen])
        ids.copy_(told[chosen])
        sets.copy_(objects[chosen])
        texts.copy_(texts_of[chosen])
        step()

    trainer.advance = advance
    steps = trainer.train(until)
    trainer.finished()
    with torch.no_grad():
        clip.logit_scale.clamp_(max=4.6)
    shares = report(clip, pictures[-back:], told[-back:], objects[-back:])
    say(f"{steps} steps of {batch} pairs", {what: round(share, 3) for what, share in shares.items()})
    torch.save({name: value.cpu() for name, value in clip.state_dict().items()}, work / "clip.pt")
    (work / "clip.json").write_text(json.dumps({"steps": steps, "batch": batch, "right": shares}))


if __name__ == "__main__":
    main()
