"""Train the small CLIP that `cones eval` measures pocket pictures with.

    python train_clip.py --work DIR [--minutes 30] [--threads 1] [--resume]

reads DIR/tokenizer; draws its own pictures; writes DIR/clip, a CLIPModel folder with preprocessor_config.json and
without tokenizer files: it shares the model's. Prints how well it retrieves on pictures drawn from another seed.

A judge has to know what it judges, so that this one sees all looks, also those that the diffusion model never does.
Captions name every colour. No word tells two variants of a class apart; a second loss, between two pictures of the same
objects in different scenes, makes the picture tower do that.
"""
import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel
from transformers.utils.logging import disable_progress_bar

import subjects
import tokens
import world

WIDTH, IMAGE_LAYERS, TEXT_LAYERS, PROJECTION, PATCH = 64, 3, 2, 48, 8
# Of the loss between pictures. Half: the text has to place a picture first.
SAME_OBJECTS_WEIGHT = 0.5
SAME_OBJECTS_TEMPERATURE = 0.1
WARM_STEPS, SAVE_MINUTES = 50, 3
MEAN = STD = [0.5, 0.5, 0.5]
SINGLE_SHARE = 0.75


def looks(noun):
    """Every variant of a class, those kept from the diffusion model too."""
    return [*world.CLASSES[noun], *filter(None, [world.UNSEEN_VARIANTS.get(noun)])]


def random_objects(rng):
    count = 1 if rng.random() < SINGLE_SHARE else rng.choices([2, 3, 4], [26, 8, 4])[0]
    objects = []
    for noun in rng.sample(list(world.CLASSES), count):
        emoji = rng.choice(looks(noun))
        tints = [t for t in world.TINTS if t != world.CLASSES[noun].get(emoji)]
        objects.append((noun, emoji, world.NATURAL if rng.random() < 0.4 else rng.choice(tints)))
    return objects


def caption(objects, scene, rng):
    """As the world's, with every tint named and natural colours mostly."""
    phrases = []
    for noun, emoji, tint in objects:
        colour = world.colour_word(noun, emoji, tint)
        named = colour and (tint != world.NATURAL or rng.random() < 0.6)
        phrases.append(world.with_article(f"{colour} {noun}" if named else noun))
    rng.shuffle(phrases)
    text = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    opening = rng.choices(["a photo of ", "a picture of ", "an image of ", ""], [5, 2, 1, 2])[0]
    return opening + text + (" " + scene if rng.random() < 0.9 else "")


def pixels(pictures):
    """uint8 [n, h, w, 3] to what preprocessor_config.json asks for."""
    scaled = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return (scaled - MEAN[0]) / STD[0]


def batch(rng, size):
    """Two pictures of each of `size` sets of objects, in different scenes; the first one's caption; the objects."""
    sets = [random_objects(rng) for _ in range(size)]
    scenes = [rng.sample(world.SCENES, 2) for _ in range(size)]
    pictures = [world.compose(o, pair[view], rng) for view in (0, 1) for o, pair in zip(sets, scenes)]
    return pixels(pictures), [caption(o, pair[0], rng) for o, pair in zip(sets, scenes)], sets


def build(tokenizer):
    shared = dict(hidden_size=WIDTH, num_attention_heads=4, projection_dim=PROJECTION, hidden_act="quick_gelu")
    text = dict(shared, vocab_size=len(tokenizer), intermediate_size=2 * WIDTH, num_hidden_layers=TEXT_LAYERS,
                max_position_embeddings=tokens.LENGTH, bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    vision = dict(shared, image_size=world.SIZE, patch_size=PATCH, intermediate_size=3 * WIDTH,
                  num_hidden_layers=IMAGE_LAYERS)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION))


def features(model, inputs, tower):
    found = model.get_image_features(inputs) if tower == "image" else model.get_text_features(inputs)
    found = found if isinstance(found, torch.Tensor) else found.pooler_output
    return F.normalize(found, dim=-1)


def equal(items):
    """[n, n], rows of sum 1: which items are the same, so that a twin in the batch is not called wrong."""
    numbers = {}
    labels = torch.tensor([numbers.setdefault(item, len(numbers)) for item in items])
    same = (labels[:, None] == labels).float()
    return same / same.sum(1, keepdim=True)


def contrast(logits, target):
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


