"""The tokenizer: the old world's, and every word for a look as one token more.

    python tokens.py --base ../model/tokenizer --out tokenizer

Left in letters, the words for looks are not learned (nothing of them in 2 M pictures): two layers of text encoder
cannot spell. Needs transformers, which writes tokenizer.json.
"""
import argparse
import json
import shutil
from pathlib import Path

from transformers import CLIPTokenizer

import shapes
import world


def look_words():
    return sorted({word for noun in world.CLASSES for shape in shapes.shapes(noun)
                   for word in world.look_words(noun, shape)})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    import nets
    words = nets.Words(options.base)
    kept = [token for token, _ in sorted(words.ids.items(), key=lambda one: one[1])]
    marks, tokens, merges = kept[-2:], kept[:-2], []
    for word in look_words():
        names = {id: token for token, id in words.ids.items()}
        parts = [names[id] for id in words.pieces(word)]
        while len(parts) > 1:
            merges.append(tuple(parts[:2]))
            parts[:2] = ["".join(parts[:2])]
            if parts[0] not in words.ids:
                tokens.append(parts[0])
        # The marks stay last: CLIP's older rule for the end of a text is its highest id.
        words.ids = {token: id for id, token in enumerate([*tokens, *marks])}
        words.rank = {pair: rank for rank, pair in enumerate(dict.fromkeys([*words.rank, *merges]))}
        words.cut = {}
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    files = {"vocab.json": json.dumps(words.ids, ensure_ascii=False),
             "merges.txt": "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in words.rank)}
    for _ in range(2):  # newer transformers leave these two out of what they save
        for name, text in files.items():
            (options.out / name).write_text(text)
        if not (options.out / "tokenizer.json").exists():
            CLIPTokenizer.from_pretrained(options.out, model_max_length=nets.LENGTH).save_pretrained(options.out)
    print(f"{len(kept)} tokens, now {len(words.ids)}")


if __name__ == "__main__":
    main()
