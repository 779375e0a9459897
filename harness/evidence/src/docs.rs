//! The parts of `docs/evidence.md` that follow from the code.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;

use crate::statement::Statement;
use crate::verify::{Page, Waivable};

/// The JSON Schema of a record's file, in draft 2020-12.
#[must_use]
pub fn schema() -> String {
    // What is written, not what could be read: every field is written, as null where there is nothing to say.
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<Statement>()
        .to_value();
    // In one order, whether or not objects keep theirs.
    schema.sort_all_objects();
    serde_json::to_string_pretty(&schema).expect("a schema is made of texts and lists")
}

/// Every code with its page, as Markdown.
#[must_use]
pub fn codes() -> String {
    let mut text = String::new();
    let mut group = "";
    for page in Page::ALL {
        if page.group != group {
            group = page.group;
            let _ = writeln!(text, "### {group}\n");
        }
        let waivable = match page.waivable {
            Waivable::Never => "",
            Waivable::Whole => " Can be waived for a platform.",
            Waivable::Each => " Can be waived, one by one.",
        };
        let _ = writeln!(
            text,
            "**{}: {}.** {}{waivable}\n",
            page.code, page.title, page.text
        );
    }
    text
}
