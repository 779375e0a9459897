//! The runbooks hold what the code has: every exit status and every code, the platforms, the workflows' names. With
//! `KAKEYA_WRITE_DOCS=1` set, the table is written there instead.

use std::fs;
use std::path::Path;

use harness::explain;
use kakeya_evidence::verify::Page;

const BEGIN: &str = "<!-- triage -->\n";
const END: &str = "<!-- end of triage -->";

fn read(name: &str) -> String {
    // Cargo runs a test in the folder of its package.
    fs::read_to_string(Path::new("../docs").join(name)).unwrap()
}

#[test]
fn the_runbook_tells_what_to_do_about_each_status_and_code() {
    let page = read("ops/mac-m4.md");
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}{}{END}{after}", explain::triage());
    if std::env::var_os("KAKEYA_WRITE_DOCS").is_some() {
        fs::write("../docs/ops/mac-m4.md", wanted).unwrap();
    } else {
        assert!(
            page == wanted,
            "docs/ops/mac-m4.md is stale; KAKEYA_WRITE_DOCS=1 cargo test -p harness --test runbooks"
        );
    }
    for status in 0..=7 {
        assert!(
            explain::triage().contains(&format!("\n| {status} | ")),
            "{status}"
        );
    }
    for page in Page::ALL {
        assert!(
            explain::triage().contains(&format!("\n| {} | ", page.code)),
            "{}",
            page.code
        );
    }
}

/// Each command of a runbook that calls the harness is one that its command line takes.
#[test]
fn the_commands_of_the_runbooks_are_the_programs() {
    let mut seen = 0;
    for name in [
        "ops/mac-m4.md",
        "ops/linux-cuda.md",
        "ops/release.md",
        "ops/key-rotation.md",
        "adopting.md",
    ] {
        for line in read(name).lines() {
            let Some((_, command)) = line.split_once("--bin harness -- ") else {
                continue;
            };
            let command = command.split(['`', '#', '>']).next().unwrap().trim();
            let words: Vec<_> = std::iter::once("harness")
                .chain(command.split(' '))
                .filter(|word| !word.is_empty())
                .collect();
            // The long session drives Kakeya's server.
            if words.contains(&"--soak") && !cfg!(feature = "engine") {
                continue;
            }
            let parsed =
                <harness::cli::Cli<harness::cli::FullCommand> as clap::Parser>::try_parse_from(
                    &words,
                );
            assert!(
                parsed.is_ok(),
                "{name}: {command}: {}",
                parsed
                    .err()
                    .map(|error| error.to_string())
                    .unwrap_or_default()
            );
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}
