use kakeya_core::{CacheConfig, CachedTokens, Window};

const POLICIES: [(u32, Window); 7] = [
    (0, Window::Sliding(1)),
    (0, Window::Sliding(5)),
    (1, Window::Sliding(1)),
    (2, Window::Sliding(8)),
    (4, Window::Sliding(4)),
    (0, Window::Full),
    (3, Window::Full),
];

#[test]
fn the_record_is_the_cached_positions_of_the_history_however_it_was_chunked() {
    for (sink, window) in POLICIES {
        let config = CacheConfig {
            sink,
            window,
            ..CacheConfig::default()
        };
        for chunk in [1, 2, 3, 7, 8, 11, 60] {
            let mut record = CachedTokens::new(&config);
            let mut history: Vec<u32> = Vec::new();
            let tokens: Vec<u32> = (1000..1060).collect();
            for piece in tokens.chunks(chunk) {
                record.extend(piece);
                history.extend(piece);
                let length = history.len() as u64;
                let expected: Vec<u32> = (0..length)
                    .filter(|position| config.is_cached(*position, length))
                    .map(|position| history[position as usize])
                    .collect();
                assert_eq!(
                    record.iter().collect::<Vec<_>>(),
                    expected,
                    "{config:?} {chunk}"
                );
                assert_eq!(record.len(), config.cached_length(length));
            }
        }
    }
}

#[test]
fn an_empty_append_changes_nothing() {
    let mut record = CachedTokens::new(&CacheConfig::default());
    record.extend(&[]);
    assert!(record.is_empty());
    record.extend(&[7]);
    record.extend(&[]);
    assert!(!record.is_empty());
    assert_eq!(record.iter().collect::<Vec<_>>(), [7]);
}
