//! Stop strings, matched in text that arrives piece by piece.
//!
//! An answer ends where a stop string is first complete; of several that are complete there, the longest is cut off.
//! That is a rule about the text alone, so it holds however the text was cut into tokens. It is the Knuth-Morris-Pratt
//! algorithm, a state for each string: the state is the length of the longest beginning of the string that the text
//! ends with, which is also what must be held back. (The crates that match many strings at once do not tell it.)

/// A stop string, and how much of it the text ends with.
#[derive(Debug, Clone)]
struct Stop {
    text: Box<[u8]>,
    /// For each length of a beginning, the length of its longest proper beginning that it also ends with.
    borders: Vec<usize>,
    matched: usize,
}

impl Stop {
    fn new(text: &str) -> Self {
        let text: Box<[u8]> = text.as_bytes().into();
        let mut borders = vec![0; text.len() + 1];
        let mut border = 0;
        for end in 1..text.len() {
            while border > 0 && text[end] != text[border] {
                border = borders[border];
            }
            border += usize::from(text[end] == text[border]);
            borders[end + 1] = border;
        }
        Self {
            text,
            borders,
            matched: 0,
        }
    }

    /// Follows the text by a byte; `true` when it now ends with the whole string. It is not followed after that.
    fn advance(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.borders[self.matched];
        }
        self.matched += usize::from(self.text[self.matched] == byte);
        self.matched == self.text.len()
    }
}

/// Gives out text up to the first stop string.
#[derive(Debug, Clone)]
pub struct StopText {
    stops: Vec<Stop>,
    /// The end of the text so far that may yet turn out to be the beginning of a stop string.
    held: String,
    met: Option<usize>,
}

impl StopText {
    /// A matcher of these strings. An empty one ends no text, as none is to be seen in it.
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Self {
        Self {
            stops: stops.iter().map(|stop| Stop::new(stop.as_ref())).collect(),
            held: String::new(),
            met: None,
        }
    }

    /// Takes the next piece of the text and gives out what is now certain to stand before any stop string. After a
    /// stop string nothing more is given out.
    #[must_use]
    pub fn push(&mut self, piece: &str) -> String {
        if self.met.is_some() {
            return String::new();
        }
        let before = self.held.len();
        self.held.push_str(piece);
        for (index, byte) in piece.bytes().enumerate() {
            if let Some((stop, length)) = self.advance(byte) {
                self.met = Some(stop);
                // A stop string begins where a character does, and no earlier than what was held back.
                self.held.truncate(before + index + 1 - length);
                return std::mem::take(&mut self.held);
            }
        }
        let open = self.stops.iter().map(|stop| stop.matched).max();
        let certain = self.held.len() - open.unwrap_or(0);
        let held = self.held.split_off(certain);
        std::mem::replace(&mut self.held, held)
    }

    /// Follows the text by a byte: the longest stop string that it now ends with, and its length.
    fn advance(&mut self, byte: u8) -> Option<(usize, usize)> {
        let mut longest = None;
        for (index, stop) in self.stops.iter_mut().enumerate() {
            if stop.text.is_empty() || !stop.advance(byte) {
                continue;
            }
            if longest.is_none_or(|(_, length)| length < stop.text.len()) {
                longest = Some((index, stop.text.len()));
            }
        }
        longest
    }

    /// Gives out what was held back, when the text ended without a stop string.
    #[must_use]
    pub fn finish(self) -> String {
        self.held
    }

    /// What is held back.
    pub fn held(&self) -> &str {
        &self.held
    }

    /// The place in the list of the stop string that was met.
    pub fn met(&self) -> Option<usize> {
        self.met
    }
}
