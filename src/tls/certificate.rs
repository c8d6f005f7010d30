//! Certificates from PEM files. All reading of PEM is here.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::CertificateFiles;

/// Why certificates cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read as PEM.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file has nothing of the kind.
    #[error("{} holds no {what}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A certificate that is no root.
    #[error("{} holds a certificate that cannot be a root", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
}

/// The CAs of a PEM file.
///
/// # Errors
/// When the file cannot be read, holds no certificate, or one that cannot be a root.
pub fn load_roots(path: &Path) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in load_chain(path)? {
        roots
            .add(certificate)
            .map_err(|source| CertificateError::Root { path: path.to_path_buf(), source })?;
    }
    Ok(roots)
}

/// A chain, leaf first, and its key.
///
/// # Errors
/// When a file cannot be read, or does not hold what it should.
pub fn load_certified_key(
    files: &CertificateFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CertificateError> {
    let chain = load_chain(&files.chain)?;
    let key = rustls_pemfile::private_key(&mut open(&files.key)?)
        .map_err(|source| CertificateError::Read { path: files.key.clone(), source })?
        .ok_or_else(|| CertificateError::Missing { path: files.key.clone(), what: "private key" })?;
    Ok((chain, key))
}

fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Vec<_> = rustls_pemfile::certs(&mut open(path)?)
        .collect::<Result<_, _>>()
        .map_err(|source| CertificateError::Read { path: path.to_path_buf(), source })?;
    if chain.is_empty() {
        return Err(CertificateError::Missing { path: path.to_path_buf(), what: "certificate" });
    }
    Ok(chain)
}

fn open(path: &Path) -> Result<BufReader<File>, CertificateError> {
    File::open(path)
        .map(BufReader::new)
        .map_err(|source| CertificateError::Read { path: path.to_path_buf(), source })
}
