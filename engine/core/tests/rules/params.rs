use kakeya_core::params::{
    MAX_LOGIT_BIASES, MAX_STOP_LENGTH, MAX_STOP_SEQUENCES, MAX_TOP_LOGPROBS,
};
use kakeya_core::{
    GenerateParams, InvalidArgument, LogitBiasError, Sampling, SamplingError, StopError,
};

fn plain() -> GenerateParams {
    GenerateParams::new(1, Sampling::default())
}

fn biased(logit_bias: Vec<(u32, f32)>) -> GenerateParams {
    GenerateParams {
        logit_bias,
        ..plain()
    }
}

fn stopping(stop: Vec<Vec<u32>>) -> GenerateParams {
    GenerateParams { stop, ..plain() }
}

fn refused(params: &GenerateParams) -> InvalidArgument {
    params.validate().unwrap_err()
}

#[test]
fn new_parameters_have_every_option_off() {
    let expected = GenerateParams {
        max_tokens: 1,
        sampling: Sampling::default(),
        logit_bias: vec![],
        stop: vec![],
        top_logprobs: None,
        constraint: None,
    };
    assert_eq!(plain(), expected);
    assert_eq!(expected.validate(), Ok(()));
    assert_eq!(expected.validate_tokens(0), Ok(()));
}

#[test]
fn takes_the_ends_of_every_range() {
    let biases = |count: u32| (0..count).map(|token| (token, 0.5)).collect();
    for params in [
        biased(vec![(u32::MAX, -100.0), (0, 100.0), (7, 0.0)]),
        biased(biases(MAX_LOGIT_BIASES as u32)),
        stopping(vec![vec![1; MAX_STOP_LENGTH], vec![1]]),
        stopping(vec![vec![1]; MAX_STOP_SEQUENCES]),
    ] {
        assert_eq!(params.validate(), Ok(()));
    }
    for top_logprobs in [None, Some(0), Some(MAX_TOP_LOGPROBS)] {
        let params = GenerateParams {
            top_logprobs,
            ..plain()
        };
        assert_eq!(params.validate(), Ok(()));
    }
}

#[test]
fn refuses_a_bias_out_of_range_and_names_it() {
    for value in [100.1, -100.1, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let error = refused(&biased(vec![(4, 1.0), (9, value)]));
        assert_eq!(
            error.to_string(),
            format!("logit_bias of token 9 is {value}, and must be from -100 to 100")
        );
    }
}

#[test]
fn refuses_two_biases_for_one_token_wherever_they_stand() {
    for biases in [
        vec![(3, 1.0), (3, 1.0)],
        vec![(9, 1.0), (3, 1.0), (5, 2.0), (3, -1.0)],
    ] {
        let error = refused(&biased(biases));
        assert_eq!(error, LogitBiasError::Duplicate { token: 3 }.into());
        assert_eq!(error.to_string(), "logit_bias names token 3 twice");
    }
}

#[test]
fn refuses_more_biases_than_there_may_be() {
    let count = MAX_LOGIT_BIASES + 1;
    let error = refused(&biased(
        (0..count as u32).map(|token| (token, 1.0)).collect(),
    ));
    assert_eq!(error, LogitBiasError::TooMany { count }.into());
    assert_eq!(
        error.to_string(),
        "logit_bias has 1025 entries, and may have at most 1024"
    );
}

#[test]
fn refuses_stop_sequences_that_are_too_many_too_long_or_empty() {
    let count = MAX_STOP_SEQUENCES + 1;
    for (stop, expected, text) in [
        (
            vec![vec![1]; count],
            StopError::TooMany { count },
            "17 stop sequences are given, and at most 16 may be",
        ),
        (
            vec![vec![1], vec![]],
            StopError::Length {
                index: 1,
                length: 0,
            },
            "stop sequence 1 has 0 tokens, and must have from 1 to 64",
        ),
        (
            vec![vec![1; MAX_STOP_LENGTH + 1]],
            StopError::Length {
                index: 0,
                length: 65,
            },
            "stop sequence 0 has 65 tokens, and must have from 1 to 64",
        ),
    ] {
        let error = refused(&stopping(stop));
        assert_eq!(error, expected.into());
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn refuses_more_log_probabilities_than_are_given() {
    let params = GenerateParams {
        top_logprobs: Some(MAX_TOP_LOGPROBS + 1),
        ..plain()
    };
    assert_eq!(
        refused(&params).to_string(),
        "top_logprobs is 21, and must be from 0 to 20"
    );
}

#[test]
fn names_the_first_of_several_that_are_wrong() {
    let mut params = GenerateParams {
        max_tokens: 0,
        sampling: Sampling {
            temperature: -1.0,
            ..Sampling::default()
        },
        logit_bias: vec![(1, 101.0)],
        stop: vec![vec![]],
        top_logprobs: Some(99),
        constraint: None,
    };
    assert_eq!(refused(&params), InvalidArgument::ZeroMaxTokens);
    params.max_tokens = 1;
    let cold = SamplingError::Temperature { value: -1.0 };
    assert_eq!(refused(&params), cold.into());
    params.sampling = Sampling::default();
    let token = 1;
    let value = 101.0;
    assert_eq!(
        refused(&params),
        LogitBiasError::Value { token, value }.into()
    );
    params.logit_bias.clear();
    let (index, length) = (0, 0);
    assert_eq!(refused(&params), StopError::Length { index, length }.into());
    params.stop.clear();
    let value = 99;
    assert_eq!(refused(&params), InvalidArgument::TopLogprobs { value });
}

#[test]
fn refuses_tokens_outside_the_vocabulary_wherever_they_are_named() {
    let vocabulary = 100;
    let last = GenerateParams {
        logit_bias: vec![(99, 1.0)],
        stop: vec![vec![99]],
        ..plain()
    };
    assert_eq!(last.validate_tokens(vocabulary), Ok(()));
    let bias = biased(vec![(99, 1.0), (100, 1.0)]);
    let error = bias.validate_tokens(vocabulary).unwrap_err();
    let token = 100;
    assert_eq!(
        error,
        LogitBiasError::OutOfVocabulary { token, vocabulary }.into()
    );
    assert_eq!(
        error.to_string(),
        "logit_bias names token 100, which is outside the vocabulary of 100"
    );
    let error = stopping(vec![vec![1], vec![1, 100]]).validate_tokens(vocabulary);
    assert_eq!(
        error.unwrap_err().to_string(),
        "stop sequence 1 has token 100, which is outside the vocabulary of 100"
    );
}
