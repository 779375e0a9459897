//! The byte-level alphabet: one printable character for each byte.
//!
//! Byte-level vocabularies spell every byte as a character, so that a token's text is always readable
//! and never holds a blank. Printable Latin-1 stands for itself; the other 68 bytes take the characters
//! from U+0100 up, in ascending order. (Radford et al. 2019, the encoder of GPT-2.)

/// How many code points the alphabet reaches: U+0000 to U+0143.
const REACH: usize = 256 + 68;

/// The alphabet in both directions.
#[derive(Debug)]
pub(super) struct Alphabet {
    characters: [char; 256],
    bytes: [Option<u8>; REACH],
}

impl Alphabet {
    /// Lays the two tables out.
    pub(super) const fn new() -> Self {
        let mut characters = ['\0'; 256];
        let mut bytes = [None; REACH];
        let mut displaced = 256_u32;
        let mut byte = 0_usize;
        while byte < 256 {
            let stands_for_itself = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
            let code = if stands_for_itself {
                byte as u32
            } else {
                displaced += 1;
                displaced - 1
            };
            let Some(character) = char::from_u32(code) else {
                panic!("the alphabet lies below the surrogates");
            };
            characters[byte] = character;
            bytes[code as usize] = Some(byte as u8);
            byte += 1;
        }
        Self { characters, bytes }
    }

    /// The character that spells `byte`.
    pub(super) fn character(&self, byte: u8) -> char {
        self.characters[usize::from(byte)]
    }

    /// The byte that `character` spells, if it is in the alphabet.
    pub(super) fn byte(&self, character: char) -> Option<u8> {
        self.bytes.get(character as usize).copied().flatten()
    }
}

/// The one alphabet there is.
pub(super) static ALPHABET: Alphabet = Alphabet::new();

#[cfg(test)]
mod tests {
    use super::ALPHABET;

    #[test]
    fn every_byte_has_a_character_of_its_own_and_comes_back() {
        for byte in 0..=255_u8 {
            assert_eq!(ALPHABET.byte(ALPHABET.character(byte)), Some(byte));
        }
    }

    #[test]
    fn known_spellings_hold() {
        assert_eq!(ALPHABET.character(b'A'), 'A');
        assert_eq!(ALPHABET.character(b' '), 'Ġ');
        assert_eq!(ALPHABET.character(b'\n'), 'Ċ');
        assert_eq!(ALPHABET.character(0xff), 'ÿ');
        assert_eq!(ALPHABET.character(0xad), '\u{143}');
    }

    #[test]
    fn characters_outside_the_alphabet_spell_nothing() {
        assert_eq!(ALPHABET.byte(' '), None);
        assert_eq!(ALPHABET.byte('\u{144}'), None);
        assert_eq!(ALPHABET.byte('\u{10ffff}'), None);
    }
}
