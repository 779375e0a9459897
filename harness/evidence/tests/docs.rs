//! `docs/evidence.md` holds the schema and the codes as the code has them. With `KAKEYA_WRITE_DOCS=1` set, the test
//! writes them there instead.

use std::fs;
use std::path::Path;

use kakeya_evidence::docs;

/// Puts `body` between two marks.
fn with_section(page: &str, name: &str, body: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = page.split_once(&begin).expect("the page has the mark");
    let (_, after) = rest.split_once(&end).expect("the page has the end mark");
    format!("{before}{begin}{body}{end}{after}")
}

#[test]
fn the_page_has_the_schema_and_the_codes_of_the_code() {
    // Cargo runs a test in the folder of its package.
    let path = Path::new("../../docs/evidence.md");
    let page = fs::read_to_string(path).unwrap();
    let schema = format!("```json\n{}\n```\n", docs::schema());
    let wanted = with_section(&page, "schema", &schema);
    let wanted = with_section(&wanted, "codes", &docs::codes());
    if std::env::var_os("KAKEYA_WRITE_DOCS").is_some() {
        fs::write(path, wanted).unwrap();
    } else {
        assert!(
            page == wanted,
            "docs/evidence.md is stale; KAKEYA_WRITE_DOCS=1 cargo test -p kakeya-evidence --test docs writes it"
        );
    }
}

#[test]
fn a_record_is_what_the_schema_describes() {
    let schema: serde_json::Value = serde_json::from_str(&docs::schema()).unwrap();
    let required = |pointer: &str| schema.pointer(pointer).unwrap().as_array().unwrap().len();
    assert_eq!(required("/required"), 4);
    assert!(required("/$defs/Evidence/required") >= 25);
    assert_eq!(
        schema.pointer("/$defs/Evidence/additionalProperties"),
        Some(&serde_json::Value::Bool(false))
    );
}
