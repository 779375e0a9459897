//! Texts of records, made harmless where they are shown.
//!
//! A record is written by whoever ran the gate. A case's message or a host's name must not be able to become a
//! heading, a link, a script, a mention that notifies somebody, or a row of its own in a table.
//! For HTML the template engine escapes; what is here is for Markdown, and for what both need.

/// Stands for a character that must not be shown: control characters, and those that reorder a line, with which a
/// text can be made to read as another one (CVE-2021-42574).
const HIDDEN: char = '\u{fffd}';

/// The text in one line, without characters that hide or reorder others.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|char| match char {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => HIDDEN,
            '\u{feff}' => HIDDEN,
            char if char.is_control() => HIDDEN,
            char => char,
        })
        .collect()
}

/// The text as Markdown that shows exactly it, in one line, also within a table.
///
/// Everything that means something in Markdown or HTML becomes a character reference. GitHub looks for mentions and
/// for numbers of issues after that, so `@` and `#` are followed by a space of no width.
#[must_use]
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in plain(text).chars() {
        match char {
            '@' | '#' => escaped.push_str(&format!("&#{};\u{200b}", u32::from(char))),
            '&' | '<' | '>' | '|' | '`' | '*' | '_' | '[' | ']' | '(' | ')' | '\\' | '~' | '"'
            | '\'' | '!' | '$' => escaped.push_str(&format!("&#{};", u32::from(char))),
            // A bare address becomes a link by its colon or its `www.`.
            ':' => escaped.push_str("&#58;"),
            char => escaped.push(char),
        }
    }
    escaped.replace("www.", "www&#46;")
}

/// The text as Markdown in a typewriter face, for names and digests.
#[must_use]
pub fn code(text: &str) -> String {
    format!("<code>{}</code>", markdown(text))
}

/// The name of a file as part of a link's target: what is not plainly a name is percent-encoded.
#[must_use]
pub fn link(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The first characters of a text, and an ellipsis where there are more.
#[must_use]
pub fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_means_something_is_left() {
        let hostile = "a|b `c` <script>@someone #12\n# h [x](http://y) **z** www.evil.example &lt;";
        let text = markdown(hostile);
        for sign in [
            "|", "`", "<", ">", "\n", "[", "](", "**", "://", "www.", "@", "&lt;",
        ] {
            assert!(!text.contains(sign), "{sign:?} in {text}");
        }
        assert!(text.contains("&#64;\u{200b}someone"), "{text}");
        assert!(text.contains("&#35;\u{200b}12"), "{text}");
        assert_eq!(code("a_b"), "<code>a&#95;b</code>");
        assert_eq!(
            markdown("plain text, 1.5 s/token"),
            "plain text, 1.5 s/token"
        );
    }

    #[test]
    fn a_text_cannot_read_as_another_one() {
        assert_eq!(
            plain("a\u{202e}b\u{0}c\u{feff}d\u{200b}\r\ne"),
            "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}  e"
        );
    }

    #[test]
    fn a_link_leads_into_its_folder_alone() {
        assert_eq!(link("linux-cpu-1-ab.json"), "linux-cpu-1-ab.json");
        assert_eq!(link("../a b\"é"), "..%2Fa%20b%22%C3%A9");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(clip("äöü", 3), "äöü");
        assert_eq!(clip("äöü", 2), "äö…");
    }
}
