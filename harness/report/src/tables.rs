//! Tables of Markdown, and how figures are written in them.

/// A table whose cells are Markdown already, or a sentence where it would have no row.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>], none: &str) -> String {
    if rows.is_empty() {
        return format!("{none}\n");
    }
    let mut text = format!(
        "| {} |\n|{}\n",
        headings.join(" | "),
        " --- |".repeat(headings.len())
    );
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}

/// A figure with four significant digits, or all digits before the point.
pub(crate) fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "not a number".to_owned();
    }
    let size = value.abs();
    if value == 0.0 || (1e-3..1e9).contains(&size) {
        let before = size.max(1.0).log10().floor() as usize;
        let text = format!(
            "{value:.*}",
            3_usize
                .saturating_sub(before)
                .max(usize::from(size < 1.0) * 4)
        );
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    } else {
        format!("{value:.3e}")
    }
}

/// A number of bytes, in the unit that suits it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} bytes");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", figure(value), UNITS[unit])
}

/// The first digits of a digest or a commit: enough to find it by.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits_that_say_something() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (0.01234, "0.0123"),
            (1.23456, "1.235"),
            (12.3456, "12.35"),
            (761.90339, "761.9"),
            (49_152.0, "49152"),
            (100.0, "100"),
            (-2.5, "-2.5"),
            (3.733e-5, "3.733e-5"),
            (1e12, "1.000e12"),
            (f64::NAN, "not a number"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn bytes_have_the_unit_that_suits_them() {
        for (count, text) in [
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (98_362_432, "93.81 MiB"),
            (8 << 30, "8 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_table_without_rows_is_a_sentence() {
        assert_eq!(table(&["a"], &[], "Nothing."), "Nothing.\n");
        let rows = [vec!["1".to_owned(), "2".to_owned()]];
        assert_eq!(
            table(&["a", "b"], &rows, ""),
            "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
        );
    }

    #[test]
    fn a_digest_is_known_by_its_beginning() {
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
    }
}
