//! The page in a real browser: it loads without a word on the console, and fits a phone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::SignedDuration;
use kakeya_evidence::policy::{Waiver, Waivers};
use kakeya_evidence::{Evidence, Measurement, Outcome};
use kakeya_report::html::{Inputs, page};
use kakeya_report::{Collection, Entry, Older, Unread};

#[path = "../../evidence/tests/support/good.rs"]
#[rustfmt::skip]
mod good;

/// The width of a common phone, in CSS pixels.
const PHONE: u32 = 390;

/// Sends what a script can see of the page to the document around it.
const PROBE: &str = "<script>addEventListener('load', () => {\
    const charts = [...document.querySelectorAll('svg polyline')];\
    parent.postMessage({\
        widths: document.documentElement.scrollWidth + ' ' + innerWidth,\
        page: getComputedStyle(document.body).backgroundColor,\
        charts: [...new Set(charts.map(line => getComputedStyle(line).stroke))].join(';'),\
    }, '*');\
    })</script></body>";

/// The document around the page. A window is never narrower than 500 pixels, so the phone is a frame. What the page
/// says of itself goes into attributes, where `--dump-dom` shows it.
fn around(page: &str) -> String {
    format!(
        "<!doctype html><meta charset=utf-8><meta name=color-scheme content='light dark'>\
         <script>onmessage = event => Object.assign(document.documentElement.dataset, event.data)</script>\
         <iframe src={page} width={PHONE} height=844 style='border: 0'></iframe>"
    )
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())
}

/// Runs of two platforms over some weeks, with something in every section.
fn collection() -> Collection {
    let mut collection = Collection::default();
    for number in (0..14_u32).rev() {
        let mut evidence = good::good();
        evidence.run_id = format!("9b2f4c1e0000400080000000{number:08x}");
        evidence.started += SignedDuration::from_hours(31 * i64::from(number));
        if number % 5 == 4 {
            evidence.platform = "mac-m4".into();
            evidence.host.chip = Some("Apple M4".into());
            evidence.cases[1].outcome = Outcome::Failed;
        }
        figures(&mut evidence, number);
        grid(&mut evidence);
        if number % 4 != 1 {
            evidence.long_session = None;
        } else {
            buckets(&mut evidence);
        }
        collection.entries.push(Entry {
            name: format!("{}.json", kakeya_evidence::canonical::stem(&evidence)),
            evidence,
            has_envelope: number % 2 == 0,
        });
    }
    collection.unread.push(Unread {
        name: "linux-cpu-1767323045-broken.json".into(),
        reason: "the JSON ends after 17 bytes, in the middle of a value".into(),
    });
    collection.older.push(Older {
        name: "linux-cpu-1795420295-47f4c2f2006946379095614e70c14939.json".into(),
        platform: Some("linux-cpu".into()),
        started: "2026-01-02T04:10:05Z".parse().ok(),
    });
    collection
}

fn figures(evidence: &mut Evidence, number: u32) {
    let wave = f64::from(number * 37 % 11);
    for (name, value) in [
        ("decode_64_at_0", 280.0 + wave),
        ("prefill_512_at_2048", 437.0 - 2.0 * wave),
        ("decode_of_8_sessions_batched", 526.0 + 9.0 * wave),
    ] {
        evidence.measurements.push(Measurement {
            suite: "perf".into(),
            name: name.into(),
            value,
            unit: "tokens/s".into(),
        });
    }
}

fn grid(evidence: &mut Evidence) {
    let like = evidence.cases[0].clone();
    for chunking in [
        "prime_chunks_equal_one_chunk",
        "sinks_over_more_than_a_segment",
    ] {
        for history in ["prose", "code", "random"] {
            let mut case = like.clone();
            case.name = format!("{chunking}.{history}");
            case.history = Some(history.into());
            evidence.cases.push(case);
        }
    }
}

fn buckets(evidence: &mut Evidence) {
    let session = evidence.long_session.as_mut().unwrap();
    let like = session.buckets[0].clone();
    session.buckets = (0..24_u32)
        .map(|index| {
            let mut bucket = like.clone();
            let begin = SignedDuration::from_mins(10 * i64::from(index));
            bucket.from = like.from + begin;
            bucket.to = bucket.from + SignedDuration::from_mins(10);
            bucket.turn_p50_seconds = 0.5 + f64::from(index * 7 % 5) / 40.0;
            bucket.turn_p95_seconds = bucket.turn_p50_seconds * 1.4;
            bucket.resident_bytes_peak += u64::from(index * 13 % 7) << 20;
            bucket
        })
        .collect();
}

fn waivers() -> Waivers {
    Waivers {
        waiver: vec![Waiver {
            id: "W-001".into(),
            code: "EV-046".into(),
            platform: "linux-cpu".into(),
            subject: "isa::neon_has_the_golden_digest_under_emulation".into(),
            reason: "no emulator on this host".into(),
            owner: "someone@example.org".into(),
            granted: "2026-01-01".parse().unwrap(),
            expires: "2026-02-01".parse().unwrap(),
        }],
    }
}

/// Loads a page, and returns the document and what the browser wrote to its log.
fn load(browser: &Path, page: &Path, scheme: &str) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
        ])
        .args([
            "--enable-logging=stderr",
            "--dump-dom",
            "--virtual-time-budget=5000",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("--window-size=1440,900")
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// What the probe left in an attribute.
fn seen<'a>(document: &'a str, name: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("data-{name}=\"")).unwrap();
    rest.split_once('"').unwrap().0
}

#[test]
fn the_page_loads_without_a_word_fits_a_phone_and_follows_the_colour_scheme() {
    let collection = collection();
    let text = page(&Inputs {
        collection: &collection,
        gates: &good::policy().gates,
        waivers: &waivers(),
        folder: "platform-tests",
    });
    // The files stay where they are made, for whoever wants to look.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let plain = folder.join("report.html");
    fs::write(&plain, &text).unwrap();
    // The copy that is probed allows the script that the page itself forbids.
    let probed = folder.join("report-probed.html");
    let copy = text
        .replace(
            "default-src 'none'",
            "default-src 'none'; script-src 'unsafe-inline'",
        )
        .replace("</body>", PROBE);
    fs::write(&probed, copy).unwrap();
    let phone = folder.join("report-phone.html");
    fs::write(&phone, around("report-probed.html")).unwrap();

    let Some(browser) = browser() else {
        println!("skipped: there is no chromium, chromium-browser or google-chrome in PATH");
        return;
    };
    let (document, log) = load(&browser, &plain, "1");
    assert!(document.contains("Kakeya: evidence"), "{document}");
    assert!(!log.contains("CONSOLE"), "{log}");

    let mut looks = Vec::new();
    for scheme in ["0", "1"] {
        let (document, log) = load(&browser, &phone, scheme);
        assert!(!log.contains("CONSOLE"), "{log}");
        let (content, window) = seen(&document, "widths").split_once(' ').unwrap();
        assert_eq!(
            window,
            PHONE.to_string(),
            "the frame has the width of a phone"
        );
        assert!(content.parse::<u32>().unwrap() <= PHONE, "{content}");
        looks.push((
            seen(&document, "page").to_owned(),
            seen(&document, "charts").to_owned(),
        ));
    }
    assert_ne!(
        looks[0].0, looks[1].0,
        "the page is dark in the one and light in the other"
    );
    assert_ne!(looks[0].1, looks[1].1, "and so are its charts");
}
