//! What a build can do, and that its help lists no more.

use std::process::Command;

fn harness(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), text.concat())
}

const ALWAYS: [&str; 9] = [
    "verify",
    "compare",
    "report",
    "coverage",
    "explain",
    "keygen",
    "sign",
    "workflows",
    "init",
];
const WITH_SUITES: [&str; 5] = ["list", "doctor", "prewarm", "gate", "required"];
const WITH_GITHUB: [&str; 2] = ["label", "checks"];

#[test]
fn the_help_lists_what_the_build_has_and_what_it_lacks_is_unknown() {
    let (status, help) = harness(&["--help"]);
    assert_eq!(status, 0);
    for (names, here) in [
        (&ALWAYS[..], true),
        (&WITH_SUITES[..], cfg!(feature = "engine")),
        (&WITH_GITHUB[..], cfg!(feature = "github")),
    ] {
        for name in names {
            assert_eq!(
                help.contains(&format!("\n  {name} ")),
                here,
                "{name}\n{help}"
            );
            let (status, said) = harness(&[name, "--help"]);
            assert_eq!(status, if here { 0 } else { 2 }, "{name}: {said}");
            assert_eq!(
                said.contains("unrecognized subcommand"),
                !here,
                "{name}: {said}"
            );
        }
    }
}
