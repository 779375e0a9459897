//! The `kakeya` command as a person types it wrongly: every mistake that is told before a model is loaded.

#![cfg(feature = "engine")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the command with no model within its reach.
fn kakeya(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kakeya"))
        .args(arguments)
        .current_dir(folder)
        .env("HF_HOME", folder.join("no-models"))
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HUGGINGFACE_HUB_CACHE")
        .env_remove("KAKEYA_API_KEYS")
        .env_remove("KAKEYA_ISA")
        .env_remove("RUST_LOG")
        .output()
        .expect("the command starts")
}

/// Asserts the exit code and that standard error has every part; standard output stays empty.
fn assert_refused(folder: &Path, arguments: &[&str], code: i32, parts: &[&str]) {
    let output = kakeya(folder, arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    for part in parts {
        assert!(told.contains(part), "{arguments:?} lacks {part:?}: {told}");
    }
}

#[test]
fn wrong_flags_leave_with_2_and_say_what_would_be_right() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, parts) in [
        (&["generate"][..], &["--prompt <TEXT>|--token-ids"][..]),
        (
            &["generate", "--prompt", "a", "--token-ids", "1"],
            &["cannot be used with"],
        ),
        (
            &["generate", "--token-ids", "1,x"],
            &["'x'", "expected a whole number from 0 to 4294967295"],
        ),
        (
            &["generate", "--prompt", "a", "--max-tokens", "0"],
            &["max_tokens is 0, and must be 1 or more"],
        ),
        (
            &["generate", "--prompt", "a", "--temperature", "-1"],
            &["temperature is -1", "from 0 to 100"],
        ),
        (
            &["generate", "--prompt", "a", "--temperature", "nan"],
            &["temperature is NaN"],
        ),
        (
            &["generate", "--prompt", "a", "--top-p", "0"],
            &["top_p is 0", "above 0 and at most 1"],
        ),
        (
            &["generate", "--prompt", "a", "--window", "0"],
            &["window is 0", "1 or more, or `full`"],
        ),
        (
            &["serve", "--sink", "9", "--window", "8"],
            &["sink 9 is beyond the window 8"],
        ),
        (
            &["serve", "--capacity", "0"],
            &["--capacity", "expected a whole number from 1 up"],
        ),
        (
            &["serve", "--isa", "sse9"],
            &[
                "--isa or KAKEYA_ISA",
                "expected auto, scalar, avx2, avx512 or neon",
            ],
        ),
        (
            &["serve", "--model", "smollm3"],
            &[
                "--model: `smollm3` is not in the model catalogue",
                "smollm2-135m",
            ],
        ),
        (
            &["digest", "--token-ids-file", "f", "--chunks", "7,0"],
            &["--chunks", "expected a whole number from 1 up"],
        ),
        (
            &["bench", "--repeat", "0"],
            &["--repeat", "expected a whole number from 1 up"],
        ),
        (
            &["perplexity", "--file", "f", "--context", "2"],
            &["--context is below 4"],
        ),
        (
            &["serve", "--http", "0.0.0.0:0"],
            &[
                "--http 0.0.0.0:",
                "there are no API keys and no TLS: give --keys, and --tls-cert with --tls-key",
                "`--insecure` serves all the same",
            ],
        ),
        (
            &["serve", "--keys", "no-such.toml"],
            &["--keys: the key file no-such.toml cannot be read"],
        ),
        (&["serve", "--tls-cert", "c.pem"], &["--tls-key <FILE>"]),
        (
            &["serve", "--tls-cert", "c.pem", "--tls-key", "k.pem"],
            &["c.pem cannot be read"],
        ),
        (
            &["serve", "--max-streams", "0"],
            &["--max-streams", "0 is not in 1.."],
        ),
        (
            &["key", "new", "a b"],
            &["the name \"a b\"", "1 to 64 letters"],
        ),
        (&["dance"], &["unrecognized subcommand 'dance'"]),
    ] {
        // Port 0, so that a serve that gets as far as its port does not meet another's.
        let port = if arguments[0] == "serve" {
            &["--bind", "127.0.0.1:0"][..]
        } else {
            &[]
        };
        assert_refused(folder.path(), &[arguments, port].concat(), 2, parts);
    }
}

#[test]
fn wrong_token_files_leave_with_1_and_name_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("words.txt"), "1, 2\n3 four 5\n").expect("written");
    fs::write(folder.path().join("blank.txt"), " \n").expect("written");
    for (file, parts) in [
        (
            "words.txt",
            &["words.txt: line 2, column 3: \"four\" is not a token id"][..],
        ),
        ("blank.txt", &["blank.txt holds no token ids"]),
        ("missing.txt", &["cannot read token ids from missing.txt"]),
    ] {
        assert_refused(
            folder.path(),
            &["digest", "--token-ids-file", file],
            1,
            parts,
        );
    }
}

#[test]
fn a_port_in_use_is_told_before_a_model_is_looked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = held.local_addr().expect("an address").to_string();
    let told = format!("cannot listen on {address}: the port is in use");
    assert_refused(
        folder.path(),
        &["serve", "--bind", &address],
        1,
        &[&told, "choose another port"],
    );
}

