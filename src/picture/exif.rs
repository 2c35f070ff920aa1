//! Texts in EXIF, for pictures that are no PNG: as the A1111 web UI has them, the parameters as `UserComment`, and
//! beside them as `ImageDescription` what this program reads again.

/// `ImageDescription`, ASCII.
const DESCRIPTION: u16 = 0x010e;
/// The place of the directory that `UserComment` is in.
const EXIF_PLACE: u16 = 0x8769;
/// `UserComment`, bytes of any kind.
const COMMENT: u16 = 0x9286;
/// What says that a comment is UTF-16.
const UNICODE: &[u8] = b"UNICODE\0";
/// Byte order, and the place of the first directory.
const HEAD: &[u8] = b"MM\0\x2a\0\0\0\x08";
/// Bytes of an entry.
const ENTRY: usize = 12;

/// EXIF with both texts.
pub(super) fn write(parameters: &str, cones: &str) -> Vec<u8> {
    let description = [cones.as_bytes(), &[0]].concat();
    let comment: Vec<u8> = parameters
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let comment = [UNICODE, &comment].concat();
    // The first directory has two entries, the second one; each ends with the place of the next, which is none.
    let first = HEAD.len() + 2 + 2 * ENTRY + 4;
    let second = first + description.len() + description.len() % 2;
    let mut bytes = HEAD.to_vec();
    let entry = |tag: u16, kind: u16, count: usize, value: usize| {
        [
            &tag.to_be_bytes()[..],
            &kind.to_be_bytes(),
            &(count as u32).to_be_bytes(),
            &(value as u32).to_be_bytes(),
        ]
        .concat()
    };
    bytes.extend(2u16.to_be_bytes());
    bytes.extend(entry(DESCRIPTION, 2, description.len(), first));
    bytes.extend(entry(EXIF_PLACE, 4, 1, second));
    bytes.extend([0; 4]);
    bytes.extend(&description);
    bytes.resize(second, 0);
    bytes.extend(1u16.to_be_bytes());
    bytes.extend(entry(COMMENT, 7, comment.len(), second + 2 + ENTRY + 4));
    bytes.extend([0; 4]);
    bytes.extend(&comment);
    bytes
}

/// The texts of EXIF that [`write()`] made: `UserComment`, and `ImageDescription`.
pub(super) fn read(bytes: &[u8]) -> (Option<String>, Option<String>) {
    let first = bytes.starts_with(HEAD).then(|| entries(bytes, 8));
    let first = first.unwrap_or_default();
    let of = |list: &[(u16, u32, u32)], tag| list.iter().find(|entry| entry.0 == tag).copied();
    let value = |(_, count, at): (u16, u32, u32)| bytes.get(at as usize..)?.get(..count as usize);
    let cones = of(&first, DESCRIPTION).and_then(value).and_then(|text| {
        let text = text.strip_suffix(b"\0").unwrap_or(text);
        String::from_utf8(text.to_vec()).ok()
    });
    let second = of(&first, EXIF_PLACE).map(|(.., at)| entries(bytes, at as usize));
    let comment = second.and_then(|list| of(&list, COMMENT)).and_then(value);
    let parameters = comment
        .and_then(|text| text.strip_prefix(UNICODE))
        .and_then(|text| {
            let units = text
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            String::from_utf16(&units.collect::<Vec<_>>()).ok()
        });
    (parameters, cones)
}

/// The entries of a directory: tag, count, and value or place.
fn entries(bytes: &[u8], at: usize) -> Vec<(u16, u32, u32)> {
    let Some((count, rest)) = bytes
        .get(at..)
        .and_then(|rest| rest.split_first_chunk::<2>())
    else {
        return Vec::new();
    };
    let four = |entry: &[u8], at: usize| {
        u32::from_be_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
    };
    let entries = rest
        .chunks_exact(ENTRY)
        .take(usize::from(u16::from_be_bytes(*count)));
    entries
        .map(|e| (u16::from_be_bytes([e[0], e[1]]), four(e, 4), four(e, 8)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_and_damage_says_nothing() {
        let (parameters, cones) = ("a 犬\nSteps: 5", r#"{"prompt":"é"}"#);
        let bytes = write(parameters, cones);
        let want = (Some(parameters.to_owned()), Some(cones.to_owned()));
        assert_eq!(read(&bytes), want);
        for end in 0..bytes.len() {
            assert_ne!(read(&bytes[..end]), want);
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            read(&changed);
        }
    }
}
