//! The first suite. A case is a function of the context, named as the rule that it proves.

use harness::suite::{Case, CaseFailure, Suite, ensure_eq, ensure_same_bits};

use crate::Context;
use crate::model::Model;

const ROWS: [[f32; 2]; 4] = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]];

pub fn suite() -> Suite<Context> {
    Suite::new("starter", "rows do not know of each other").case(Case::fast(
        "rows_alone_equal_rows_together",
        |context: &Context| {
            let model = Model::load(&context.model.path).map_err(|error| {
                CaseFailure::violated(format!("the model does not load: {error}"))
            })?;
            let together = model.forward(&ROWS);
            let alone: Vec<_> = ROWS.iter().flat_map(|row| model.forward(&[*row])).collect();
            ensure_same_bits("outputs of four rows", &alone, &together)?;
            let rounded: Vec<_> = together.iter().map(|output| output.round()).collect();
            ensure_eq!(rounded, [0.0, 1.0, 1.0, 0.0], "exclusive or");
            context.measurements.record("rows", ROWS.len() as f64, "rows")?;
            Ok(())
        },
    ))
}
