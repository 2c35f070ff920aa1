import json, sys

def indices(data):
    out, at, d = [], 0, data[0] if data else 0
    m = (4 + d % 4) << (d // 4 - 1) if d > 3 else d
    w, bits = m.bit_length() - 1, "".join(f"{b:08b}" for b in data[1:])
    while (zero := bits.find("0", at)) >= 0:  # a gap: q ones, a zero, then r in w or w + 1 bits
        q, end = zero - at, zero + 1 + w
        r, at = int("0" + bits[zero + 1 : end], 2), end
        if r >= (2 << w) - m:
            r, at = 2 * r + int(bits[end]) - (2 << w) + m, end + 1
        out.append((out[-1] + 1 if out else 0) + q * m + r)
    return out

file = open(sys.argv[1], "rb").read()
start = 8 + int.from_bytes(file[:8], "little")
sites = {k: v["data_offsets"] for k, v in json.loads(file[8:start]).items() if v.get("dtype") == "U8"}
print(json.dumps({k: indices(file[start + a : start + b]) for k, (a, b) in sites.items()}))
