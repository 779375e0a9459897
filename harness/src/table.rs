//! Tables for people.

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use kakeya_evidence::policy::Check;

/// A table with a head.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(head.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// What a platform asks beside what the host is.
pub fn checks(checks: &[Check]) -> String {
    let row = |check: &Check| {
        vec![
            check.fact.as_str().to_owned(),
            check.wanted.clone(),
            check.found.clone(),
            if check.ok { "ok" } else { "MISMATCH" }.to_owned(),
        ]
    };
    table(
        &["fact", "platform asks", "this host", ""],
        checks.iter().map(row),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kakeya_evidence::policy::platform::Fact;

    #[test]
    fn each_row_says_what_is_asked_and_what_is_there() {
        let rows = [
            Check {
                fact: Fact::Chip,
                wanted: "Apple M4".into(),
                found: "AMD EPYC".into(),
                ok: false,
            },
            Check {
                fact: Fact::Memory,
                wanted: "3 GiB or more".into(),
                found: "23.4 GiB".into(),
                ok: true,
            },
        ];
        let expected = "\
┌────────┬───────────────┬───────────┬──────────┐
│ fact   ┆ platform asks ┆ this host ┆          │
╞════════╪═══════════════╪═══════════╪══════════╡
│ chip   ┆ Apple M4      ┆ AMD EPYC  ┆ MISMATCH │
│ memory ┆ 3 GiB or more ┆ 23.4 GiB  ┆ ok       │
└────────┴───────────────┴───────────┴──────────┘";
        assert_eq!(checks(&rows), expected);
    }
}
