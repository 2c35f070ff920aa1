import json, sys

def indices(data):
    if not data:
        return []
    m = (4 + data[0] % 4) << (data[0] // 4 - 1) if data[0] > 3 else data[0]
    w, bits, at, index, out = m.bit_length() - 1, "".join(f"{b:08b}" for b in data[1:]), 0, -1, []
    while (zero := bits.find("0", at)) >= 0:  # a gap: q ones, a zero, then r in w or w + 1 bits
        r, end = int("0" + bits[zero + 1 : zero + 1 + w], 2), zero + 1 + w
        if r >= (2 << w) - m:
            r, end = 2 * r + int(bits[end]) - (2 << w) + m, end + 1
        index, at = index + (zero - at) * m + r + 1, end
        out.append(index)
    return out

file = open(sys.argv[1], "rb").read()
start = 8 + int.from_bytes(file[:8], "little")
sites = {k: v["data_offsets"] for k, v in json.loads(file[8:start]).items() if v.get("dtype") == "U8"}
print(json.dumps({k: indices(file[start + a : start + b]) for k, (a, b) in sites.items()}))
