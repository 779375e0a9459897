//! When a request is repeated, and after how long: GitHub's rules for rate limits, and ours for what fails by chance.
//!
//! GitHub: <https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api>, "Handle rate limit
//! errors appropriately". A limit is a 403 or a 429; `retry-after` says how long; else, where `x-ratelimit-remaining` is
//! 0, `x-ratelimit-reset` says until when; else it is a minute. A 503 may have a `retry-after` as well. Whatever is asked,
//! the next try is a second later at least, and twice as long after each limit more: a clock that is ahead, or a server that
//! is wrong about the time, must not make us hammer.

use std::time::Duration;

use http::HeaderMap;

/// How often rate limits are waited for in one request.
pub const LIMITS: u32 = 5;
/// The least wait for the first of them; twice as long for each next.
const LEAST: Duration = Duration::from_secs(1);
/// What a rate limit without a time asks for.
const A_MINUTE: Duration = Duration::from_secs(60);
/// How often a request is tried that fails by chance.
pub const ATTEMPTS: u32 = 4;
/// How long before the second attempt; twice as long before each next.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The pause before an attempt; the second is number 2.
pub fn pause(attempt: u32) -> Duration {
    FIRST_PAUSE * 2_u32.pow(attempt.saturating_sub(2).min(8))
}

/// Whether a status says that the same request may succeed in a moment.
pub fn is_passing(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

/// How long to wait before a request is sent again that has met as many limits before, when one asks for `wait`.
pub fn patient(wait: Duration, before: u32) -> Duration {
    wait.max(LEAST * 2_u32.pow(before.min(LIMITS)))
}

/// How long a rate limit asks to wait; none where the answer is no rate limit. `now` is in seconds since 1970.
pub fn rate_limit(status: u16, headers: &HeaderMap, message: &str, now: i64) -> Option<Duration> {
    if !matches!(status, 403 | 429 | 503) {
        return None;
    }
    let number =
        |name: &str| -> Option<i64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
    if let Some(seconds) = number("retry-after") {
        return Some(seconds_of(seconds));
    }
    if status == 503 {
        return None;
    }
    if number("x-ratelimit-remaining") == Some(0) {
        // A second more, since clocks differ.
        let until = number("x-ratelimit-reset")
            .map(|reset| seconds_of(reset.saturating_sub(now).saturating_add(1)));
        return Some(until.unwrap_or(A_MINUTE));
    }
    let said = message.to_ascii_lowercase();
    (status == 429 || said.contains("secondary rate limit")).then_some(A_MINUTE)
}

fn seconds_of(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_rate_limit_is_told_from_a_lack_of_permission() {
        let wait = |status, of: &[(&'static str, &str)], message| {
            rate_limit(status, &headers(of), message, 1000).map(|wait| wait.as_secs())
        };
        assert_eq!(wait(403, &[("retry-after", "7")], ""), Some(7));
        assert_eq!(wait(429, &[("retry-after", "7")], ""), Some(7));
        let spent = [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1030"),
        ];
        assert_eq!(wait(403, &spent, ""), Some(31));
        assert_eq!(wait(403, &spent[..1], ""), Some(60));
        let past = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "5")];
        assert_eq!(wait(429, &past, ""), Some(0));
        assert_eq!(wait(429, &[], ""), Some(60));
        let secondary = "You have exceeded a secondary rate limit.";
        assert_eq!(wait(403, &[], secondary), Some(60));
        assert_eq!(wait(403, &[("x-ratelimit-remaining", "4999")], "no"), None);
        assert_eq!(wait(403, &[("retry-after", "soon")], "no"), None);
        assert_eq!(wait(200, &[("retry-after", "7")], ""), None);
        assert_eq!(wait(503, &[("retry-after", "7")], ""), Some(7));
        assert_eq!(wait(503, &spent, secondary), None);
        for absurd in [i64::MIN, i64::MAX] {
            let absurd = absurd.to_string();
            let reset = [
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", absurd.as_str()),
            ];
            assert!(wait(403, &reset, "").is_some());
        }
    }

    #[test]
    fn a_limit_is_waited_for_a_second_at_least_and_longer_each_time() {
        let waits =
            |wait| (0..LIMITS).map(move |n| patient(Duration::from_secs(wait), n).as_secs());
        assert_eq!(waits(0).collect::<Vec<_>>(), [1, 2, 4, 8, 16]);
        assert_eq!(waits(7).collect::<Vec<_>>(), [7, 7, 7, 8, 16]);
    }

    #[test]
    fn pauses_double() {
        let pauses: Vec<_> = (2..=ATTEMPTS).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000]);
        assert!(is_passing(502) && !is_passing(501) && !is_passing(404));
    }
}
