//! What a line of the chat asks for.

/// A line, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked<'l> {
    /// Nothing.
    Nothing,
    /// Something for the model.
    Say(&'l str),
    /// A conversation anew.
    Reset,
    /// A copy of the conversation, to go on in.
    Fork,
    /// Another conversation, by its number.
    Switch(usize),
    /// The conversation into a file.
    Save(&'l str),
    /// A conversation from a file.
    Load(&'l str),
    /// Numbers.
    Info,
    /// The commands.
    Help,
    /// The end.
    Quit,
    /// A command that cannot be: what is wrong, and what would be right.
    Wrong(String),
}

/// The commands, for `/help`.
pub const COMMANDS: [(&str, &str); 8] = [
    ("/reset", "begin anew"),
    ("/fork", "copy this conversation and go on in the copy"),
    ("/switch N", "go to conversation N"),
    ("/save FILE", "write this conversation to a file"),
    ("/load FILE", "go on with one from a file"),
    ("/info", "tokens, memory and what has left the window"),
    ("/help", "this"),
    ("/quit", "leave, as Ctrl-D does"),
];

/// Reads a line. One that begins with two slashes is said with one.
pub fn read(line: &str) -> Asked<'_> {
    let line = line.trim();
    if line.is_empty() {
        return Asked::Nothing;
    }
    let Some(command) = line.strip_prefix('/') else {
        return Asked::Say(line);
    };
    if command.starts_with('/') {
        return Asked::Say(command);
    }
    let (name, argument) = match command.split_once(char::is_whitespace) {
        Some((name, argument)) => (name, argument.trim()),
        None => (command, ""),
    };
    match (name, argument) {
        ("reset", "") => Asked::Reset,
        ("fork", "") => Asked::Fork,
        ("info", "") => Asked::Info,
        ("help", "") => Asked::Help,
        ("quit" | "exit", "") => Asked::Quit,
        ("save" | "load", "") => Asked::Wrong(format!("/{name} wants a file: /{name} FILE")),
        ("save", file) => Asked::Save(file),
        ("load", file) => Asked::Load(file),
        ("switch", number) => match number.parse() {
            Ok(number) => Asked::Switch(number),
            Err(_) => {
                Asked::Wrong("/switch wants a number, which /info lists: /switch 1".to_owned())
            }
        },
        ("reset" | "fork" | "info" | "help" | "quit" | "exit", _) => {
            Asked::Wrong(format!("/{name} takes nothing after it"))
        }
        _ => Asked::Wrong(format!(
            "there is no /{name}: /help lists what there is, and a line that begins with // is said as it is"
        )),
    }
}

/// Cuts a text into lines of at most `width` columns, between words where they fit.
pub fn wrapped(text: &str, width: usize) -> String {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word = word;
        let columns = |text: &str| text.chars().count();
        if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        // A word that fits nowhere is cut.
        while columns(&line) + columns(word) > width {
            let room = width - columns(&line);
            let at = word
                .char_indices()
                .nth(room)
                .map_or(word.len(), |(at, _)| at);
            line.push_str(&word[..at]);
            word = &word[at..];
            lines.push(std::mem::take(&mut line));
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_or_are_commands() {
        for (line, asked) in [
            ("", Asked::Nothing),
            (" \t", Asked::Nothing),
            (" hello there ", Asked::Say("hello there")),
            ("//help me", Asked::Say("/help me")),
            ("/reset", Asked::Reset),
            ("/fork", Asked::Fork),
            ("/switch 2", Asked::Switch(2)),
            ("/save my chat.kk", Asked::Save("my chat.kk")),
            ("/load  a", Asked::Load("a")),
            ("/info", Asked::Info),
            ("/help", Asked::Help),
            ("/quit", Asked::Quit),
            ("/exit", Asked::Quit),
        ] {
            assert_eq!(read(line), asked, "{line:?}");
        }
    }

    #[test]
    fn a_command_that_cannot_be_says_what_would_be_right() {
        for (line, part) in [
            ("/save", "/save FILE"),
            ("/load ", "/load FILE"),
            ("/switch", "/switch 1"),
            ("/switch -1", "/switch 1"),
            ("/reset now", "nothing after it"),
            ("/Help", "no /Help: /help lists"),
            ("/", "no /:"),
        ] {
            let Asked::Wrong(said) = read(line) else {
                panic!("{line} is right");
            };
            assert!(said.contains(part), "{line:?}: {said}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        for (command, _) in COMMANDS {
            let line = command.replace('N', "1");
            assert!(
                !matches!(read(&line), Asked::Wrong(_) | Asked::Say(_)),
                "{line}"
            );
        }
    }

    #[test]
    fn texts_fit_in_narrow_terminals() {
        let text = "Type a message. /help lists commands, Ctrl-C stops a reply; antidisestablishmentarianism";
        for width in [1, 2, 7, 20, 80, 200] {
            let lines = wrapped(text, width);
            assert!(
                lines.lines().all(|line| line.chars().count() <= width),
                "{width}: {lines}"
            );
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(letters(&lines), letters(text));
        }
        assert_eq!(wrapped("one two three", 8), "one two\nthree");
        assert_eq!(wrapped("", 0), "");
    }
}
