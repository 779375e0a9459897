//! Which place wins, what each place is told when it is wrong, and that the example names every setting.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;

use clap::{Args, Parser, Subcommand};

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    Serve(Flags),
    Other {
        #[arg(long)]
        threads: Option<usize>,
    },
}

/// One flag of each kind.
#[derive(Debug, Args)]
struct Flags {
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(long, conflicts_with = "model_file")]
    model: Option<String>,
    #[arg(long)]
    model_file: Option<PathBuf>,
    #[arg(long)]
    http: Option<String>,
    #[arg(long, requires = "http")]
    served_name: Option<String>,
    #[arg(long, default_value = "16", value_parser = super::super::options::positive)]
    capacity: NonZeroUsize,
    #[arg(long, alias = "grace", default_value = "10")]
    shutdown_timeout: u64,
    #[arg(long)]
    insecure: bool,
    #[arg(long, value_delimiter = ',')]
    key: Vec<String>,
    #[arg(long, hide_env_values = true)]
    token: Option<String>,
    #[arg(long, env = "KAKEYA_SET", default_value = "auto", value_parser = ["auto", "scalar"])]
    isa: String,
}

struct Variables(BTreeMap<String, OsString>);

impl Environment for Variables {
    fn value(&self, name: &str) -> Option<OsString> {
        self.0.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// Reads `kakeya serve` with these flags, variables, and a file of this text.
fn read(
    flags: &[&str],
    variables: &[(&str, &str)],
    file: &str,
) -> Result<(Flags, Effective), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kakeya.toml");
    fs::write(&path, file).expect("written");
    let mut all: BTreeMap<_, _> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
        .collect();
    all.insert("KAKEYA_CONFIG".to_owned(), path.into_os_string());
    let line = ["kakeya", "serve"].iter().chain(flags).map(OsString::from);
    match parse::<Line>(line.collect(), &Variables(all)) {
        Ok((
            Line {
                command: Sub::Serve(flags),
            },
            effective,
        )) => Ok((flags, effective)),
        Ok(other) => panic!("not serve: {other:?}"),
        Err(Refused::Line(error)) => Err(error.to_string()),
        Err(Refused::Setting(error)) => {
            let told = error.to_string();
            Err(told.replace(&format!("{}/", folder.path().display()), ""))
        }
    }
}

fn origin(effective: &Effective, name: &str) -> Origin {
    let found = effective.settings.iter().find(|one| one.name == name);
    match found.expect("a setting").origin.clone() {
        Origin::File(path, line) => {
            let name = path.file_name().expect("a name");
            Origin::File(name.into(), line)
        }
        other => other,
    }
}

#[test]
fn flags_outdo_the_environment_which_outdoes_the_file_which_outdoes_the_defaults() {
    let file = "# places\ncapacity = 2\nshutdown-timeout = 3\nhttp = \"h:1\"\n";
    let variables = [("KAKEYA_SHUTDOWN_TIMEOUT", "4"), ("KAKEYA_HTTP", "h:2")];
    let (flags, effective) = read(&["--http", "h:3"], &variables, file).expect("fine");
    assert_eq!(flags.capacity.get(), 2);
    assert_eq!(flags.shutdown_timeout, 4);
    assert_eq!(flags.http.as_deref(), Some("h:3"));
    assert!(flags.config.is_some());
    assert_eq!(origin(&effective, "http"), Origin::Flag);
    assert_eq!(
        origin(&effective, "shutdown-timeout"),
        Origin::Environment("KAKEYA_SHUTDOWN_TIMEOUT".into())
    );
    let place = Origin::File("kakeya.toml".into(), 2);
    assert_eq!(origin(&effective, "capacity"), place);
    assert_eq!(origin(&effective, "isa"), Origin::Default);
}

#[test]
fn every_kind_of_value_can_stand_in_every_place() {
    let file = "insecure = true\nkey = [\"a\", \"b\"]\ncapacity = 0x10\nisa = 'scalar'\n";
    let (flags, effective) = read(&[], &[], file).expect("fine");
    assert!(flags.insecure);
    assert_eq!(flags.key, ["a", "b"]);
    assert_eq!(flags.capacity.get(), 16);
    assert_eq!(flags.isa, "scalar");
    assert_eq!(
        effective.settings.iter().filter(|one| one.several).count(),
        1
    );
    let variables = [
        ("KAKEYA_INSECURE", "off"),
        ("KAKEYA_KEY", "c, d"),
        ("KAKEYA_SET", "auto"),
        ("KAKEYA_HTTP", ""),
    ];
    let (flags, _) = read(&[], &variables, file).expect("fine");
    assert!(!flags.insecure);
    assert_eq!(flags.key, ["c", "d"]);
    assert_eq!(flags.isa, "auto");
    assert_eq!(flags.http, None, "an empty variable is none");
    let (flags, _) = read(&["--key", "e"], &variables, file).expect("fine");
    assert_eq!(flags.key, ["e"]);
    let (flags, _) = read(&["--insecure"], &[], "insecure = false").expect("fine");
    assert!(flags.insecure);
}

#[test]
fn a_weaker_place_gives_way_to_what_excludes_it() {
    let (flags, effective) = read(
        &["--model-file", "m.gguf"],
        &[("KAKEYA_MODEL", "b")],
        "model = 'a'",
    )
    .expect("fine");
    assert_eq!(
        (flags.model, flags.model_file),
        (None, Some("m.gguf".into()))
    );
    assert_eq!(origin(&effective, "model"), Origin::Default);
    let (flags, _) = read(&[], &[("KAKEYA_MODEL", "b")], "model-file = 'm'").expect("fine");
    assert_eq!(
        (flags.model.as_deref(), flags.model_file),
        (Some("b"), None)
    );
    let error = read(&[], &[], "model = 'a'\nmodel-file = 'b'").expect_err("one place says both");
    assert!(error.contains("cannot be used with"), "{error}");
}

#[test]
fn what_a_flag_needs_may_stand_in_the_file() {
    let (flags, _) = read(&["--served-name", "x"], &[], "http = 'h:1'").expect("fine");
    assert_eq!(flags.served_name.as_deref(), Some("x"));
    let error = read(&["--served-name", "x"], &[], "").expect_err("no --http");
    assert!(error.contains("--http <HTTP>"), "{error}");
}

#[test]
fn an_old_name_is_a_key_too_but_not_beside_the_new_one() {
    let (flags, _) = read(&[], &[], "grace = 3").expect("fine");
    assert_eq!(flags.shutdown_timeout, 3);
    let error = read(&[], &[], "grace = 3\nshutdown-timeout = 4").expect_err("twice");
    assert!(error.contains("in line 1 are the same setting"), "{error}");
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line_its_key_and_what_would_be_right() {
    for (file, told) in [
        (
            "\ncapactiy = 3",
            "kakeya.toml:2: unknown key `capactiy`: is it `capacity`?",
        ),
        (
            "served_name = 'x'",
            "kakeya.toml:1: unknown key `served_name`: is it `served-name`?",
        ),
        (
            "zzz = 3",
            "kakeya.toml:1: unknown key `zzz`: `kakeya serve --help` lists the flags, whose names the keys are",
        ),
        (
            "config = 'x'",
            "kakeya.toml:1: unknown key `config`: `kakeya serve --help` lists the flags, whose names the keys are",
        ),
        (
            "\n\ncapacity = 0",
            "kakeya.toml:3: `capacity` is `0`: expected a whole number from 1 up",
        ),
        (
            "isa = 'avx9'",
            "kakeya.toml:1: `isa` is `avx9`: expected `auto` or `scalar`",
        ),
        (
            "insecure = 'yes'",
            "kakeya.toml:1: `insecure` is true or false",
        ),
        (
            "capacity = [1]",
            "kakeya.toml:1: `capacity` takes one value, and is a list",
        ),
        (
            "capacity = true",
            "kakeya.toml:1: `capacity` is a boolean: expected a text or a number",
        ),
        (
            "key = [1979-05-27]",
            "kakeya.toml:1: `key` is a datetime: expected a text or a number",
        ),
        (
            "capacity = 99999999999999999999",
            "kakeya.toml:1: `capacity` is 99999999999999999999, a number beyond 64 bits",
        ),
        (
            "capacity = 1.5",
            "kakeya.toml:1: `capacity` is `1.5`: expected a whole number from 1 up",
        ),
        (
            "[http]\na = 1",
            "kakeya.toml:1: `http` is a table: settings stand at the top, as KEY = VALUE",
        ),
    ] {
        assert_eq!(read(&[], &[], file).expect_err("wrong"), told, "{file}");
    }
    let error = read(&[], &[], "capacity = 1\ncapacity = 2").expect_err("twice");
    assert!(
        error.starts_with("kakeya.toml:2: not TOML: duplicate key"),
        "{error}"
    );
    let error = read(&[], &[], "capacity").expect_err("no value");
    assert!(error.starts_with("kakeya.toml:1: not TOML: "), "{error}");
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, told) in [
        (
            "KAKEYA_CAPACITY",
            "x",
            "is `x`: expected a whole number from 1 up",
        ),
        (
            "KAKEYA_INSECURE",
            "maybe",
            "is `maybe`: expected true or false",
        ),
        (
            "KAKEYA_SHUTDOWN_TIMEOUT",
            "-1",
            "is `-1`: invalid digit found in string",
        ),
    ] {
        let told = format!("the environment variable {name} {told}");
        assert_eq!(read(&[], &[(name, value)], "").expect_err("wrong"), told);
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_named() {
    use std::os::unix::ffi::OsStringExt;
    let variable = ("KAKEYA_HTTP".to_owned(), OsString::from_vec(vec![0xff]));
    let line = ["kakeya", "serve"].map(OsString::from).to_vec();
    let refused = parse::<Line>(line, &Variables(BTreeMap::from([variable])));
    let Err(Refused::Setting(error)) = refused else {
        panic!("not refused: {refused:?}")
    };
    assert_eq!(
        error.to_string(),
        "the environment variable KAKEYA_HTTP is no UTF-8 text"
    );
}

#[test]
fn a_variable_that_looks_like_a_settings_is_told() {
    let variables = [
        ("KAKEYA_CAPACTIY", "3"),
        ("KAKEYA_SERVICE_HOST", "10.0.0.1"),
        ("KAKEYA_HTTP", "h:1"),
    ];
    let (_, effective) = read(&[], &variables, "").expect("fine");
    assert_eq!(
        effective.misspelt,
        [("KAKEYA_CAPACTIY".to_owned(), "KAKEYA_CAPACITY".to_owned())]
    );
    effective.log();
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let line = ["kakeya", "serve", "--config", "/nowhere/kakeya.toml"].map(OsString::from);
    let refused = parse::<Line>(line.to_vec(), &Variables(BTreeMap::new()));
    let Err(Refused::Setting(error)) = refused else {
        panic!("not refused: {refused:?}")
    };
    assert!(
        error
            .to_string()
            .starts_with("cannot read the configuration /nowhere/kakeya.toml: "),
        "{error}"
    );
}

#[test]
fn a_secret_is_marked() {
    let (_, effective) = read(&[], &[("KAKEYA_TOKEN", "hush")], "").expect("fine");
    let secret: Vec<_> = effective.settings.iter().filter(|one| one.secret).collect();
    assert_eq!(secret.len(), 1);
    assert_eq!(secret[0].name, "token");
}

#[test]
fn help_names_the_variables_and_not_their_values() {
    let line = ["kakeya", "serve", "--help"].map(OsString::from).to_vec();
    let variables = BTreeMap::from([("KAKEYA_CAPACITY".to_owned(), "77".into())]);
    let Err(Refused::Line(help)) = parse::<Line>(line, &Variables(variables)) else {
        panic!("no help")
    };
    let help = help.to_string();
    for part in [
        "[env: KAKEYA_CAPACITY",
        "[env: KAKEYA_CONFIG",
        "[env: KAKEYA_SET",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(!help.contains("77"), "{help}");
}

#[test]
fn another_command_and_a_wrong_flag_are_claps_own() {
    let other = |flag| {
        let line = ["kakeya", "other", flag, "3"].map(OsString::from).to_vec();
        let variables = BTreeMap::from([("KAKEYA_THREADS".to_owned(), "4".into())]);
        parse::<Line>(line, &Variables(variables))
    };
    let (line, effective) = other("--threads").expect("fine");
    assert!(matches!(line.command, Sub::Other { threads: Some(3) }));
    assert_eq!(effective, Effective::default());
    assert!(matches!(other("--thread-count"), Err(Refused::Line(_))));
    let error = read(&["--capacty", "3"], &[], "").expect_err("unknown");
    assert!(error.contains("--capacity"), "{error}");
}

/// The settings of the real command.
fn real() -> Command {
    let all = super::super::Cli::command();
    all.find_subcommand("serve").expect("serve").clone()
}

/// The example, in which every setting stands, most of them behind a `#`.
fn example() -> (PathBuf, String) {
    // Cargo runs a test in the folder of its package.
    let path = PathBuf::from("../../docs/ops/kakeya.toml");
    let text = fs::read_to_string(&path).expect("the example");
    (path, text)
}

#[test]
fn the_example_is_valid_as_it_stands() {
    let (path, _) = example();
    let line = ["kakeya", "config", "--check"].map(OsString::from);
    let line = line.into_iter().chain([path.into_os_string()]).collect();
    let parsed = parse::<super::super::Cli>(line, &Variables(BTreeMap::new()));
    let (cli, _) = parsed.unwrap_or_else(|refused| panic!("{refused:?}"));
    let super::super::Command::Config(args) = cli.command else {
        panic!("not config")
    };
    assert!(args.check().is_ok());
}

#[test]
fn the_example_names_every_setting_and_each_line_of_it_is_valid() {
    let (path, text) = example();
    // `# key = value` is a setting, and `# prose` is not.
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest
                    .split_once(" = ")
                    .is_some_and(|(key, _)| !key.contains(' ')) =>
            {
                rest
            }
            _ => line,
        })
        .collect();
    let given = file::of_text(&real(), &path, &uncommented.join("\n"));
    given.unwrap_or_else(|error| panic!("{error}"));
    for flag in flags(&real()) {
        let key = flag.get_long().expect("a name");
        let stands = uncommented
            .iter()
            .any(|line| line.starts_with(&format!("{key} = ")));
        assert!(
            stands,
            "docs/ops/kakeya.toml does not name `{key}`: add `# {key} = ...`"
        );
    }
}
