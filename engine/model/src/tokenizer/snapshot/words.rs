//! Recognising how a `tokenizer.json` cuts words, where an automaton can do the same in linear time.

use serde_json::Value;
use tokenizers::ModelWrapper;

use super::super::TokenizerError;
use super::super::byte_level::ByteLevel;
use super::super::pre::{GPT2, NUMERAL, Step, WordCutter};
use super::super::spelling::Spelling;
use super::json;

/// How patterns say that the last blank of a run belongs to what follows. The cutter does that itself.
const BLANKS: &str = r"|\s+(?!\S)|\s+";

/// The encoder of a byte-level vocabulary whose words are cut by patterns that the cutter knows.
pub(super) fn byte_level(
    library: &tokenizers::Tokenizer,
    spelling: Spelling,
) -> Result<Option<ByteLevel>, TokenizerError> {
    let (ModelWrapper::BPE(bpe), Spelling::ByteLevel) = (library.get_model(), spelling) else {
        return Ok(None);
    };
    let pre_tokenizer = json(library.get_pre_tokenizer())?.unwrap_or_default();
    let described = steps(&pre_tokenizer, "pretokenizers");
    // The last step spells the words in bytes, which is the encoder's own doing.
    if described
        .last()
        .is_none_or(|last| last["type"] != "ByteLevel")
    {
        return Ok(None);
    }
    let Some(cuts) = described.iter().map(cut).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let cuts: Vec<Step<'_>> = cuts.into_iter().flatten().collect();
    match WordCutter::new(&cuts) {
        Ok(words) => Ok(Some(ByteLevel::of(words, bpe.clone()))),
        // Look-ahead, or whatever else the automaton does not know.
        Err(_) => Ok(None),
    }
}

/// What one step of the file cuts, or nothing at all; `None` where the cutter cannot do the same.
fn cut(step: &Value) -> Option<Option<Step<'_>>> {
    match step["type"].as_str()? {
        "ByteLevel" if step["add_prefix_space"] == false => {
            let cuts = step["use_regex"] == true;
            Some(cuts.then_some(GPT2))
        }
        "Digits" if step["individual_digits"] == true => Some(Some(NUMERAL)),
        "Split" if step["behavior"] == "Isolated" && step["invert"] == false => {
            let pattern = step["pattern"]["Regex"].as_str()?;
            let words = pattern.strip_suffix(BLANKS);
            let step = Step {
                words: words.unwrap_or(pattern),
                blanks: words.is_some(),
            };
            (!is_possessive(step.words)).then_some(Some(step))
        }
        _ => None,
    }
}

/// The steps of a part, which is a sequence of them, one alone, or none.
pub(super) fn steps<'v>(part: &'v Value, key: &str) -> &'v [Value] {
    match part {
        Value::Null => &[],
        Value::Object(fields) if fields.get("type").is_some_and(|kind| kind == "Sequence") => {
            part[key].as_array().map_or(&[], Vec::as_slice)
        }
        one => std::slice::from_ref(one),
    }
}

/// Whether a pattern has a repetition that gives nothing back, such as `a?+` or `a{1,3}+`. The automaton would
/// read another meaning into it: the repetition of a repetition.
fn is_possessive(pattern: &str) -> bool {
    let mut repeats = false;
    let mut in_class = false;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let after_repetition = std::mem::take(&mut repeats);
        match character {
            '\\' => drop(characters.next()),
            '[' => in_class = true,
            ']' => in_class = false,
            _ if in_class => {}
            '+' if after_repetition => return true,
            '?' | '*' | '+' => repeats = true,
            // A count, or the name of a class as in `\p{L}`.
            '{' => {
                let counts = characters
                    .as_str()
                    .starts_with(|first: char| first.is_ascii_digit());
                repeats = characters.any(|inner| inner == '}') && counts;
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_possessive;

    #[test]
    fn a_possessive_repetition_is_told_from_an_ordinary_one() {
        for pattern in [
            r"\p{L}?+x",
            r"a*+",
            r"(?:ab)++",
            r"\p{N}{1,3}+",
            r"[a]?+\p{L}+",
        ] {
            assert!(is_possessive(pattern), "{pattern}");
        }
        for pattern in [
            r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
            r"\++",
            r"[?*+]+",
            r"a+?",
            "",
        ] {
            assert!(!is_possessive(pattern), "{pattern}");
        }
    }
}
