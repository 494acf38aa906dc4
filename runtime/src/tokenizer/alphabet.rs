//! GPT-2's alphabet: every byte as one printable character, so that vocabulary files are text.
//!
//! Bytes that print stand for themselves (`!` to `~`, `¡` to `¬`, `®` to `ÿ`); the others are, in order, the characters from
//! U+0100 on. A space is `Ġ`, a newline `Ċ`.
//!
//! The `tokenizers` crate keeps its table to itself and shows only which characters there are.

/// How many bytes do not print: U+0100 to U+0143 stand for them.
const HIDDEN: u32 = 68;

/// Whether a byte stands for itself.
const fn prints(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The byte that `character` stands for.
fn byte(character: char) -> Option<u8> {
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => prints(byte).then_some(byte),
        Err(_) if code < 0x100 + HIDDEN => {
            // Hidden bytes are 0 to 32, 127 to 160, and 173.
            let nth = (code - 0x100) as u8;
            Some(match nth {
                0..=32 => nth,
                33..=66 => nth + 94,
                _ => 173,
            })
        }
        Err(_) => None,
    }
}

/// The bytes that `text` stands for, if it is made of the alphabet only.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte).collect()
}

/// The byte that `text` stands for, and its character, if it is one character of the alphabet.
pub(super) fn decode_byte(text: &str) -> Option<(u8, char)> {
    let mut characters = text.chars();
    let first = characters.next()?;
    if characters.next().is_none() { Some((byte(first)?, first)) } else { None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_byte_has_one_character_in_the_published_order() {
        // The construction of GPT-2's encoder.py: bytes that print first, then the rest from 256 on.
        let mut rest = 0x100_u32;
        for value in 0..=u8::MAX {
            let character = if prints(value) {
                char::from(value)
            } else {
                let next = char::from_u32(rest).expect("a character");
                rest += 1;
                next
            };
            assert_eq!(byte(character), Some(value), "{character:?}");
        }
        assert_eq!(rest, 0x100 + HIDDEN);
    }

    #[test]
    fn the_crate_has_the_same_characters() {
        let characters = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let bytes: BTreeSet<u8> = characters.into_iter().filter_map(byte).collect();
        assert_eq!(bytes.len(), 256);
    }

    #[test]
    fn words_read_as_their_bytes() {
        assert_eq!(decode("ĠtÃ©Ċ").as_deref(), Some(" té\n".as_bytes()));
        assert_eq!(decode("a b"), None);
        assert_eq!(decode("▁"), None);
        assert_eq!(decode("\u{144}"), None);
        assert_eq!(decode("\u{ad}"), None);
    }
}
