//! Cutting plain text into words before byte-pair encoding, as the file's `pre` type says.
//!
//! A merge never crosses a word, so the cutting decides the ids as much as the merges do. GGUF does not
//! carry the rule, only its name; the rules below are the ones that llama.cpp gives those names, and
//! the golden ids prove them equal.
//!
//! The usual way to write these rules ends in `\s+(?!\S)|\s+`, and a look-ahead needs a backtracking
//! engine, which gives up on a long run of blanks. Here the blanks are a pattern of their own and the last
//! one is handed back afterwards, so that an automaton can do the work: in linear time, for any text.

use regex_automata::meta::Regex;
use regex_automata::{Input, PatternID};

use super::TokenizerError;

/// The metadata key that names the rule.
pub(super) const PRE_KEY: &str = "tokenizer.ggml.pre";

/// One way of cutting text, under the names that GGUF files give it.
pub(super) struct PreTokenization {
    names: &'static [&'static str],
    /// Applied one after the other, each inside the pieces that the last one left.
    steps: &'static [Step<'static>],
    /// A word that is a token as a whole is taken as that token, whatever the merges would make of it.
    pub(super) ignore_merges: bool,
    /// Whether a beginning-of-sequence token is added where the file does not say.
    pub(super) adds_bos: bool,
}

/// One pass over a piece of text.
#[derive(Clone, Copy)]
pub(super) struct Step<'p> {
    /// What is cut out; of two alternatives, the first that fits.
    pub(super) words: &'p str,
    /// Whether a run of blanks that is no part of such a word is cut out too, except for its last blank
    /// where something follows.
    pub(super) blanks: bool,
}

/// Every numeral alone.
pub(super) const NUMERAL: Step<'static> = Step {
    words: r"\p{N}",
    blanks: false,
};

/// GPT-2: English contractions, then runs of letters, numerals or other marks, each with the one space
/// before it.
pub(super) const GPT2: Step<'static> = Step {
    words: r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+",
    blanks: true,
};

/// Qwen 2: contractions in either case, any one mark before a word, numerals alone, line ends together.
const QWEN2: Step<'static> = Step {
    words: r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    blanks: true,
};

/// Llama 3: as Qwen 2, with numerals in groups of up to three.
const LLAMA3: Step<'static> = Step {
    words: r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    blanks: true,
};

/// Every rule this build knows.
static KNOWN: [PreTokenization; 4] = [
    PreTokenization {
        names: &["smollm", "starcoder", "refact", "command-r"],
        steps: &[NUMERAL, GPT2],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenization {
        names: &["gpt-2"],
        steps: &[GPT2],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenization {
        names: &["qwen2", "deepseek-r1-qwen"],
        steps: &[QWEN2],
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenization {
        names: &["llama-bpe", "llama3", "llama-v3"],
        steps: &[LLAMA3],
        ignore_merges: true,
        adds_bos: true,
    },
];

impl PreTokenization {
    /// Finds the rule called `name`.
    pub(super) fn named(name: &str) -> Result<&'static Self, TokenizerError> {
        let known = KNOWN.iter().find(|rule| rule.names.contains(&name));
        known.ok_or_else(|| {
            let names: Vec<_> = KNOWN.iter().flat_map(|rule| rule.names).copied().collect();
            TokenizerError::Unsupported {
                key: PRE_KEY,
                found: name.to_owned(),
                supported: names.join(", "),
            }
        })
    }

    /// Compiles the rule.
    pub(super) fn build(&self) -> Result<WordCutter, TokenizerError> {
        WordCutter::new(self.steps)
    }
}

/// A compiled rule.
#[derive(Debug)]
pub(super) struct WordCutter {
    steps: Vec<Regex>,
}

impl WordCutter {
    /// Compiles steps that are applied one after the other.
    pub(super) fn new(steps: &[Step<'_>]) -> Result<Self, TokenizerError> {
        let compile = |step: &Step<'_>| {
            let patterns = [step.words, r"\s+"];
            Regex::new_many(&patterns[..1 + usize::from(step.blanks)])
                .map_err(|error| TokenizerError::Library(Box::new(error)))
        };
        let steps = steps.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { steps })
    }

    /// The words of a text, in order. Joined together they are the text.
    pub(super) fn words<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut pieces = vec![text];
        for step in &self.steps {
            let mut finer = Vec::with_capacity(2 * pieces.len());
            for piece in pieces {
                cut(step, piece, &mut finer);
            }
            pieces = finer;
        }
        pieces
    }
}

