//! The resources of the authority (RFC 8555 section 7.1): accounts, orders, authorizations, challenges, certificates.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::{Answer, Authority, Order, State, jws, lock, validate};

impl State {
    pub(super) fn account(&mut self, signer: &jws::Signer, payload: &Value) -> Answer {
        if payload["termsOfServiceAgreed"] != json!(true) {
            return Answer::problem("403 Forbidden", "userActionRequired", "agree to the terms");
        }
        if let Some((id, key)) = &self.behaviour.binding {
            let url = format!("{}/account", self.base);
            let bound = &payload["externalAccountBinding"];
            if let Err(what) = jws::bound(bound, id, key, &url, signer) {
                return Answer::problem("403 Forbidden", "externalAccountRequired", &what);
            }
        }
        let contact = payload["contact"][0].as_str().unwrap_or("nobody");
        self.log.push(format!("contact {contact}"));
        let url = format!("{}/accounts/{}", self.base, self.accounts.len());
        self.accounts.insert(url.clone(), signer.key.clone());
        Answer::json("201 Created", &json!({"status": "valid"})).with("Location", &url)
    }

    pub(super) fn order(&mut self, signer: &jws::Signer, payload: &Value) -> Answer {
        if let Some(after) = self.behaviour.rate_limited {
            let detail = "too many new orders recently";
            return Answer::problem("429 Too Many Requests", "rateLimited", detail)
                .with("Retry-After", after);
        }
        let identifiers = payload["identifiers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let [identifier] = identifiers.as_slice() else {
            return Answer::problem("400 Bad Request", "malformed", "one identifier an order");
        };
        let domain = identifier["value"].as_str().unwrap_or_default();
        let index = self.orders.len();
        self.orders.push(Order {
            domain: domain.to_owned(),
            status: "pending",
            thumbprint: signer.key.thumbprint(),
            error: None,
            chain: None,
        });
        let url = format!("{}/order/{index}", self.base);
        self.shown("201 Created", index).with("Location", &url)
    }

    pub(super) fn shown(&self, status: &'static str, i: usize) -> Answer {
        let (order, base) = (&self.orders[i], &self.base);
        let mut body = json!({
            "status": order.status,
            "identifiers": [{"type": "dns", "value": order.domain}],
            "authorizations": [format!("{base}/authorization/{i}")],
            "finalize": format!("{base}/finalize/{i}"),
        });
        if order.chain.is_some() {
            body["certificate"] = json!(format!("{base}/certificate/{i}"));
        }
        Answer::json(status, &body)
    }

    pub(super) fn authorization(&self, i: usize) -> Answer {
        let (order, base) = (&self.orders[i], &self.base);
        let status = match order.status {
            "pending" => "pending",
            "invalid" => "invalid",
            _ => "valid",
        };
        let challenge = |kind: &str| {
            let mut body = json!({
                "type": kind, "status": status, "token": token(i, kind),
                "url": format!("{base}/challenge/{i}/{kind}"),
            });
            if let Some(error) = &order.error {
                let kind = "urn:ietf:params:acme:error:unauthorized";
                body["error"] = json!({"type": kind, "detail": error, "status": 403});
            }
            body
        };
        let kinds = ["http-01", "dns-01", "tls-alpn-01"];
        let kinds = kinds
            .into_iter()
            .filter(|kind| self.behaviour.only.is_none_or(|only| only == *kind));
        let challenges: Vec<Value> = kinds.map(challenge).collect();
        Answer::json(
            "200 OK",
            &json!({
                "status": status, "challenges": challenges,
                "identifier": {"type": "dns", "value": order.domain},
            }),
        )
    }

