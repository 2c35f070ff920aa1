#!/usr/bin/env python3
"""Writes tokens.json beside this file: what transformers makes of prompts on CLIP's own vocabulary, that of Stable
Diffusion and of the program (src/checkpoint/single/clip_merges.txt.gz).

    python tests/golden/make_tokens.py [PYTHON_OF_TRANSFORMERS_4]        (made with transformers 5.24.0 and 4.57.6)

`prompts`: 830 by kind, beside the 3,000 of published/prompts.txt, which make_single.py takes; `ids` of the first of
each kind, at any length; a hash of the ids of each block of ten, padded and cut to 77 (FNV-1a over little-endian u32);
`transformers_4`: how many its slow and its fast tokenizer read otherwise, and the first of these.

What transformers 5 has, which diffusers 0.42 uses, are the rules of the fast one. The slow one of 4.57 without ftfy
cleans text in another way.
"""
import gzip
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
from byte_pairs import END, START, vocabulary
from make_published import IDS_4, hashes
from transformers import CLIPTokenizer

HERE = pathlib.Path(__file__).resolve().parent
MERGES = HERE.parents[1] / "src/checkpoint/single/clip_merges.txt.gz"
EACH = 90

SUBJECTS = "dog cat wizard astronaut castle teapot violinist hummingbird lighthouse samurai octopus bicycle".split()
SCENES = ["in the snow", "at sunset", "by Greg Rutkowski", "in a neon-lit alley", "on the moon", "under water, 8k",
          "at f/1.8"]
STYLES = ["oil painting", "photograph", "ukiyo-e print", "35mm film still", "low-poly render", "watercolour sketch"]
LINES = [ "Ein großer Hund läuft über die Straße", "Une fenêtre ouverte, l'été où naît l'œuvre",
    "¿Dónde está el niño pequeño?", "Pčelička letí nad žluťoučkým koněm", "Zażółć gęślą jaźń",
    "Ένας μεγάλος σκύλος στο χιόνι", "Большая собака в снегу", "כלב גדול בשלג", "كلب كبير في الثلج",
    "बर्फ में एक बड़ा कुत्ता", "তুষারে একটি বড় কুকুর", "பனியில் ஒரு பெரிய நாய்", "หมาตัวใหญ่ในหิมะ", "雪の中の大きな犬",
    "눈 속의 큰 개", "在雪地里的一只大狗", "Con chó lớn trong tuyết", "დიდი ძაღლი თოვლში", "Մեծ շուն ձյան մեջ", "በበረዶ ውስጥ ትልቅ ውሻ",
    "ខ្លាធំនៅក្នុងព្រិល", "Büyük köpek, İSTANBUL ışığı", "ᚠᛇᚻ᛫ᛒᛦᚦ", "𝕱𝖗𝖆𝖐𝖙𝖚𝖗 𝓈𝒸𝓇𝒾𝓅𝓉 ＦＵＬＬ"]
EMOJI = ["🐶", "🐈‍⬛", "👩🏽‍🚀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇯🇵🇧🇷", "❤️‍🔥", "☃︎", "☃️", "3️⃣", "🫠", "♥", "™", "👍🏿👍"]
ACCENTED = ["caf{}", "na{}ve", "r{}sum{}", "{}ngstr{}m", "co{}perate", "fa{}ade", "{}l{}ve", "vi{}t nam", "{}{}{}"]
MARKS = [("é", "e\u0301"), ("ï", "i\u0308"), ("Å", "A\u030a"), ("ç", "c\u0327"), ("ö", "o\u0308"), ("ế",
    "e\u0302\u0301"), ("ñ", "n\u0303"), ("ṩ", "s\u0307\u0323"), ("ǖ", "u\u0308\u0304"), ("Ω", "\u2126"), ("K",
    "\u212a"), ("ﬁ", "ﬁ"), ("각", "\u1100\u1161\u11a8")]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u1680",
    "\u180e", "\u2000", "\u2003", "\u2007", "\u2009", "\u200a", "\u200b", "\u200c", "\u200d", "\u2028", "\u2029",
    "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff"]
ENTITIES = ["&amp;", "&lt;b&gt;", "&quot;", "&#39;", "&#x27;", "&nbsp;", "&amp;amp;", "&eacute;", "&copy", "&hearts;",
    "&#128054;", "&#0;", "&bogus;", "&", "&;", "&#xD800;", "R&amp;B", "AT&T", "<b>", "</i>", "<br/>"]
