use kakeya_core::{Sampling, SamplingError};

#[test]
fn the_default_is_greedy_and_valid() {
    let default = Sampling::default();
    assert_eq!(
        default,
        Sampling {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            seed: None
        }
    );
    assert!(default.is_greedy());
    assert_eq!(default.validate(), Ok(()));
}

#[test]
fn takes_the_ends_of_every_range() {
    for temperature in [0.0, -0.0, f32::MIN_POSITIVE, 1.0, 100.0] {
        let sampling = Sampling {
            temperature,
            ..Sampling::default()
        };
        assert_eq!(sampling.validate(), Ok(()), "{temperature}");
        assert_eq!(sampling.is_greedy(), temperature == 0.0);
    }
    for top_p in [f32::from_bits(1), 0.5, 1.0] {
        assert_eq!(
            Sampling {
                top_p,
                ..Sampling::default()
            }
            .validate(),
            Ok(()),
            "{top_p}"
        );
    }
    let most = Sampling {
        top_k: u32::MAX,
        seed: Some(u64::MAX),
        ..Sampling::default()
    };
    assert_eq!(most.validate(), Ok(()));
}

#[test]
fn refuses_a_temperature_out_of_range_and_names_it() {
    for temperature in [-0.1, 100.1, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let error = Sampling {
            temperature,
            ..Sampling::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("temperature is {temperature}, and must be from 0 to 100")
        );
    }
}

#[test]
fn refuses_a_top_p_out_of_range_and_names_it() {
    for top_p in [0.0, -0.0, -0.5, 1.000001, f32::INFINITY, f32::NAN] {
        let error = Sampling {
            top_p,
            ..Sampling::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("top_p is {top_p}, and must be above 0 and at most 1")
        );
    }
}

/// A setting that was added to temperature and top_p: how to set it, its ends, what is beyond them, and the text.
struct Rule {
    with: fn(f32) -> Sampling,
    taken: &'static [f32],
    refused: &'static [f32],
    text: &'static str,
}

const RULES: [Rule; 4] = [
    Rule {
        with: |min_p| Sampling { min_p, ..off() },
        taken: &[0.0, -0.0, 0.5, 1.0],
        refused: &[-0.1, 1.000001, f32::INFINITY, f32::NAN],
        text: "min_p is {}, and must be from 0 to 1",
    },
    Rule {
        with: |presence_penalty| Sampling {
            presence_penalty,
            ..off()
        },
        taken: &[-2.0, 0.0, 2.0],
        refused: &[-2.000001, 2.000001, f32::NEG_INFINITY, f32::NAN],
        text: "presence_penalty is {}, and must be from -2 to 2",
    },
    Rule {
        with: |frequency_penalty| Sampling {
            frequency_penalty,
            ..off()
        },
        taken: &[-2.0, 0.0, 2.0],
        refused: &[-2.000001, 2.000001, f32::INFINITY, f32::NAN],
        text: "frequency_penalty is {}, and must be from -2 to 2",
    },
    Rule {
        with: |repetition_penalty| Sampling {
            repetition_penalty,
            ..off()
        },
        taken: &[f32::MIN_POSITIVE, 0.5, 1.0, 10.0],
        refused: &[0.0, -0.0, -1.0, 10.00001, f32::INFINITY, f32::NAN],
        text: "repetition_penalty is {}, and must be above 0 and at most 10",
    },
];

const fn off() -> Sampling {
    Sampling {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        repetition_penalty: 1.0,
        seed: None,
    }
}

#[test]
fn min_p_and_each_penalty_take_the_ends_of_their_range_and_name_what_is_beyond() {
    for Rule {
        with,
        taken,
        refused,
        text,
    } in RULES
    {
        for value in taken {
            assert_eq!(with(*value).validate(), Ok(()), "{text}: {value}");
        }
        for value in refused {
            let error = with(*value).validate().unwrap_err();
            assert_eq!(error.to_string(), text.replace("{}", &value.to_string()));
        }
    }
}

#[test]
fn names_the_first_of_several_that_are_wrong() {
    let mut sampling = Sampling {
        temperature: -1.0,
        top_p: 2.0,
        min_p: 3.0,
        presence_penalty: 4.0,
        frequency_penalty: 5.0,
        repetition_penalty: 60.0,
        ..Sampling::default()
    };
    let mut refused = |right: fn(&mut Sampling)| {
        let error = sampling.validate();
        right(&mut sampling);
        error
    };
    for (right, expected) in [
        (
            (|s| s.temperature = 1.0) as fn(&mut Sampling),
            SamplingError::Temperature { value: -1.0 },
        ),
        (|s| s.top_p = 1.0, SamplingError::TopP { value: 2.0 }),
        (|s| s.min_p = 1.0, SamplingError::MinP { value: 3.0 }),
        (
            |s| s.presence_penalty = 1.0,
            SamplingError::PresencePenalty { value: 4.0 },
        ),
        (
            |s| s.frequency_penalty = 1.0,
            SamplingError::FrequencyPenalty { value: 5.0 },
        ),
        (
            |s| s.repetition_penalty = 1.0,
            SamplingError::RepetitionPenalty { value: 60.0 },
        ),
    ] {
        assert_eq!(refused(right), Err(expected));
    }
    assert_eq!(sampling.validate(), Ok(()));
}
