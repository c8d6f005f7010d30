//! Find a file below the root, and nowhere else.
//!
//! Symlinks are followed as long as they stay below the root: Kubernetes mounts a ConfigMap as links
//! through `..data`. One that leads out is as good as missing.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Folder;
use super::path::FilePath;

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Located {
    /// A file to send.
    File(File),
    /// A folder, but the path does not end with a slash: relative links on its page would go wrong.
    Folder,
    /// Nothing that can be sent.
    Nothing,
}

/// A regular file below the root.
#[derive(Debug)]
pub(super) struct File {
    /// Its path as asked for: the name, and so the type, is the link's and not the link's end's.
    pub(super) path: PathBuf,
    /// Whether it is the index or the fallback.
    pub(super) is_entry: bool,
    pub(super) has_br: bool,
    pub(super) has_zst: bool,
    pub(super) has_gz: bool,
}

impl File {
    pub(super) const fn is_precompressed(&self) -> bool {
        self.has_br || self.has_zst || self.has_gz
    }
}

/// Look a path up. Blocks on the disk.
///
/// Between this look and the opening of the file, someone who may write below the root could put a link
/// to elsewhere in its place. Who may do that decides anyway what the site says; who runs a site whose
/// writers must not read the gateway's other files should mount it alone.
pub(super) fn locate(folder: &Folder, path: &FilePath, wants_page: bool) -> io::Result<Located> {
    let Some(below) = Below::root(&folder.root)? else { return Ok(Located::Nothing) };
    let asked = below.root.join(path.names());
    let found = match below.kind(&asked)? {
        Some(Kind::File) if !path.is_folder() => Some(asked),
        Some(Kind::Folder) if !path.is_folder() => return Ok(Located::Folder),
        Some(Kind::Folder) => below.file(asked.join(&*folder.index))?,
        _ => None,
    };
    let is_index = found.as_deref().and_then(Path::file_name) == Path::new(&*folder.index).file_name();
    let (path, is_entry) = match (found, &folder.fallback) {
        (Some(path), fallback) => {
            let is_fallback = fallback.as_ref().is_some_and(|fallback| path == below.root.join(fallback));
            (path, is_index || is_fallback)
        }
        (None, Some(fallback)) if wants_page => match below.file(below.root.join(fallback))? {
            Some(path) => (path, true),
            None => return Ok(Located::Nothing),
        },
        (None, _) => return Ok(Located::Nothing),
    };
    let has = |extension: &str| -> io::Result<bool> {
        let mut name = path.clone().into_os_string();
        name.push(extension);
        Ok(folder.precompressed && below.file(name.into())?.is_some())
    };
    let (has_br, has_zst, has_gz) = (has(".br")?, has(".zst")?, has(".gz")?);
    Ok(Located::File(File { path, is_entry, has_br, has_zst, has_gz }))
}

/// What can be sent; a pipe or a device would hang or never end.
enum Kind {
    File,
    Folder,
}

/// The root, without links in it.
struct Below {
    root: PathBuf,
}

impl Below {
    fn root(root: &Path) -> io::Result<Option<Self>> {
        Ok(real(root)?.map(|root| Self { root }))
    }

    /// What is at a path, if its end is below the root.
    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        let Some(end) = real(path)?.filter(|end| end.starts_with(&self.root)) else { return Ok(None) };
        let metadata = fs::metadata(end)?;
        Ok(match metadata {
            _ if metadata.is_file() => Some(Kind::File),
            _ if metadata.is_dir() => Some(Kind::Folder),
            _ => None,
        })
    }

    fn file(&self, path: PathBuf) -> io::Result<Option<PathBuf>> {
        Ok(matches!(self.kind(&path)?, Some(Kind::File)).then_some(path))
    }
}

/// Where a path ends, all links followed; `None` where there is nothing.
fn real(path: &Path) -> io::Result<Option<PathBuf>> {
    match fs::canonicalize(path) {
        Ok(end) => Ok(Some(end)),
        Err(error) => match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput => Ok(None),
            // A link that leads to itself; `ErrorKind::FilesystemLoop` is not stable.
            _ if error.raw_os_error() == Some(ELOOP) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Linux and the BSDs differ.
const ELOOP: i32 = if cfg!(target_os = "linux") { 40 } else { 62 };
