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

#[test]
fn names_the_temperature_first_when_both_are_wrong() {
    let sampling = Sampling {
        temperature: -1.0,
        top_p: 2.0,
        ..Sampling::default()
    };
    assert_eq!(
        sampling.validate(),
        Err(SamplingError::Temperature { value: -1.0 })
    );
}
