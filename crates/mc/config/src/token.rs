//! Tokens that clients show: HTTP Basic credentials with a password that expires.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Bytes of the tag in a password.
const TAG: usize = 10;

/// Why a token is refused. Names as in the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not HTTP Basic credentials.
    #[error("invalid authorization header")]
    InvalidAuthorizationHeader,
    /// Not `user:time:tag`, or of another user, or the tag is wrong.
    #[error("invalid authorization token")]
    InvalidAuthorizationToken,
    /// Too old, or from the future.
    #[error("expired authorization token")]
    ExpiredAuthorizationToken,
}

fn mac(secret: &[u8; 32], signed: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any key length is allowed");
    mac.update(signed.as_bytes());
    mac
}

/// The password of a user at a time (seconds since 1970).
pub fn password(secret: &[u8; 32], user: &str, time: u64) -> String {
    let signed = format!("{user}:{time}");
    let tag = mac(secret, &signed).finalize().into_bytes();
    format!("{signed}:{}", hex::encode(&tag[..TAG]))
}

/// The value of the `Authorization` header.
pub fn header(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Checks the header's token at a time; the user that it is for.
///
/// # Errors
/// If it is malformed, wrong or not of that time.
pub fn check(secret: &[u8; 32], header: &str, now: u64, max_lifetime: u64) -> Result<String, Error> {
    let credentials = header.strip_prefix("Basic ").ok_or(Error::InvalidAuthorizationHeader)?;
    let decoded = STANDARD.decode(credentials).map_err(|_| Error::InvalidAuthorizationHeader)?;
    let text = String::from_utf8(decoded).map_err(|_| Error::InvalidAuthorizationHeader)?;
    let (user, password) = text.split_once(':').ok_or(Error::InvalidAuthorizationHeader)?;
    let (signed, tag) = password.rsplit_once(':').ok_or(Error::InvalidAuthorizationToken)?;
    let (named, time) = signed.rsplit_once(':').ok_or(Error::InvalidAuthorizationToken)?;
    let time: u64 = time.parse().map_err(|_| Error::InvalidAuthorizationToken)?;
    let tag = hex::decode(tag).ok().filter(|tag| tag.len() == TAG).ok_or(Error::InvalidAuthorizationToken)?;
    mac(secret, signed).verify_truncated_left(&tag).map_err(|_| Error::InvalidAuthorizationToken)?;
    if named != user {
        return Err(Error::InvalidAuthorizationToken);
    }
    if now.abs_diff(time) >= max_lifetime {
        return Err(Error::ExpiredAuthorizationToken);
    }
    Ok(user.to_owned())
}