#[test]
fn a_missing_model_offline_leaves_with_1_and_the_command_that_gets_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let parts = ["HF_HUB_OFFLINE", "prewarm --model smollm2-135m"];
    assert_refused(folder.path(), &["generate", "--prompt", "a"], 1, &parts);
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("m.gguf"), "not a model").expect("written");
    let parts = ["m.gguf is not a GGUF file"];
    assert_refused(
        folder.path(),
        &["generate", "--model-file", "m.gguf", "--prompt", "a"],
        1,
        &parts,
    );
}

#[test]
fn a_fresh_key_is_a_key_file_that_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let printed = kakeya(folder.path(), &["key", "new", "app"]);
    assert_eq!(printed.status.code(), Some(0));
    fs::write(folder.path().join("keys.toml"), &printed.stdout).expect("written");
    // The port is reached, and refused for what is missing besides.
    let serve = ["serve", "--keys", "keys.toml", "--bind", "0.0.0.0:0"];
    let parts = [
        "--bind 0.0.0.0:",
        "there is no TLS: give --tls-cert with --tls-key",
    ];
    assert_refused(folder.path(), &serve, 2, &parts);
    let text = String::from_utf8(printed.stdout).expect("text");
    fs::write(folder.path().join("keys.toml"), text.clone() + &text).expect("written");
    assert_refused(folder.path(), &serve, 2, &["two keys have the name `app`"]);
}

#[test]
fn help_and_version_are_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"]] {
        let output = kakeya(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn inspect_says_what_a_file_is_that_is_no_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("model.zip"), b"PK\x03\x04rest").expect("a file");
    fs::write(
        path("huge.gguf"),
        [b"GGUF\x03\0\0\0".as_slice(), &[0xff; 16]].concat(),
    )
    .expect("a file");
    for (arguments, code, parts) in [
        (&["inspect"][..], 2, &["<PATH|--model <NAME>>"][..]),
        (
            &["inspect", "a", "--model", "b"],
            2,
            &["cannot be used with"],
        ),
        (
            &["inspect", "a", "--window", "0"],
            2,
            &["--sink and --window", "window is 0"],
        ),
        (
            &["inspect", "--model", "no-such"],
            2,
            &["--model", "no-such"],
        ),
        (&["inspect", "missing.gguf"], 1, &["missing.gguf"]),
        (
            &["inspect", "model.zip"],
            1,
            &["model.zip", "a zip archive", "unpack it"],
        ),
        (
            &["inspect", "huge.gguf"],
            1,
            &["18446744073709551615 tensors", "expected at most 262144"],
        ),
    ] {
        assert_refused(folder.path(), arguments, code, parts);
    }
}

#[test]
fn settings_are_validated_and_each_is_told_with_where_it_comes_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kakeya.toml");
    fs::write(&path, "# ours\ncapacity = 24\nwindow = \"full\"\n").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_kakeya"))
        .args(["config", "--check", "kakeya.toml", "--sink", "8"])
        .current_dir(folder.path())
        .env_remove("KAKEYA_ISA")
        .env("KAKEYA_IDLE_TTL", "60")
        .env("KAKEYA_CAPACTIY", "3")
        .output()
        .expect("the command starts");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}{errors}");
    // The columns are as wide as the longest setting.
    let lines: Vec<String> = told
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "# kakeya.toml is valid",
        "# KAKEYA_CAPACTIY is in the environment, and not a setting: is it KAKEYA_CAPACITY?",
        "capacity = 24 # kakeya.toml:2",
        "window = \"full\" # kakeya.toml:3",
        "idle-ttl = 60 # KAKEYA_IDLE_TTL",
        "sink = 8 # --sink",
        "bind = \"127.0.0.1:50051\" # default",
        "# http # not set",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {told}");
    }
    // What is printed can be read again.
    fs::write(folder.path().join("again.toml"), &told).expect("written");
    let again = kakeya(folder.path(), &["config", "--check", "again.toml"]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
}

#[test]
fn wrong_settings_leave_with_2_and_name_their_place() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.toml"), "\ncapactiy = 3\n").expect("written");
    fs::write(folder.path().join("b.toml"), "sink = 9\nwindow = 8\n").expect("written");
    for command in [
        &["config", "--check"][..],
        &["serve", "--bind", "127.0.0.1:0", "--config"],
    ] {
        for (file, part) in [
            (
                "a.toml",
                "error: a.toml:2: unknown key `capactiy`: is it `capacity`?",
            ),
            ("b.toml", "sink 9 is beyond the window 8"),
        ] {
            assert_refused(folder.path(), &[command, &[file]].concat(), 2, &[part]);
        }
        let missing = [command, &["none.toml"]].concat();
        let part = "cannot read the configuration none.toml";
        assert_refused(folder.path(), &missing, 2, &[part]);
    }
    let memory = ["serve", "--memory-limit", "lots"];
    assert_refused(folder.path(), &memory, 2, &["such as 12GiB"]);
    assert_refused(folder.path(), &["config"], 2, &["--check"]);
}

#[test]
fn a_state_folder_in_use_is_told_before_a_model_is_looked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let held = kakeya_server::state::Folder::open(&folder.path().join("s")).expect("taken");
    assert_refused(
        folder.path(),
        &["serve", "--bind", "127.0.0.1:0", "--state-dir", "s"],
        1,
        &["--state-dir: s is in use by another server"],
    );
    drop(held);
}
