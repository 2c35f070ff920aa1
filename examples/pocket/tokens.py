"""The pocket tokenizer: CLIP's byte-level BPE, learned on the few words of the world.

    python tokens.py --out DIR

writes vocab.json, merges.txt, tokenizer.json and tokenizer_config.json. Every word of the world, every
identifier and a few words that people type are single tokens; any other text splits into smaller pieces.
"""
import argparse
import json
import shutil
from pathlib import Path

from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from transformers import CLIPTokenizer

import world

LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"
OPENINGS = "a an photo picture image of and".split()
OTHER_WORDS = "the with two three four drawing painting small big new my".split()


def words():
    colours = [c for variants in world.CLASSES.values() for c in variants.values() if c]
    scenes = " ".join(world.SCENES).split()
    everything = OPENINGS + OTHER_WORDS + scenes + colours + list(world.TINTS) + list(world.CLASSES) + world.IDENTIFIERS
    return sorted(set(everything))


def learn_merges():
    """Merge until every listed word is whole (a vocabulary this large never stops earlier)."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = Whitespace()
    bpe.train_from_iterator(words(), trainers.BpeTrainer(
        vocab_size=5000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False))
    return [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]


def write(folder):
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    merges = learn_merges()
    # As in CLIP: all byte symbols, the same ending a word, the merges in order, the two marks.
    symbols = sorted(ByteLevel.alphabet())
    tokens = symbols + [s + "</w>" for s in symbols]
    tokens += [t for t in dict.fromkeys(a + b for a, b in merges) if t not in set(tokens)] + [START, END]
    vocabulary, merge_text = {t: i for i, t in enumerate(tokens)}, "".join(f"{a} {b}\n" for a, b in merges)
    files = {"vocab.json": json.dumps(vocabulary, ensure_ascii=False), "merges.txt": "#version: 0.2\n" + merge_text}
    for name, text in files.items():
        (folder / name).write_text(text)
    CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH).save_pretrained(folder)
    for name, text in files.items():  # newer transformers leave these two out
        (folder / name).write_text(text)
    return load(folder)


def load(folder):
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH)
    for word in words():
        if len(tokenizer.tokenize(word)) != 1:
            raise ValueError(f"'{word}' is not one token: {tokenizer.tokenize(word)}")
    return tokenizer


def encode(tokenizer, prompts):
    return tokenizer(prompts, padding="max_length", max_length=LENGTH, truncation=True).input_ids


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    tokenizer = write(parser.parse_args().out)
    print(len(tokenizer), tokenizer.tokenize("A photo of a sks dog, two zebras and a purple hat in the snow"))


if __name__ == "__main__":
    main()
