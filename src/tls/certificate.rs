//! Certificates and keys from PEM files, checked before anybody meets them.
//!
//! All use of `rustls-pemfile` is here.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pemfile::Item;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::config::CertificateFiles;

/// A certificate with its key, ready for a handshake.
#[derive(Debug, Clone)]
pub struct LoadedCertificate {
    /// Chain and key as rustls takes them.
    pub certified: Arc<CertifiedKey>,
    /// The DNS names and IP addresses it is for (RFC 5280 section 4.2.1.6), in its order.
    pub names: Vec<String>,
    /// When it begins to be valid.
    pub not_before: SystemTime,
    /// When it ends to be valid.
    pub not_after: SystemTime,
}

/// Why a PEM file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is missing, or we may not read it.
    #[error("{} cannot be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A PEM section is damaged.
    #[error("{}:{line}: the PEM section that begins here is damaged ({reason}); \
     copy the file again, whole", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The line of its `-----BEGIN`, from 1.
        line: usize,
        /// What the PEM reader says.
        reason: &'static str,
    },
    /// There is no certificate in the file.
    #[error("{} holds no certificate; it needs a PEM section -----BEGIN CERTIFICATE-----", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// There is no private key in the file.
    #[error("{} holds no private key; \
     it needs a PEM section such as -----BEGIN PRIVATE KEY-----", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// The chain's file holds a key, and the key's file a certificate or nothing.
    #[error("{} holds a private key and no certificate: `chain` and `key` are swapped", file.display())]
    Swapped {
        /// The file named as the chain.
        file: PathBuf,
    },
    /// The key wants a passphrase.
    #[error("{} is encrypted, and nobody is there to type its passphrase; \
     decrypt it with: openssl pkey -in KEY -out PLAIN", file.display())]
    EncryptedKey {
        /// The key's file.
        file: PathBuf,
    },
    /// The key is of a kind that TLS here does not use.
    #[error("{} holds a key that cannot be used; \
     make an ECDSA P-256, Ed25519 or RSA key of 2048 bits or more", file.display())]
    UnusableKey {
        /// The key's file.
        file: PathBuf,
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// A certificate in the file is not X.509.
    #[error("{}: certificate {number} in this file is not an X.509 certificate; \
     copy the file again, whole", file.display())]
    NotX509 {
        /// The file.
        file: PathBuf,
        /// Which one, from 1.
        number: usize,
    },
    /// The key belongs to a later certificate of the chain.
    #[error("{}: the key belongs to certificate {number} of the chain; \
     put that one first, its issuer behind it", chain.display())]
    LeafNotFirst {
        /// The chain's file.
        chain: PathBuf,
        /// Which one, from 1.
        number: usize,
    },
    /// The key belongs to another certificate.
    #[error("{} is not the key of the certificate in {}; \
     name the two files that were made together", key.display(), chain.display())]
    Mismatch {
        /// The chain's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// The certificate and the key in `files`, which belong together.
///
/// # Errors
/// Which file is wrong, and what to do. Dates are not judged here.
pub fn load(files: &CertificateFiles) -> Result<LoadedCertificate, CertificateError> {
    let chain = read_chain(&files.chain)?;
    let key = read_key(&files.key)?;
    let key = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|source| CertificateError::UnusableKey { file: files.key.clone(), source })?;
    let certified = CertifiedKey::new(chain, key);
    check_match(&certified, files)?;
    let not_x509 = || CertificateError::NotX509 { file: files.chain.clone(), number: 1 };
    let leaf = certified.cert.first().ok_or_else(not_x509)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| not_x509())?;
    let (names, validity) = (names(&leaf), leaf.validity().clone());
    Ok(LoadedCertificate {
        certified: Arc::new(certified),
        names,
        not_before: system_time(validity.not_before),
        not_after: system_time(validity.not_after),
    })
}

/// The authorities in a PEM file.
///
/// # Errors
/// The file cannot be read, or holds something that is no authority.
pub fn load_roots(path: &Path) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for (index, authority) in read_certificates(path)?.into_iter().enumerate() {
        roots
            .add(authority)
            .map_err(|_| CertificateError::NotX509 { file: path.to_owned(), number: index + 1 })?;
    }
    if roots.is_empty() {
        return Err(CertificateError::NoCertificate { file: path.to_owned() });
    }
    Ok(roots)
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let items = read_pem(file)?;
    let has_key =
        items.iter().any(|item| matches!(item, Item::Pkcs1Key(_) | Item::Pkcs8Key(_) | Item::Sec1Key(_)));
    let chain = certificates(items);
    match (chain.is_empty(), has_key) {
        (false, _) => Ok(chain),
        (true, true) => Err(CertificateError::Swapped { file: file.to_owned() }),
        (true, false) => Err(CertificateError::NoCertificate { file: file.to_owned() }),
    }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    read_pem(file).map(certificates)
}

