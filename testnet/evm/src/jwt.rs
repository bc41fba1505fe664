//! May this request speak to the Engine API?
//!
//! JSON Web Tokens signed with HS256, whose `iat` is within a minute of the clock (execution-apis, engine/authentication).
//! A layer in front of the server, so that nothing is parsed before.

use alloy_primitives::B256;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use http::{HeaderMap, Request, Response, StatusCode, header::AUTHORIZATION};
use jsonrpsee::server::HttpBody;
use serde::Deserialize;
use sha2::Sha256;
use std::{
    future::{Ready, ready},
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};
use tower::{Layer, Service};

/// How far a token's time may be from ours, in seconds.
pub const TOKEN_AGE_MAX: u64 = 60;
/// Bytes of a token; real ones have about 120.
const TOKEN_BYTES_MAX: usize = 4_096;

#[derive(Deserialize)]
struct Head {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iat: u64,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("missing token")]
    Missing,
    #[error("malformed token")]
    Malformed,
    #[error("signing method {0:?} is invalid, HS256 is expected")]
    Algorithm(String),
    #[error("signature is invalid")]
    Signature,
    #[error("stale token: issued {0} seconds from now")]
    Stale(u64),
}

/// Checks the token of a request at `now`, in seconds since the epoch.
pub(crate) fn check(headers: &HeaderMap, secret: &B256, now: u64) -> Result<(), Refusal> {
    let value = headers.get(AUTHORIZATION).ok_or(Refusal::Missing)?;
    let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).ok_or(Refusal::Missing)?.trim();
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
    let (head, claims) = signed.split_once('.').ok_or(Refusal::Malformed)?;
    // The algorithm first: a token must not choose a weaker one.
    let head: Head = part(head)?;
    if head.alg != "HS256" {
        return Err(Refusal::Algorithm(head.alg));
    }
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refusal::Malformed)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_slice()).map_err(|_| Refusal::Signature)?;
    mac.update(signed.as_bytes());
    mac.verify_slice(&signature).map_err(|_| Refusal::Signature)?;
    let claims: Claims = part(claims)?;
    let distance = now.abs_diff(claims.iat);
    if distance > TOKEN_AGE_MAX { Err(Refusal::Stale(distance)) } else { Ok(()) }
}

fn part<T: for<'a> Deserialize<'a>>(encoded: &str) -> Result<T, Refusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Refusal::Malformed)
}

/// Lets only requests with a token through.
#[derive(Clone, Debug)]
pub(crate) struct TokenLayer {
    pub(crate) secret: B256,
}

impl<S> Layer<S> for TokenLayer {
    type Service = TokenService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TokenService { inner, secret: self.secret }
    }
}

/// See [`TokenLayer`].
#[derive(Clone, Debug)]
pub(crate) struct TokenService<S> {
    inner: S,
    secret: B256,
}

impl<S, B> Service<Request<B>> for TokenService<S>
where
    S: Service<Request<B>, Response = Response<HttpBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::future::Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match check(request.headers(), &self.secret, now) {
            Ok(()) => futures::future::Either::Left(self.inner.call(request)),
            Err(refusal) => {
                let mut response = Response::new(HttpBody::from(refusal.to_string()));
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                futures::future::Either::Right(ready(Ok(response)))
            }
        }
    }
}

/// A token for `secret` issued at `now`: what a driver sends.
pub fn token(secret: &B256, now: u64) -> String {
    let head = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{now}}}"#));
    let signed = format!("{head}.{claims}");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_slice()).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const NOW: u64 = 1_700_000_000;

    fn headers(token: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a token is ASCII");
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    #[test]
    fn only_a_fresh_token_of_the_secret_is_let_through() {
        let secret = B256::repeat_byte(7);
        let good = token(&secret, NOW);
        assert_eq!(check(&headers(&good), &secret, NOW), Ok(()));
        assert_eq!(check(&headers(&good), &secret, NOW + TOKEN_AGE_MAX), Ok(()));
        assert_eq!(check(&headers(&good), &secret, NOW + 61), Err(Refusal::Stale(61)));
        assert_eq!(check(&headers(&good), &secret, NOW - 61), Err(Refusal::Stale(61)));
        assert_eq!(check(&headers(&good), &B256::ZERO, NOW), Err(Refusal::Signature));
        assert_eq!(check(&HeaderMap::new(), &secret, NOW), Err(Refusal::Missing));
        assert_eq!(check(&headers("a.b"), &secret, NOW), Err(Refusal::Malformed));
        let (signed, signature) = good.rsplit_once('.').expect("a token has three parts");
        let other = format!("{}.{signature}", signed.replace("ey", "eZ"));
        assert_eq!(check(&headers(&other), &secret, NOW), Err(Refusal::Malformed));
        let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let (_, claims) = signed.split_once('.').expect("a token has three parts");
        let unsigned = format!("{none}.{claims}.");
        assert_eq!(check(&headers(&unsigned), &secret, NOW), Err(Refusal::Algorithm("none".into())));
    }

    #[test]
    fn the_signature_is_the_one_of_the_published_example() {
        // RFC 7515, appendix A.1: an HS256 token with a key longer than ours, so only the HMAC is compared.
        let key = BASE64_URL_SAFE_NO_PAD
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .expect("base64");
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                      eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
        mac.update(signed.as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        assert_eq!(signature, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    }
}