/// Cuts out all that the step matches; what lies between matches stays whole.
fn cut<'t>(step: &Regex, text: &'t str, pieces: &mut Vec<&'t str>) {
    let blanks = PatternID::must(1);
    // Where the text begins that is not cut yet, and where the next word is looked for.
    let (mut start, mut from) = (0, 0);
    while let Some(found) = step.search(&Input::new(text).range(from..)) {
        if start < found.start() {
            pieces.push(&text[start..found.start()]);
        }
        // A file's own pattern can match no text at all. It cuts there and is found there for ever: the search goes on
        // one character further, as the library's does.
        if found.is_empty() {
            start = found.start();
            match text[start..].chars().next() {
                Some(next) => from = start + next.len_utf8(),
                None => break,
            }
            continue;
        }
        let mut end = found.end();
        if found.pattern() == blanks && end < text.len() {
            // The last blank goes to what follows, unless it is the only one.
            let last = text[found.range()]
                .chars()
                .next_back()
                .map_or(0, char::len_utf8);
            if found.len() > last {
                end -= last;
            }
        }
        pieces.push(&text[found.start()..end]);
        (start, from) = (end, end);
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::{PreTokenization, Step, WordCutter};

    fn words<'t>(pre: &str, text: &'t str) -> Vec<&'t str> {
        let rule = PreTokenization::named(pre).expect("the rule is known");
        rule.build().expect("the rule compiles").words(text)
    }

    #[test]
    fn the_last_blank_of_a_run_goes_to_what_follows() {
        assert_eq!(words("gpt-2", "a   b"), ["a", "  ", " b"]);
        assert_eq!(words("gpt-2", "a \u{3000}b"), ["a", " ", "\u{3000}", "b"]);
        assert_eq!(words("gpt-2", "a\nb"), ["a", "\n", "b"]);
        assert_eq!(words("gpt-2", "a\n\n b  "), ["a", "\n\n", " b", "  "]);
    }

    #[test]
    fn numerals_stand_alone_and_keep_the_blanks_before_them_apart() {
        assert_eq!(words("smollm", "it's  42"), ["it", "'s", "  ", "4", "2"]);
        assert_eq!(words("gpt-2", "it's  42"), ["it", "'s", " ", " 42"]);
        assert_eq!(words("llama-bpe", "12345"), ["123", "45"]);
    }

    #[test]
    fn line_ends_stay_together_where_the_rule_says_so() {
        assert_eq!(words("qwen2", "a; \n\n  b"), ["a", ";", " \n\n", " ", " b"]);
        assert_eq!(words("qwen2", "a;\r\nb\n"), ["a", ";\r\n", "b", "\n"]);
    }

    #[test]
    fn contractions_end_a_word_in_either_case_where_the_rule_says_so() {
        assert_eq!(words("qwen2", "it'Sally'll"), ["it", "'S", "ally", "'ll"]);
        assert_eq!(words("llama-bpe", "we'REd"), ["we", "'RE", "d"]);
        assert_eq!(words("gpt-2", "it'Sally'll"), ["it", "'", "Sally", "'ll"]);
    }

    /// A `tokenizer.json` brings patterns of its own. The library cuts "bab" by `a*` into the same words.
    #[test]
    fn a_pattern_that_fits_nothing_at_all_cuts_where_it_stands_and_goes_on() {
        let words = |words, text| {
            let step = Step {
                words,
                blanks: false,
            };
            let cutter = WordCutter::new(&[step]).expect("the pattern compiles");
            cutter.words(text)
        };
        assert_eq!(words("a*", "bab"), ["b", "a", "b"]);
        assert_eq!(words("a*", ""), [""; 0]);
        assert_eq!(words("", "\u{e9}\u{6f22}b"), ["\u{e9}", "\u{6f22}", "b"]);
        assert_eq!(words(r"\b", "ab cd"), ["ab", " ", "cd"]);
    }

    #[test]
    fn a_text_is_never_too_long_to_be_cut() {
        for pre in ["smollm", "gpt-2", "qwen2", "llama-bpe"] {
            let blanks = " ".repeat(3_000_000);
            let text = format!("a{blanks}b c");
            let found = words(pre, &text);
            assert_eq!(found.len(), 4, "{pre}");
            assert_eq!(found[1].len(), blanks.len() - 1, "{pre}");
            assert_eq!(found[2..], [" b", " c"], "{pre}");
        }
    }
}
