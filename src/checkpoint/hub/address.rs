//! Addresses: where a redirect leads, and which are of one server.

use ureq::http::Uri;

/// Whom errors name.
pub(super) fn host_of(address: &Uri) -> String {
    address.host().unwrap_or("nowhere").to_owned()
}

/// Whether an address carries a name and a password, which no hub's does.
pub(super) fn has_user(address: &Uri) -> bool {
    address
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
}

fn port(address: &Uri) -> Option<u16> {
    address.port_u16().or(match address.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    })
}

pub(super) fn same_origin(a: &Uri, b: &Uri) -> bool {
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

/// Where a redirect leads from an address.
///
/// # Errors
/// Why nobody goes there.
pub(super) fn resolve(from: &Uri, location: &str) -> Result<Uri, &'static str> {
    let (Some(scheme), Some(server)) = (from.scheme_str(), from.authority()) else {
        return Err("from nowhere");
    };
    let location = location.split('#').next().unwrap_or_default();
    let whole = match location {
        "" => return Err("to no address"),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{server}{location}"),
        _ if location.contains("://") => location.to_owned(),
        _ => {
            let folder = from
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            format!("{scheme}://{server}{folder}/{location}")
        }
    };
    let uri: Uri = whole.parse().map_err(|_| "to no address")?;
    if uri.host().is_none_or(str::is_empty) || has_user(&uri) {
        return Err("to no address of a server");
    }
    match (scheme, uri.scheme_str()) {
        (_, Some("https")) | ("http", Some("http")) => Ok(uri),
        (_, Some("http")) => Err("without encryption"),
        _ => Err("to no address of the web"),
    }
}

/// A part of an address, with all but letters, digits and `-._~` quoted; `/` stays where it separates.
pub(super) fn quoted(text: &str, separates: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'/' if separates => out.push('/'),
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let from: Uri = "https://hub.co:8/a/b/c?x=1".parse().unwrap();
        for (location, expected) in [
            ("https://cdn.co/x?y=%2F", Ok("https://cdn.co/x?y=%2F")),
            ("//cdn.co/x", Ok("https://cdn.co/x")),
            ("/x/y", Ok("https://hub.co:8/x/y")),
            ("d", Ok("https://hub.co:8/a/b/d")),
            ("https://cdn.co/x#part", Ok("https://cdn.co/x")),
            ("http://cdn.co/x", Err("without encryption")),
            ("ftp://cdn.co/x", Err("to no address of the web")),
            ("file:///etc/passwd", Err("to no address")),
            (
                "https://user:secret@cdn.co/x",
                Err("to no address of a server"),
            ),
            ("https://", Err("to no address")),
            ("", Err("to no address")),
        ] {
            let found = resolve(&from, location).map(|uri| uri.to_string());
            match expected {
                Ok(expected) => assert_eq!(found.as_deref(), Ok(expected), "{location}"),
                Err(start) => assert!(
                    found.as_ref().unwrap_err().starts_with(start),
                    "{location}: {found:?}"
                ),
            }
        }
        let plain: Uri = "http://127.0.0.1:8/a".parse().unwrap();
        assert!(resolve(&plain, "http://cdn.co/x").is_ok());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let is = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(is("https://hub.co/a", "https://HUB.co:443"));
        for other in [
            "http://hub.co",
            "https://hub.co:444",
            "https://hub.co.evil.co",
            "https://cdn.hub.co",
        ] {
            assert!(!is("https://hub.co", other), "{other}");
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a/b c+ü.x", true), "a/b%20c%2B%C3%BC.x");
        assert_eq!(quoted("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}
