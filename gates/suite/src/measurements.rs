//! Figures that cases observe, for the evidence.

use std::sync::{Mutex, PoisonError};

use thiserror::Error;

/// A figure a case observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// A stable name, unique within the suite.
    pub name: String,
    /// The value, always finite.
    pub value: f64,
    /// The unit, spelled out.
    pub unit: String,
}

/// A figure that would make evidence ambiguous.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum MeasurementError {
    /// A figure that is not a number.
    #[error("measurement `{name}` is {value}, and evidence takes finite numbers only")]
    NotFinite {
        /// The figure's name.
        name: String,
        /// What was measured.
        value: f64,
    },
    /// A second figure under one name.
    #[error("measurement `{0}` was recorded twice")]
    Twice(String),
}

/// The figures of one suite.
#[derive(Debug, Default)]
pub struct Measurements {
    known: Mutex<Vec<Measurement>>,
}

impl Measurements {
    /// Records a figure.
    ///
    /// # Errors
    /// When the value is not finite, or the name is taken.
    pub fn record(&self, name: &str, value: f64, unit: &str) -> Result<(), MeasurementError> {
        let name = name.to_owned();
        if !value.is_finite() {
            return Err(MeasurementError::NotFinite { name, value });
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.iter().any(|known| known.name == name) {
            return Err(MeasurementError::Twice(name));
        }
        known.push(Measurement {
            name,
            value,
            unit: unit.to_owned(),
        });
        Ok(())
    }

    /// The figures recorded so far.
    pub fn all(&self) -> Vec<Measurement> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_finite_and_named_once() {
        let figures = Measurements::default();
        figures.record("logits_compared", 3.0, "values").unwrap();
        for bad in [f64::NAN, f64::INFINITY] {
            let message = figures.record("x", bad, "s").unwrap_err().to_string();
            assert!(message.contains("finite"), "{message}");
        }
        let twice = figures.record("logits_compared", 4.0, "values");
        assert_eq!(
            twice.unwrap_err().to_string(),
            "measurement `logits_compared` was recorded twice"
        );
        assert_eq!(figures.all().len(), 1);
    }
}
