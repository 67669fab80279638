//! Certificates made at run time, so that TLS tests need no files that expire. It does no TLS itself.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate authority that lives as long as the test.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A server's certificate and its private key, both as PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate alone; the authority's is not part of it.
    pub certificate_pem: String,
    /// The private key, PKCS #8.
    pub key_pem: String,
}

impl Authority {
    /// Makes an authority with a fresh key. Two authorities never trust each other's certificates.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate().context("cannot make the authority's key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("etl-testkit authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params
            .self_signed(&key)
            .context("cannot sign the authority's certificate")?
            .pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate_pem,
        })
    }

    /// The authority's own certificate: the content of a `ca_file`.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Signs a certificate for these host names and IP addresses.
    pub fn issue<S: AsRef<str>>(&self, names: &[S]) -> Result<Issued> {
        let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        let key = KeyPair::generate().context("cannot make a server key")?;
        let mut params = CertificateParams::new(names).context("a name cannot be certified")?;
        params.distinguished_name = named("etl-testkit server");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("cannot sign a server certificate")?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