fn certificates(items: Vec<Item>) -> Vec<CertificateDer<'static>> {
    items
        .into_iter()
        .filter_map(|item| match item {
            Item::X509Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect()
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let text = read(file)?;
    // PKCS#8, and the older form of OpenSSL (RFC 1421 section 4.6.1.1).
    if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(&text, b"Proc-Type: 4,ENCRYPTED") {
        return Err(CertificateError::EncryptedKey { file: file.to_owned() });
    }
    let key = parse_pem(file, &text)?.into_iter().find_map(|item| match item {
        Item::Pkcs1Key(key) => Some(key.into()),
        Item::Pkcs8Key(key) => Some(key.into()),
        Item::Sec1Key(key) => Some(key.into()),
        _ => None,
    });
    key.ok_or_else(|| CertificateError::NoKey { file: file.to_owned() })
}

fn read_pem(file: &Path) -> Result<Vec<Item>, CertificateError> {
    parse_pem(file, &read(file)?)
}

fn read(file: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(file).map_err(|source| CertificateError::Unreadable { file: file.to_owned(), source })
}

fn parse_pem(file: &Path, text: &[u8]) -> Result<Vec<Item>, CertificateError> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        match rustls_pemfile::read_one_from_slice(rest) {
            Ok(Some((item, behind))) => {
                items.push(item);
                rest = behind;
            }
            Ok(None) => return Ok(items),
            Err(error) => {
                let begin = text.len() - rest.len() + find(rest, b"-----BEGIN").unwrap_or(0);
                let line = text[..begin].iter().filter(|byte| **byte == b'\n').count() + 1;
                let reason = match error {
                    rustls_pemfile::Error::MissingSectionEnd { .. } => "its -----END is missing",
                    rustls_pemfile::Error::IllegalSectionStart { .. } => "its first line is cut",
                    rustls_pemfile::Error::Base64Decode(_) => "it is not base64",
                };
                return Err(CertificateError::Damaged { file: file.to_owned(), line, reason });
            }
        }
    }
}

fn check_match(certified: &CertifiedKey, files: &CertificateFiles) -> Result<(), CertificateError> {
    let is_match = |certified: &CertifiedKey| match certified.keys_match() {
        // A key that does not tell its public half is believed, as rustls does.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Some(true),
        Err(rustls::Error::InconsistentKeys(_)) => Some(false),
        Err(_) => None,
    };
    match is_match(certified) {
        Some(true) => return Ok(()),
        Some(false) => {}
        None => return Err(CertificateError::NotX509 { file: files.chain.clone(), number: 1 }),
    }
    let later = certified.cert.iter().position(|certificate| {
        let alone = CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key));
        is_match(&alone) == Some(true)
    });
    Err(match later {
        Some(index) => CertificateError::LeafNotFirst { chain: files.chain.clone(), number: index + 1 },
        None => CertificateError::Mismatch { chain: files.chain.clone(), key: files.key.clone() },
    })
}

/// Browsers look at these names alone: the subject's common name has no say (RFC 9525 section 2).
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => ip_address(octets).map(|address| address.to_string()),
            _ => None,
        })
        .collect()
}

fn ip_address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if seconds < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    time.unwrap_or(epoch)
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

fn contains(text: &[u8], pattern: &[u8]) -> bool {
    find(text, pattern).is_some()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::*;

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn files(&self, chain: &str, key: &str) -> CertificateFiles {
            CertificateFiles { chain: self.write("chain.pem", chain), key: self.write("key.pem", key) }
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, text).unwrap();
            path
        }

        fn refusal(&self, chain: &str, key: &str) -> String {
            load(&self.files(chain, key)).unwrap_err().to_string()
        }
    }

    /// Chain and key as PEM.
    fn certificate(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn names_and_dates_are_read() {
        let (chain, key) = certificate(&["gateway.example.org", "192.0.2.1", "2001:db8::1"]);
        let loaded = load(&Folder::new().files(&chain, &key)).unwrap();
        assert_eq!(loaded.names, ["gateway.example.org", "192.0.2.1", "2001:db8::1"]);
        let date = |time| humantime::format_rfc3339_seconds(time).to_string();
        assert_eq!(date(loaded.not_before), "2026-01-01T00:00:00Z");
        assert_eq!(date(loaded.not_after), "2027-01-01T00:00:00Z");
        assert_eq!(loaded.certified.cert.len(), 1);
    }

    #[test]
    fn chain_and_key_may_share_a_file() {
        let (chain, key) = certificate(&["a.example.org"]);
        let both = format!("{key}{chain}");
        assert!(load(&Folder::new().files(&both, &both)).is_ok());
    }

    #[test]
    fn what_is_refused_says_what_to_do() {
        let folder = Folder::new();
        let (chain, key) = certificate(&["a.example.org"]);
        let (other_chain, other_key) = certificate(&["b.example.org"]);
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let cut = format!("{chain}{}", &other_chain[..100]);
        let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (chain, key, why) in [
            (&key, &chain, "are swapped"),
            (&chain, &other_key, "is not the key of"),
            (&format!("{other_chain}{chain}"), &key, "belongs to certificate 2 of the chain"),
            (&chain, &chain, "holds no private key"),
            (&String::new(), &key, "holds no certificate"),
            (&chain, &encrypted.to_owned(), "is encrypted"),
            (&cut, &key, "its -----END is missing"),
            (&rubbish.to_owned(), &key, "not an X.509 certificate"),
        ] {
            let refusal = folder.refusal(chain, key);
            assert!(refusal.contains(why), "{why}: {refusal}");
        }
        let lines = chain.lines().count();
        assert!(folder.refusal(&cut, &key).contains(&format!("chain.pem:{}:", lines + 1)));
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = CertificateFiles { chain: "nowhere.pem".into(), key: "nowhere.key".into() };
        assert_eq!(load(&files).unwrap_err().to_string(), "nowhere.pem cannot be read");
    }

    #[test]
    fn roots_are_authorities() {
        let folder = Folder::new();
        let (authority, key) = certificate(&["ca.example.org"]);
        assert_eq!(load_roots(&folder.write("ca.pem", &authority)).unwrap().len(), 1);
        assert!(matches!(
            load_roots(&folder.write("key.pem", &key)),
            Err(CertificateError::NoCertificate { .. })
        ));
    }
}
