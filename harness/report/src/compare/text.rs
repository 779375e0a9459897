//! A comparison as text, in Markdown.

use super::{Comparison, Run};
use crate::escape::{code, markdown};
use crate::tables::{figure, short, table};

impl Comparison {
    /// The comparison as Markdown, which reads as plain text too.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = "## Two runs compared\n\n".to_owned();
        text.push_str(&table(
            &[
                "",
                "run",
                "platform",
                "tier",
                "started",
                "commit",
                "suites took",
            ],
            &[row("A", &self.a), row("B", &self.b)],
            "",
        ));
        if !self.differences.is_empty() {
            let rows: Vec<_> = self
                .differences
                .iter()
                .map(|each| vec![each.what.to_owned(), markdown(&each.a), markdown(&each.b)])
                .collect();
            text.push_str(
                "\n**The runs are not alike.** Ratios below may say more of the hosts than of the change.\n\n",
            );
            text.push_str(&table(&["", "A", "B"], &rows, ""));
        }
        text.push_str(&self.cases_text());
        text.push_str(&self.figures_text());
        text
    }

    fn cases_text(&self) -> String {
        let mut rows = Vec::new();
        for change in &self.changed {
            rows.push(vec![code(&change.case), change.a.clone(), change.b.clone()]);
        }
        for case in &self.lost {
            rows.push(vec![
                code(&case.case),
                case.outcome.clone(),
                "absent".to_owned(),
            ]);
        }
        for case in &self.gained {
            rows.push(vec![
                code(&case.case),
                "absent".to_owned(),
                case.outcome.clone(),
            ]);
        }
        format!(
            "\n### Cases\n\n{} ended in the same way, {} in another, {} are in A alone, {} in B alone.\n\n{}",
            self.unchanged,
            self.changed.len(),
            self.lost.len(),
            self.gained.len(),
            table(&["case", "A", "B"], &rows, "No case differs.")
        )
    }

    fn figures_text(&self) -> String {
        let ratios: Vec<_> = self
            .measurements
            .iter()
            .map(|each| {
                let ratio = each.ratio.map_or("none".to_owned(), figure);
                let inside = if each.inside { "inside" } else { "**outside**" };
                vec![
                    code(&each.name),
                    markdown(&each.unit),
                    figure(each.a),
                    figure(each.b),
                    ratio,
                    inside.to_owned(),
                ]
            })
            .collect();
        let singles: Vec<_> = self
            .measured_once
            .iter()
            .map(|each| {
                vec![
                    code(&each.name),
                    markdown(&each.unit),
                    figure(each.value),
                    each.of.to_string(),
                ]
            })
            .collect();
        let mut text = format!(
            "\n### Figures\n\nThe noise band is {}%: inside it, two figures are not told apart. \
             Outside of it, run both again before believing it.\n\n{}",
            figure(self.noise_percent),
            table(
                &["figure", "unit", "A", "B", "B/A", "noise band"],
                &ratios,
                "The runs share no figure."
            )
        );
        if !singles.is_empty() {
            text.push('\n');
            text.push_str(&table(
                &["figure of one run", "unit", "value", "run"],
                &singles,
                "",
            ));
        }
        text
    }
}

fn row(name: &str, run: &Run) -> Vec<String> {
    let commit = run.commit.as_deref().map(short);
    vec![
        name.to_owned(),
        code(&run.run_id),
        markdown(&run.platform),
        markdown(&run.tier),
        format!("{:.0}", run.started),
        commit.map_or("none".to_owned(), |commit| code(&commit)),
        format!("{} s", figure(run.seconds)),
    ]
}
