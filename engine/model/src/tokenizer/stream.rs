//! Turning tokens into text as they come, without ever splitting a character.

use super::spelling::DecodePosition;
use super::{Tokenizer, TokenizerError};

/// Holds back the bytes of a character that is not complete yet.
///
/// Whatever the pieces, what comes out joined together equals [`String::from_utf8_lossy`] of all the bytes.
#[derive(Debug, Default)]
struct Utf8Assembler {
    held: Vec<u8>,
}

impl Utf8Assembler {
    /// Takes more bytes and returns the text that is now certain.
    fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::new();
        let mut done = 0;
        loop {
            match std::str::from_utf8(&self.held[done..]) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.held.clear();
                    return text;
                }
                Err(error) => {
                    let valid = done + error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.held[done..valid]));
                    match error.error_len() {
                        Some(bad) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            done = valid + bad;
                        }
                        // The bytes so far may still become a character: wait for the rest.
                        None => {
                            self.held.drain(..valid);
                            return text;
                        }
                    }
                }
            }
        }
    }

    /// Gives up waiting: an unfinished character becomes U+FFFD.
    fn finish(self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }
}

/// Decodes a stream of tokens into text that is valid UTF-8 at every step.
///
/// One character may span several tokens, so a push can return the empty string. All that was returned,
/// followed by [`StreamDecoder::finish`], equals [`Tokenizer::decode`] of the same tokens.
#[derive(Debug)]
pub struct StreamDecoder {
    skip_special: bool,
    position: DecodePosition,
    assembler: Utf8Assembler,
}

impl StreamDecoder {
    /// Starts a stream; with `skip_special`, control tokens leave no text.
    pub fn new(skip_special: bool) -> Self {
        Self::at(DecodePosition::START, skip_special)
    }

    /// Starts a stream in the middle of a text, after a prompt, say. SentencePiece vocabularies may begin a
    /// text with a blank of their own, which decoding takes away; a text that goes on keeps its first blank.
    pub fn continuing(skip_special: bool) -> Self {
        Self::at(DecodePosition::MIDDLE, skip_special)
    }

    fn at(position: DecodePosition, skip_special: bool) -> Self {
        Self {
            skip_special,
            position,
            assembler: Utf8Assembler::default(),
        }
    }

    /// Takes one token and returns the text that is now certain.
    ///
    /// # Errors
    /// [`TokenizerError::OutsideVocabulary`], with nothing taken.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String, TokenizerError> {
        let mut bytes = Vec::new();
        tokenizer.push_bytes(token, self.skip_special, &mut self.position, &mut bytes)?;
        Ok(self.assembler.push(&bytes))
    }

    /// Ends the stream: an unfinished character becomes U+FFFD.
    pub fn finish(self) -> String {
        self.assembler.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Utf8Assembler;

    fn assembled(bytes: &[u8], step: usize) -> String {
        let mut assembler = Utf8Assembler::default();
        let mut text = String::new();
        for piece in bytes.chunks(step) {
            text.push_str(&assembler.push(piece));
        }
        text + &assembler.finish()
    }

    #[test]
    fn any_step_gives_the_text_of_the_whole() {
        let cases: [&[u8]; 6] = [
            "a é 漢字 👩‍👩‍👧 e\u{301} z".as_bytes(),
            b"",
            b"\xff\xfe ok \xc3",
            b"\xe6\xbc cut \xf0\x9f\x91 and \xf0\x9f\x91\xa9",
            b"\xe2\x82",
            b"\xc0\xaf\xed\xa0\x80\xf5",
        ];
        for bytes in cases {
            for step in 1..=7 {
                assert_eq!(
                    assembled(bytes, step),
                    String::from_utf8_lossy(bytes),
                    "{bytes:?} by {step}"
                );
            }
        }
    }

    #[test]
    fn a_character_is_held_until_it_is_whole() {
        let mut assembler = Utf8Assembler::default();
        let mut steps = Vec::new();
        for byte in "x😀y".bytes() {
            steps.push(assembler.push(&[byte]));
        }
        assert_eq!(steps, ["x", "", "", "", "😀", "y"]);
    }
}
