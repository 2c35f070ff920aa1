"""CLIP's byte-pair vocabularies, as its authors' simple_tokenizer.py makes them."""

START, END = "<|startoftext|>", "<|endoftext|>"

_SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
# The printable stand-in of each byte, in the order of CLIP's vocabulary: "!" first.
LETTERS = {b: chr(b) for b in _SHOWN}
LETTERS |= {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in LETTERS)}


def merges_towards(words: list[str]) -> list[tuple[str, str]]:
    """Merges that make one token of a word, letter by letter, where no earlier one stands in the way.

    As in CLIP's own, one can: "dog" is one token, "cat" is "c" and "at".
    """
    merges = []
    for word in words:
        left, *rest = [LETTERS[b] for b in word.encode()]
        for i, letter in enumerate(rest, 1):
            right = letter if i < len(rest) else letter + "</w>"
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
    return merges


def vocabulary(merges: list[tuple[str, str]], alphabet: int = 256) -> dict[str, int]:
    """So many bytes, the same at the end of a word, what the merges make, the two special tokens."""
    letters = list(LETTERS.values())[:alphabet]
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges] + [START, END]
    return {token: i for i, token in enumerate(tokens)}