CONTRACTIONS = ["it's", "IT'S", "don't", "we'll", "I'm", "they've", "you'd", "they're", "'s", "''s", "'S", "dogs'",
    "o'clock", "rock'n'roll", "it’s", "don’t", "ain't've", "'tis", "y'all'd've", "'re're", "can't.", "l'été", "'LL"]
DIGITS = ["0", "7", "42", "1999", "2024", "1,000,000", "3.14159", "1e-5", "0x7f", "16:9", "4k", "8K", "1/250s",
    "f/2.8", "50mm", "½", "²³", "Ⅷ", "①", "٣٤", "१२", "𝟗", "１２", "1st", "2nd", "№5", "+1-2", "100%", "$5", "€20",
    "007"]
CONTROLS = [chr(c) for c in (0, 1, 7, 8, 14, 27, 127, 0x80, 0x9f, 0xad, 0x600, 0x61c, 0x200e, 0x202a, 0x202e, 0x2066,
    0xfff9, 0xfffc, 0xfffd, 0xfffe, 0xe000, 0xf8ff, 0x1d173, 0xe0001, 0x10ffff)]


def kinds() -> dict[str, list[str]]:
    draw = random.Random(16)
    pick = draw.choice

    def prompt() -> str:
        article, adjective = pick(["a", "A", "the", "two"]), pick(["red", "tiny", "majestic"])
        return f"{article} {pick(STYLES)} of a {adjective} {pick(SUBJECTS)} {pick(SCENES)}"

    def mixed(parts: list[str], most: int = 6) -> str:
        count = draw.randrange(1, most + 1)
        part = lambda: pick([pick(parts), pick(parts), pick(SUBJECTS)]) + pick([" ", " ", ", ", ""])
        return "".join(part() for _ in range(count))

    def accented() -> str:
        text = pick(ACCENTED)
        end = pick(["", " " + pick(SUBJECTS), "\u0301", "\u0327\u0301"])
        return text.format(*(pick(pick(MARKS)) for _ in range(3))) + end

    def spaced() -> str:
        return pick(SPACES) + "".join(word + pick(SPACES) * draw.randrange(0, 3) for word in prompt().split())

    def long() -> str:
        parts = draw.sample([prompt() for _ in range(20)] + LINES + EMOJI, 20)
        return pick([", ", " ", "; "]).join(parts * 2)

    ways = {
        "prompts": prompt, "scripts": lambda: mixed(LINES, 3), "emoji": lambda: mixed(EMOJI), "accents": accented,
        "spaces": spaced, "entities": lambda: mixed(ENTITIES), "contractions": lambda: mixed(CONTRACTIONS),
        "digits": lambda: mixed(DIGITS), "controls": lambda: mixed(CONTROLS, 4), "long": long}
    return {kind: [way() for _ in range(20 if kind == "long" else EACH)] for kind, way in ways.items()}


def main() -> None:
    merges = gzip.decompress(MERGES.read_bytes()).decode().splitlines()
    found = kinds()
    texts = [text for texts in found.values() for text in texts]
    assert len(texts) == 830
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder) / "tokenizer"
        folder.mkdir()
        (folder / "vocab.json").write_text(json.dumps(vocabulary([line.split(" ", 1) for line in merges])))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
        special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
        config = special | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        t = CLIPTokenizer.from_pretrained(folder)
        ids = t(texts, padding="max_length", truncation=True, max_length=77).input_ids
        whole = t([texts[0] for texts in found.values()]).input_ids
        lengths = [len(row) for row in t(found["long"]).input_ids]
        print("the longest prompts have", min(lengths), "to", max(lengths), "tokens")
        other = {}
        if len(sys.argv) > 1:
            run = subprocess.run([sys.argv[1], "-c", IDS_4, folder], input=json.dumps(texts), capture_output=True,
                                 text=True, check=True)
            for kind, line in zip(("CLIPTokenizer", "CLIPTokenizerFast"), run.stdout.splitlines()):
                rows = [i for i, (a, b) in enumerate(zip(ids, json.loads(line), strict=True)) if a != b]
                other[kind] = {"differ": len(rows), "first": texts[rows[0]] if rows else None}
                marked = sum("<|" in texts[i] for i in rows)
                print(kind, len(rows), "differ,", marked, "of them with a special token or the like in the text")
    value = {"prompts": found, "ids": dict(zip(found, whole)), "hashes": " ".join(hashes(ids)), "transformers_4": other}
    (HERE / "tokens.json").write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()
