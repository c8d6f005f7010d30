//! A private folder for the demo's files: made afresh, for our eyes only, removed on drop.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::DemoError;

/// Names tried before we believe that something else is wrong.
const ATTEMPTS: usize = 16;

/// A folder of mode 0700 below the system's temporary folder. Dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new, empty folder.
    ///
    /// # Errors
    /// [`DemoError::File`] when the temporary folder refuses it.
    pub fn create() -> Result<Self, DemoError> {
        Self::create_in(&std::env::temp_dir())
    }

    fn create_in(parent: &Path) -> Result<Self, DemoError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let path = parent.join(format!("brokergate-demo-{:08x}", fastrand::u32(..)));
            // Fails if the name exists, even as a link: nobody can have laid a trap in it.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists => last = Some((path, source)),
                Err(source) => return Err(DemoError::File { path, source }),
            }
        }
        let (path, source) = last.unwrap_or_else(|| (parent.to_owned(), io::ErrorKind::AlreadyExists.into()));
        Err(DemoError::File { path, source })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Write a new file of mode 0600 and say where it is.
    ///
    /// # Errors
    /// [`DemoError::File`], also when the file exists.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf, DemoError> {
        let path = self.path.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .map_err(|source| DemoError::File { path: path.clone(), source })?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the demo's folder stays behind; remove it by hand");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn is_private_and_goes_with_its_files() {
        let folder = Folder::create().unwrap();
        let path = folder.path().to_owned();
        let file = folder.write("key.pem", "secret").unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&file), 0o600);
        assert!(folder.write("key.pem", "again").is_err(), "a file is never overwritten");
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn says_where_it_could_not_be_made() {
        let parent = tempfile::tempdir().unwrap();
        let missing = parent.path().join("missing");
        let error = Folder::create_in(&missing).unwrap_err();
        assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    }
}
