//! Where the API is, and which repository is meant.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::GithubError;

/// What may not stand in one segment of a path.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'/')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Text as one segment of a path, or one value of a query.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// The base of GitHub's REST API: of github.com, or `https://HOST/api/v3` of an Enterprise server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiBase {
    scheme: String,
    authority: String,
    path: String,
}

impl ApiBase {
    /// The address of a path below the base.
    pub fn join(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    /// An address that GitHub gave us, where it lies on the same host, so that the token may go there.
    pub fn same_host(&self, address: &str) -> Option<String> {
        // One without a host is on this one.
        if address.starts_with('/') && !address.starts_with("//") {
            return Some(format!("{}://{}{address}", self.scheme, self.authority));
        }
        let uri: Uri = address.parse().ok()?;
        let same = uri.scheme_str() == Some(&self.scheme)
            && uri
                .authority()
                .is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(&self.authority));
        same.then(|| address.to_owned())
    }
}

impl fmt::Display for ApiBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

impl FromStr for ApiBase {
    type Err = GithubError;

    fn from_str(text: &str) -> Result<Self, GithubError> {
        let refuse = |reason| GithubError::Base {
            base: text.to_owned(),
            reason,
        };
        let uri: Uri = text.parse().map_err(|_| refuse("it is no address"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(refuse("it names no host"));
        };
        if authority.as_str().contains('@') {
            return Err(refuse("it holds a user"));
        }
        if uri.query().is_some() {
            return Err(refuse("it has a query"));
        }
        let is_this_machine = matches!(authority.host(), "127.0.0.1" | "localhost" | "[::1]");
        match scheme {
            "https" => {}
            "http" if is_this_machine => {}
            _ => return Err(refuse("the token would travel in the clear")),
        }
        Ok(Self {
            scheme: scheme.to_owned(),
            authority: authority.to_string(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

/// `OWNER/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoName(String);

impl RepoName {
    /// The path of something below the repository.
    pub fn path(&self, below: &str) -> String {
        format!("/repos/{}{below}", self.0)
    }

    /// Whether both name one repository. GitHub does not tell capitals apart.
    pub fn is(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepoName {
    type Err = GithubError;

    fn from_str(text: &str) -> Result<Self, GithubError> {
        let good = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        match text.split_once('/') {
            Some((owner, name)) if good(owner) && good(name) => Ok(Self(text.to_owned())),
            _ => Err(GithubError::Repository(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_of_both_kinds_take_paths() {
        for (base, joined) in [
            ("https://api.github.com", "https://api.github.com/repos/o/r"),
            ("https://host/api/v3", "https://host/api/v3/repos/o/r"),
            ("https://host/api/v3/", "https://host/api/v3/repos/o/r"),
            ("http://127.0.0.1:9", "http://127.0.0.1:9/repos/o/r"),
        ] {
            let base: ApiBase = base.parse().unwrap();
            let repository: RepoName = "o/r".parse().unwrap();
            assert_eq!(base.join(&repository.path("")), joined);
        }
    }

    #[test]
    fn a_base_that_would_leak_the_token_is_refused() {
        for (base, reason) in [
            ("http://api.github.com", "in the clear"),
            ("ftp://host", "in the clear"),
            ("api.github.com", "names no host"),
            ("/api/v3", "names no host"),
            ("https://me@host", "holds a user"),
            ("https://host/api?x=1", "has a query"),
            ("https:// host", "no address"),
        ] {
            let error = base.parse::<ApiBase>().unwrap_err().to_string();
            assert!(error.contains(reason), "{base}: {error}");
            assert!(error.contains(base), "{error}");
        }
    }

    #[test]
    fn only_addresses_of_the_same_host_are_followed() {
        let base: ApiBase = "https://host:8/api/v3".parse().unwrap();
        let on = |address: &str| base.same_host(address);
        assert!(on("https://HOST:8/api/v3/repositories/7").is_some());
        assert_eq!(
            on("/api/v3/repositories/7").unwrap(),
            "https://host:8/api/v3/repositories/7"
        );
        for elsewhere in [
            "https://host/x",
            "http://host:8/x",
            "https://other:8/x",
            "//other/x",
            "not an address",
            "https://host:8@other/x",
        ] {
            assert_eq!(on(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn names_of_repositories_hold_nothing_of_a_path() {
        assert!("a-b/c_d.e".parse::<RepoName>().unwrap().is("A-B/c_d.e"));
        for bad in ["a", "a/", "/b", "a/b/c", "a/..", "./b", "a b/c", "a/b?x"] {
            let error = bad.parse::<RepoName>().unwrap_err().to_string();
            assert!(error.contains("OWNER/NAME"), "{error}");
        }
        assert_eq!(segment("a b/ü"), "a%20b%2F%C3%BC");
    }
}
