use kakeya_core::GeneratedToken;

#[test]
fn a_bare_id_is_a_token_without_log_probabilities() {
    let expected = GeneratedToken {
        id: 7,
        logprobs: None,
    };
    assert_eq!(GeneratedToken::from(7), expected);
}
