//! An authority and a server certificate, made anew for each run and used by all contestants.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};

/// The name that the certificate is for, and that clients ask for.
pub(super) const NAME: &str = "gateway.test";

/// Where the PEM files are.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) ca: PathBuf,
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub(super) chain_and_key: PathBuf,
}

/// What the server signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA of 2048 bits.
    Rsa,
}

impl KeyKind {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Ecdsa => "ECDSA P-256",
            Self::Rsa => "RSA 2048",
        }
    }

    fn make(self) -> Result<KeyPair> {
        Ok(KeyPair::generate_for(match self {
            Self::Ecdsa => &PKCS_ECDSA_P256_SHA256,
            Self::Rsa => &PKCS_RSA_SHA256,
        })?)
    }
}

impl Certificate {
    /// Makes both certificates and writes them into `folder`.
    pub(super) fn make(folder: &Path, kind: KeyKind) -> Result<Self> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "bench authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(authority, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?;

        let mut server = CertificateParams::new(vec![NAME.to_owned()])?;
        server.distinguished_name.push(DnType::CommonName, NAME);
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let key = kind.make()?;
        let leaf = server.signed_by(&key, &ca)?;

        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(file)
        };
        Ok(Self {
            ca: write("ca.pem", &ca.pem())?,
            chain: write("chain.pem", &leaf.pem())?,
            key: write("key.pem", &key.serialize_pem())?,
            chain_and_key: write("chain-and-key.pem", &format!("{}{}", leaf.pem(), key.serialize_pem()))?,
        })
    }
}
