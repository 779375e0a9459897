//! The `Link` header of paged answers (RFC 8288), as far as GitHub uses it.

/// The address of the next page.
pub fn next(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters
            .split(';')
            .any(|parameter| matches!(parameter.trim(), r#"rel="next""# | "rel=next"));
        is_next.then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_the_others() {
        let header = r#"<https://h/x?page=1>; rel="prev", <https://h/x?page=3>; rel="next", <https://h/x?page=9>; rel="last""#;
        assert_eq!(next(header), Some("https://h/x?page=3"));
        assert_eq!(next(r#"<https://h/x?page=1>; rel="first""#), None);
        assert_eq!(next("<https://h/x>; rel=next"), Some("https://h/x"));
        for odd in ["", "nonsense", "<open", "https://h/x; rel=\"next\""] {
            assert_eq!(next(odd), None);
        }
    }
}
