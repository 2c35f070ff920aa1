"""The vocabulary of the models that make_published.py writes, the files of their tokenizers, and the prompts."""

import random

from byte_pairs import END, START, merges_towards, vocabulary

WORDS = (
    "a an the of in on at with and photo picture painting dog cat crown hat cup park beach snow street night red "
    "green blue world hello don it's 2024 naïve über"
).split()

MERGES = merges_towards(WORDS)
VOCABULARY = vocabulary(MERGES)
SIZE = len(VOCABULARY)


def flags(content: str, **changed) -> dict:
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False} | changed


def typed(content: str) -> dict:
    return {"__type": "AddedToken"} | flags(content)


def tokenizer(name_or_path: str | None, pad: str, **more) -> dict[str, dict]:
    """The two files of 2022: tokenizer_config.json pads with the end token whatever the map says."""
    config = {
        "add_prefix_space": False,
        "bos_token": typed(START),
        "do_lower_case": True,
        "eos_token": typed(END),
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": END,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": typed(END),
    } | more
    if name_or_path:
        config |= {"name_or_path": name_or_path, "special_tokens_map_file": "./special_tokens_map.json"}
    token_map = {"bos_token": flags(START), "eos_token": flags(END), "pad_token": pad, "unk_token": flags(END)}
    return {
        "tokenizer/tokenizer_config.json": dict(sorted(config.items())),
        "tokenizer/special_tokens_map.json": token_map,
    }


TURBO_TOKENIZER = {
    "tokenizer/tokenizer_config.json": {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            "0": flags("!", normalized=False, special=True),
            str(SIZE - 2): flags(START, special=True),
            str(SIZE - 1): flags(END, special=True),
        },
        "bos_token": START,
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "eos_token": END,
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": "!",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": END,
    },
    "tokenizer/special_tokens_map.json": {
        "bos_token": flags(START),
        "eos_token": flags(END),
        "pad_token": "!",
        "unk_token": flags(END),
    },
}


def prompts() -> list[str]:
    draw = random.Random(14)
    words = WORDS + [
        "zebra",
        "Hippopotamus",
        "DOG",
        "cats",
        "don't",
        "it's",
        "we'll",
        "I'd",
        "they've",
        "12",
        "3.5",
        "½",
        "²",
        "Ⅷ",
    ]
    scripts = [
        "犬の写真",
        "привет мир",
        "नमस्ते दुनिया",
        "مرحبا بالعالم",
        "שלום",
        "สวัสดี",
        "안녕하세요",
        "Ελληνικά ΣΑΣ",
        "ﬁlm ﬂow",
        "ÅNGSTRÖM İstanbul",
        "e\u0301le\u0300ve",
        "caf\u00e9",
        "cafe\u0301",
        "ᚠᚢᚦ",
        "𝔘𝔫𝔦",
        "ǅungla",
        "ßẞ",
        "Ꭰꭰ",
        "𐐀𐐨",
        "ខ្មែរ",
        "አማርኛ",
    ]
    emoji = ["🐶", "🐱🐭", "👩‍👩‍👧", "🏳️‍🌈", "👍🏽", "🇩🇪", "☃️", "1️⃣", "\U0001fae8", "♥"]
    marks = list("!?.,;:()[]{}<>|/\\@#$%^&*_+-=~`'\"") + [
        "!!",
        "...",
        "--",
        "—",
        "…",
        "€",
        "«»",
        "¡",
        "、",
        "!a",
        "a!b",
        "<|",
        "|>",
        "''s",
    ]
    special = [
        START,
        END,
        "<|STARTOFTEXT|>",
        "<|EndOfText|>",
        "<|endoftext|",
        "|endoftext|>",
        "</w>",
        "dog</w>",
        "!",
        "#version",
    ]
    spaces = [
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\u00a0",
        "\u2003",
        "\u3000",
        "\u200b",
        "\u200d",
        "\u2028",
        "\u0085",
        "\ufeff",
        "\u180e",
        "",
    ]
    control = [chr(c) for c in (0, 1, 7, 8, 11, 12, 27, 31, 127, 0x80, 0x9F, 0xAD, 0x202E, 0xFFFD, 0xE000, 0x10FFFF)]
    combining = [
        "\u0301",
        "\u0327",
        "\u20dd",
        "\u0345",
        "\u3099",
        "\u1e9b\u0323",
        "\u0958",
        "\u2126",
        "\u212b",
        "\ufb1d",
        "\uac01",
        "\u1100\u1161",
    ]

    def any_letter() -> str:
        while True:
            c = draw.choice([draw.randrange(0x3000), draw.randrange(0x10000), draw.randrange(0x20000)])
            if not 0xD800 <= c < 0xE000:
                return chr(c)

    kinds = [words] * 12 + [scripts, emoji, marks, marks, special, control, combining]
    found = [
        "",
        " ",
        "!",
        "!!",
        "\n",
        START,
        END,
        "a",
        "\u0301",
        "\0",
        "a photo of a dog",
        "a photo of a dog!",
        "wow!dog ! !",
    ]
    while len(found) < 2600:
        length = draw.choice([1, 2, 3, 5, 8, 8, 12, 20] if draw.random() < 0.95 else [60, 90])
        text = ""
        for _ in range(length):
            text += draw.choice(draw.choice(kinds)) + (" " if draw.random() < 0.6 else draw.choice(spaces))
        found.append(text if draw.random() < 0.5 else text.strip())
    while len(found) < 3000:
        found.append("".join(any_letter() if draw.random() < 0.8 else " " for _ in range(draw.randrange(1, 24))))
    assert len(found) == 3000
    return found
