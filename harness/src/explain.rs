//! `harness explain`: what a reason to reject evidence means.

use std::io::Write;

use kakeya_evidence::verify::{Code, Page, Waivable};

use crate::cli::ExplainArgs;
use crate::error::HarnessError;
use crate::exit::Exit;

/// Prints the page of a code, or every code with its title.
///
/// # Errors
/// When there is no such code, or the output cannot be written.
pub fn run(arguments: &ExplainArgs, output: &mut impl Write) -> Result<Exit, HarnessError> {
    let text = match &arguments.code {
        None => Page::ALL
            .iter()
            .map(|page| format!("{}  {}\n", page.code, page.title))
            .collect(),
        Some(code) => {
            let page = Code::parse(&code.to_uppercase())
                .and_then(Page::of)
                .ok_or_else(|| HarnessError::UnknownCode { code: code.clone() })?;
            format!(
                "{} ({}): {}\n\n{}\n\n{}\n",
                page.code,
                page.group,
                page.title,
                page.text,
                waivable(page.waivable)
            )
        }
    };
    write!(output, "{text}").map_err(HarnessError::system("write the page"))?;
    Ok(Exit::Success)
}

/// Whether it can be waived, in a sentence.
pub fn waivable(waivable: Waivable) -> &'static str {
    match waivable {
        Waivable::Never => "It is never waived.",
        Waivable::Whole => "It can be waived for a platform, in gates/waivers.toml.",
        Waivable::Each => {
            "It can be waived for one case, measurement, gate or module on one platform, in gates/waivers.toml."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(code: Option<&str>) -> Result<String, String> {
        let mut output = Vec::new();
        let code = code.map(str::to_owned);
        run(&ExplainArgs { code }, &mut output).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_code_has_a_page_in_either_case() {
        let page = explained(Some("ev-049")).unwrap();
        assert!(
            page.starts_with("EV-049 (Cases): the counts disagree with the cases\n\n"),
            "{page}"
        );
        assert!(page.ends_with("It is never waived.\n"), "{page}");
    }

    #[test]
    fn without_a_code_all_are_listed() {
        let list = explained(None).unwrap();
        assert_eq!(list.lines().count(), Page::ALL.len());
    }

    #[test]
    fn an_unknown_code_is_named() {
        assert_eq!(
            explained(Some("EV-999")).unwrap_err(),
            "there is no code `EV-999`; `harness explain` lists them all"
        );
    }
}
