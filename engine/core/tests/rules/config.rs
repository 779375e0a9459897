use kakeya_core::{CacheConfig, ConfigError, KvElement, PositionPolicy, Window};

fn sliding(sink: u32, window: u32) -> CacheConfig {
    CacheConfig {
        sink,
        window: Window::Sliding(window),
        ..CacheConfig::default()
    }
}

fn full(sink: u32) -> CacheConfig {
    CacheConfig {
        sink,
        window: Window::Full,
        ..CacheConfig::default()
    }
}

#[test]
fn the_default_is_four_sinks_and_a_window_of_1024_with_streaming_positions() {
    let config = CacheConfig::default();
    assert_eq!(config, sliding(4, 1024));
    assert_eq!(config.positions, PositionPolicy::Streaming);
    assert_eq!(config.validate(), Ok(()));
}

#[test]
fn refuses_a_window_of_zero() {
    assert_eq!(sliding(0, 0).validate(), Err(ConfigError::ZeroWindow));
}

#[test]
fn refuses_more_sinks_than_window_and_takes_as_many() {
    assert_eq!(
        sliding(9, 8).validate(),
        Err(ConfigError::SinkBeyondWindow { sink: 9, window: 8 })
    );
    assert_eq!(sliding(8, 8).validate(), Ok(()));
}

#[test]
fn refuses_a_sum_that_overflows_and_takes_the_largest_that_does_not() {
    let (sink, window) = (u32::MAX / 2 + 1, u32::MAX / 2 + 1);
    assert_eq!(
        sliding(sink, window).validate(),
        Err(ConfigError::TooLong { sink, window })
    );
    assert_eq!(sliding(sink - 1, window).validate(), Ok(()));
}

#[test]
fn takes_any_number_of_sinks_with_a_full_window() {
    assert_eq!(full(u32::MAX).validate(), Ok(()));
}

#[test]
fn cached_length_is_the_history_up_to_sinks_plus_window() {
    let config = sliding(2, 8);
    for (history, cached) in [(0, 0), (1, 1), (9, 9), (10, 10), (11, 10), (u64::MAX, 10)] {
        assert_eq!(config.cached_length(history), cached, "history {history}");
    }
    assert_eq!(full(2).cached_length(u64::MAX), u64::MAX);
}

#[test]
fn cached_limit_is_counted_beyond_32_bits_and_absent_with_a_full_window() {
    assert_eq!(
        sliding(u32::MAX, u32::MAX).cached_limit(),
        Some(2 * u64::from(u32::MAX))
    );
    assert_eq!(full(0).cached_limit(), None);
}

#[test]
fn the_cached_positions_are_the_sinks_and_the_last_window_and_as_many_as_the_cached_length() {
    for (sink, window) in [(0, 1), (0, 3), (1, 1), (2, 8), (4, 5)] {
        let config = sliding(sink, window);
        for history in 0..40u64 {
            let cached: Vec<u64> = (0..50).filter(|p| config.is_cached(*p, history)).collect();
            let expected: Vec<u64> = (0..history)
                .filter(|p| *p < u64::from(sink) || p + u64::from(window) >= history)
                .collect();
            assert_eq!(
                cached, expected,
                "sink {sink} window {window} history {history}"
            );
            assert_eq!(cached.len() as u64, config.cached_length(history));
        }
    }
}

#[test]
fn a_full_window_caches_every_position_there_is() {
    assert!((0..7).all(|position| full(2).is_cached(position, 7)));
    assert!(!full(2).is_cached(7, 7));
}

#[test]
fn settings_read_back_as_they_are_written() {
    for window in [Window::Full, Window::Sliding(1024)] {
        assert_eq!(window.to_string().parse(), Ok(window));
    }
    for positions in [PositionPolicy::Streaming, PositionPolicy::Global] {
        assert_eq!(positions.to_string().parse(), Ok(positions));
    }
    for element in [KvElement::F16, KvElement::F32, KvElement::Int8] {
        assert_eq!(element.to_string().parse(), Ok(element));
    }
}

#[test]
fn a_setting_that_cannot_be_read_says_what_would_have_been() {
    let window = "-1".parse::<Window>().unwrap_err();
    assert_eq!(
        window.to_string(),
        "window `-1` is not a number of positions or `full`"
    );
    let positions = "local".parse::<PositionPolicy>().unwrap_err();
    assert_eq!(
        positions.to_string(),
        "positions `local` is not `streaming` or `global`"
    );
    let element = "f64".parse::<KvElement>().unwrap_err();
    assert_eq!(
        element.to_string(),
        "kv element `f64` is not `f16`, `f32` or `int8`"
    );
}

#[test]
fn a_vector_has_two_bytes_or_four_an_element_or_one_and_two_for_each_block() {
    let bytes = |element: KvElement, dim| element.vector_bytes(dim);
    assert_eq!(bytes(KvElement::F16, 64), Some(128));
    assert_eq!(bytes(KvElement::F32, 64), Some(256));
    assert_eq!(bytes(KvElement::Int8, 64), Some(68));
    assert_eq!(bytes(KvElement::Int8, 33), Some(37));
    for element in [KvElement::F16, KvElement::F32, KvElement::Int8] {
        assert_eq!(bytes(element, usize::MAX), None);
    }
    assert_eq!(KvElement::default(), KvElement::F16);
}
