//! `harness explain`: what a reason to reject evidence means, and what to do about an exit status.

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
        Some(code) if code.parse::<u8>().is_ok() => {
            let exit = Exit::ALL
                .into_iter()
                .find(|exit| exit.code().to_string() == *code)
                .ok_or_else(|| HarnessError::UnknownCode { code: code.clone() })?;
            format!("{code}: {}\n\n{}\n", exit.meaning(), exit.remedy())
        }
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

/// Every exit status and every code with what to do, as Markdown: a section of the runbooks.
pub fn triage() -> String {
    let mut text = "| exit status | what it is | what to do |\n| --- | --- | --- |\n".to_owned();
    for exit in Exit::ALL {
        let (code, meaning, remedy) = (exit.code(), exit.meaning(), exit.remedy());
        text.push_str(&format!("| {code} | {meaning} | {remedy} |\n"));
    }
    text.push_str("\n| code | what it is | what it means, and what to do |\n| --- | --- | --- |\n");
    for page in Page::ALL {
        let (code, title) = (page.code, page.title);
        let waiver = match page.waivable {
            Waivable::Never => String::new(),
            other => format!(" {}", waivable(other)),
        };
        // A bar would end the cell.
        let about = format!("{}{waiver}", page.text).replace('|', "\\|");
        text.push_str(&format!("| {code} | {title} | {about} |\n"));
    }
    text
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
    fn an_exit_status_has_a_page_too() {
        let page = explained(Some("3")).unwrap();
        assert!(
            page.starts_with("3: the host is not what the platform asks for\n\n`harness doctor"),
            "{page}"
        );
        assert!(explained(Some("8")).unwrap_err().contains("no code `8`"));
        for exit in Exit::ALL {
            assert!(explained(Some(&exit.code().to_string())).is_ok());
        }
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
