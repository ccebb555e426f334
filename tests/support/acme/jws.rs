//! Signed requests (RFC 7515) as RFC 8555 section 6.2 wants them: ES256, a nonce, the URL, and either a key or an account.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

/// What is wrong with a request whose account is unknown.
pub(super) const NO_ACCOUNT: &str = "there is no such account";

/// A public key on P-256, by its coordinates in base64url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    x: String,
    y: String,
}

impl Key {
    fn of(jwk: &Value) -> Result<Self, String> {
        if (jwk["kty"].as_str(), jwk["crv"].as_str()) != (Some("EC"), Some("P-256")) {
            return Err(format!("the key {jwk}"));
        }
        let part = |name: &str| jwk[name].as_str().map(str::to_owned).ok_or("half a key");
        Ok(Key {
            x: part("x")?,
            y: part("y")?,
        })
    }

    /// RFC 7638, in base64url.
    pub(super) fn thumbprint(&self) -> String {
        let Key { x, y } = self;
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        BASE64.encode(digest(&SHA256, canonical.as_bytes()))
    }

    fn verify(&self, signed: &str, signature: &[u8]) -> Result<(), String> {
        let mut point = vec![4];
        for part in [&self.x, &self.y] {
            point.extend(BASE64.decode(part).map_err(|e| e.to_string())?);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), signature)
            .map_err(|_| "the signature".into())
    }
}

/// Who has signed: a key, and its account if there is one.
pub(super) struct Signer {
    pub(super) key: Key,
    account: Option<String>,
}

impl Signer {
    pub(super) fn is_account(&self) -> bool {
        self.account.is_some()
    }
}

/// What was signed. A read (POST as GET) has no payload.
pub(super) struct Signed {
    pub(super) by: Signer,
    pub(super) nonce: String,
    pub(super) url: String,
    pub(super) payload: Value,
}

/// Reads a request and verifies its signature.
pub(super) fn read(body: &[u8], accounts: &BTreeMap<String, Key>) -> Result<Signed, String> {
    let (header, payload, input, signature) = parts(body)?;
    if header["alg"] != json!("ES256") {
        return Err(format!("the algorithm {}", header["alg"]));
    }
    let account = header["kid"].as_str().map(str::to_owned);
    let key = match (&account, header.get("jwk")) {
        (Some(url), None) => accounts.get(url).cloned().ok_or(NO_ACCOUNT)?,
        (None, Some(jwk)) => Key::of(jwk)?,
        _ => return Err("both a key and an account, or neither".into()),
    };
    key.verify(&input, &signature)?;
    let text = |name: &str| header[name].as_str().unwrap_or_default().to_owned();
    Ok(Signed {
        by: Signer { key, account },
        nonce: text("nonce"),
        url: text("url"),
        payload,
    })
}

/// Is `jws` the binding of the signer's key with the key called `id` (RFC 8555 section 7.3.4)?
pub(super) fn bound(
    jws: &Value,
    id: &str,
    key: &[u8],
    url: &str,
    signer: &Signer,
) -> Result<(), String> {
    let (header, payload, input, tag) = parts(jws.to_string().as_bytes())?;
    let wanted = json!({"alg": "HS256", "kid": id, "url": url});
    if header != wanted {
        return Err(format!("the header {header}"));
    }
    if Key::of(&payload)? != signer.key {
        return Err("another key".into());
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::verify(&key, input.as_bytes(), &tag).map_err(|_| "the tag".into())
}

/// The header, the payload, what is signed, and the signature.
fn parts(body: &[u8]) -> Result<(Value, Value, String, Vec<u8>), String> {
    let body: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let part = |name: &str| body[name].as_str().ok_or(format!("no {name}"));
    let (protected, payload) = (part("protected")?, part("payload")?);
    let decode = |text: &str| BASE64.decode(text).map_err(|e| e.to_string());
    let json = |bytes: Vec<u8>| serde_json::from_slice(&bytes).map_err(|e| e.to_string());
    let content = match payload {
        "" => Value::Null,
        text => json(decode(text)?)?,
    };
    let signature = decode(part("signature")?)?;
    let header = json(decode(protected)?)?;
    Ok((header, content, format!("{protected}.{payload}"), signature))
}