    /// Goes to see, as soon as it is known where.
    pub(super) fn challenge(&mut self, i: usize, path: &str, shared: &Arc<Mutex<State>>) -> Answer {
        let kind = path.rsplit('/').next().unwrap_or_default().to_owned();
        let token = token(i, &kind);
        let order = &self.orders[i];
        let (domain, expected) = (
            order.domain.clone(),
            format!("{token}.{}", order.thumbprint),
        );
        let url = format!("{}{path}", self.base);
        let body = json!({"type": kind, "status": "processing", "token": token, "url": url});
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let ports = loop {
                let ports = lock(&shared).behaviour.ports;
                match ports {
                    Some(ports) => break ports,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            };
            let met = match kind.as_str() {
                "http-01" => validate::http(ports.0, &domain, &token, &expected).await,
                "tls-alpn-01" => validate::tls_alpn(ports.1, &domain, &expected).await,
                other => Err(format!("{other} is not met here")),
            };
            let mut state = lock(&shared);
            state
                .log
                .push(format!("validated {domain} by {kind}: {met:?}"));
            let order = &mut state.orders[i];
            order.status = if met.is_ok() { "ready" } else { "invalid" };
            order.error = met.err();
        });
        Answer::json("200 OK", &body)
    }

    pub(super) fn finalize(&mut self, i: usize, payload: &Value, issuer: &Authority) -> Answer {
        if self.orders[i].status != "ready" {
            return Answer::problem("403 Forbidden", "orderNotReady", "it is not ready");
        }
        let csr = payload["csr"].as_str().map(|csr| BASE64.decode(csr));
        let Some(Ok(csr)) = csr else {
            return Answer::problem("400 Bad Request", "malformed", "no base64url");
        };
        let domain = self.orders[i].domain.clone();
        match self.issue(&csr, &domain, issuer) {
            Ok(chain) => {
                self.orders[i].chain = Some(chain);
                self.orders[i].status = "valid";
                self.shown("200 OK", i)
            }
            Err(what) => {
                self.log.push(format!("fault: the signing request: {what}"));
                Answer::problem("400 Bad Request", "badCSR", &what)
            }
        }
    }

    /// A certificate for the key of a signing request, which must be for `domain` alone.
    fn issue(&self, csr: &[u8], domain: &str, issuer: &Authority) -> Result<String, String> {
        let (_, csr) = X509CertificationRequest::from_der(csr).map_err(|e| e.to_string())?;
        let info = &csr.certification_request_info;
        let key = RequestedKey(info.subject_pki.subject_public_key.data.to_vec());
        let verified = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
            &key.0,
        )
        .verify(info.raw, &csr.signature_value.data);
        verified.map_err(|_| "its signature".to_owned())?;
        let names = csr.requested_extensions().into_iter().flatten();
        let names: Vec<String> = names
            .filter_map(|e| match e {
                ParsedExtension::SubjectAlternativeName(san) => Some(&san.general_names),
                _ => None,
            })
            .flatten()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect();
        if names != [domain] {
            return Err(format!("it is for {names:?} and not for {domain}"));
        }
        let name = self.behaviour.issues_for.unwrap_or(domain);
        let mut params =
            CertificateParams::new(vec![name.to_owned()]).map_err(|e| e.to_string())?;
        params.distinguished_name = DistinguishedName::new();
        let (ago, lasts) = self.behaviour.validity;
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(ago)).into();
        params.not_after = (now + Duration::from_secs(lasts)).into();
        params.serial_number = Some((1000 + self.count).into());
        let leaf = issuer.sign(&params, &key);
        Ok(format!("{}{}", leaf.pem(), issuer.pem))
    }

    pub(super) fn certificate(&self, i: usize) -> Answer {
        match &self.orders[i].chain {
            Some(chain) => Answer {
                kind: "application/pem-certificate-chain",
                body: chain.clone(),
                ..Answer::json("200 OK", &Value::Null)
            },
            None => Answer::problem("403 Forbidden", "orderNotReady", "it is not issued"),
        }
    }
}

/// The key in a signing request.
struct RequestedKey(Vec<u8>);

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn token(order: usize, kind: &str) -> String {
    BASE64.encode(format!("token of order {order} for {kind}"))
}