def loss(model, tokenizer, rng, size):
    pictures, captions, sets = batch(rng, size)
    image = features(model, pictures, "image")
    text = features(model, torch.tensor(tokens.encode(tokenizer, captions)), "text")
    first, second = image.chunk(2)
    by_text = contrast(model.logit_scale.exp() * first @ text.t(), equal(captions))
    by_objects = contrast(first @ second.t() / SAME_OBJECTS_TEMPERATURE, equal([tuple(sorted(o)) for o in sets]))
    return by_text + SAME_OBJECTS_WEIGHT * by_objects


@torch.no_grad()
def report(model, tokenizer):
    """Retrieval on pictures of one object that no step has seen."""
    rng = random.Random(987654321)
    every = [(noun, emoji, tint) for noun in world.CLASSES for emoji in looks(noun)
             for tint in (world.NATURAL, *world.TINTS)]
    rounds, size = 20, 64
    hits = {"caption of a picture": 0, "picture of a caption": 0, "same subject in another scene": 0}
    for _ in range(rounds):
        chosen = rng.sample(every, size)
        scenes = [rng.sample(world.SCENES, 2) for _ in chosen]
        views = [pixels([world.compose([o], pair[i], rng) for o, pair in zip(chosen, scenes)]) for i in (0, 1)]
        names = [" ".join(filter(None, [world.colour_word(*o), o[0]])) for o in chosen]
        captions = [f"a photo of {world.with_article(name)} {pair[0]}" for name, pair in zip(names, scenes)]
        first, second = (features(model, view, "image") for view in views)
        text = features(model, torch.tensor(tokens.encode(tokenizer, captions)), "text")
        like = first @ text.t()
        hits["caption of a picture"] += sum(captions[j] == captions[i] for i, j in enumerate(like.argmax(1).tolist()))
        hits["picture of a caption"] += sum(captions[j] == captions[i] for i, j in enumerate(like.argmax(0).tolist()))
        hits["same subject in another scene"] += (first @ second.t()).argmax(1).eq(torch.arange(size)).sum().item()
    for what, count in hits.items():
        print(f"{what}: {100 * count / (rounds * size):.1f} % right of {size}")
    # The packed subjects: a photo's nearest among all others is of the same subject.
    names = list(subjects.SUBJECTS)
    photos = [photo for name in names for photo in subjects.photos(name)]
    found = features(model, pixels(photos), "image")
    near = (found @ found.t()).fill_diagonal_(-1)
    owner = torch.arange(len(photos)) // subjects.PHOTOS
    within = near[(owner[:, None] == owner) & ~torch.eye(len(photos), dtype=torch.bool)].mean()
    across = near[owner[:, None] != owner].mean()
    right = (owner[near.argmax(1)] == owner).float().mean()
    print(f"photos of the 16 subjects: {100 * right:.0f} % have one of their own as nearest; "
          f"cosine {within:.3f} within, {across:.3f} across")


def save(model, folder):
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    side = {"height": world.SIZE, "width": world.SIZE}
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "crop_size": side, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True,
        "do_resize": True, "image_mean": MEAN, "image_processor_type": "CLIPImageProcessor", "image_std": STD,
        "resample": 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": world.SIZE}}, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=96, help="pairs of pictures in a step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="go on from DIR/clip")
    options = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    tokenizer = tokens.load(options.work / "tokenizer")
    model = CLIPModel.from_pretrained(options.work / "clip") if options.resume else build(tokenizer)
    model.train()
    print(f"{sum(p.numel() for p in model.parameters())} weights", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.05)
    begun = saved = time.time()
    step, running, progress = 0, None, 0.0
    while progress < 1:
        progress = (time.time() - begun) / (60 * options.minutes)
        for group in optimizer.param_groups:
            cosine = 0.02 + 0.49 * (1 + math.cos(math.pi * min(1, progress)))
            group["lr"] = options.rate * min(1, (step + 1) / WARM_STEPS) * cosine
        value = loss(model, tokenizer, rng, options.pairs)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        running = value.item() if running is None else 0.97 * running + 0.03 * value.item()
        if step % 50 == 0:
            scale = model.logit_scale.exp().item()
            print(f"{step} {time.time() - begun:.0f}s loss {running:.3f} scale {scale:.1f}", flush=True)
        if time.time() - saved > 60 * SAVE_MINUTES:
            save(model, options.work / "clip")
            saved = time.time()
        step += 1
    model.eval()
    save(model, options.work / "clip")
    print(f"{step} steps of {2 * options.pairs} pictures")
    report(model, tokenizer)


if __name__ == "__main__":
    main()
