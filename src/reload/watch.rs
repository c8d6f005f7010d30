//! Notice that a file may have changed: events of the folders on the way to it, and a slow look beside.
//!
//! Folders, for a file that is replaced (by an editor, by a mounted ConfigMap's symlinks) is another file
//! than the one watched. What was noticed says only: look at what the files hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::{debug, warn};

/// Who writes one file often writes the next: a certificate, then its key.
const SETTLE: Duration = Duration::from_millis(200);

/// Network file systems have no events, and a folder that was replaced has lost its own.
const SLOW_LOOK: Duration = Duration::from_secs(15);

/// Symlinks in a row that are followed.
const LINKS: usize = 16;

/// What watches.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` where the system has no events for us.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    noticed: Arc<Notify>,
    slow: Interval,
}

/// Wait until something may have changed; for ever when nobody watches.
pub(super) async fn noticed(watch: &mut Option<Watch>) {
    let Some(watch) = watch else { return std::future::pending().await };
    tokio::select! {
        () = watch.noticed.notified() => {}
        _ = watch.slow.tick() => {}
    }
}

/// Wait until whoever writes is probably done. What comes later is noticed anew.
pub(super) async fn settle() {
    tokio::time::sleep(SETTLE).await;
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        let noticed = Arc::new(Notify::new());
        let tell = Arc::clone(&noticed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| may_change_content(event.kind)) {
                tell.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| {
            warn!(%error, "no events for changes of files (raise fs.inotify.max_user_instances); they are looked at every {SLOW_LOOK:?}");
        });
        let mut slow = interval_at(Instant::now() + SLOW_LOOK, SLOW_LOOK);
        slow.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { watcher: watcher.ok(), folders: BTreeSet::new(), noticed, slow }
    }

    /// Watch the folders of these files, and no others.
    pub(super) fn follow(&mut self, files: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let folders: BTreeSet<PathBuf> = files.iter().flat_map(|file| folders_to(file)).collect();
        for gone in self.folders.difference(&folders) {
            let _ = watcher.unwatch(gone);
        }
        // Those we have as well: behind the same path there may be another folder now.
        for folder in &folders {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                debug!(folder = %folder.display(), %error, "no events for this folder");
            }
        }
        if self.folders != folders {
            // What changed in a new one before its events came was not noticed.
            self.noticed.notify_one();
        }
        self.folders = folders;
    }
}

/// To open a file and to read it are events too: our own looks must not lead to the next.
const fn may_change_content(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => matches!(access, AccessKind::Close(AccessMode::Write)),
        _ => true,
    }
}

/// The folders whose entries decide what `file` is: its own, those of symlinks on the way, and those of
/// what the last of them points at.
fn folders_to(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut file = file.to_owned();
    for _ in 0..LINKS {
        folders.insert(folder_of(&file));
        let links = file.ancestors().skip(1).filter(|above| fs::read_link(above).is_ok());
        folders.extend(links.map(folder_of));
        let Ok(target) = fs::read_link(&file) else { break };
        file = folder_of(&file).join(target);
    }
    folders
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) => ".".into(),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_folder_that_has_a_say_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("volume/..1")).unwrap();
        fs::create_dir_all(at("elsewhere")).unwrap();
        fs::write(at("volume/..1/a.toml"), "").unwrap();
        // As a ConfigMap is mounted: a.toml -> ..data/a.toml, ..data -> ..1
        symlink("..1", at("volume/..data")).unwrap();
        symlink("..data/a.toml", at("volume/a.toml")).unwrap();
        let expected = BTreeSet::from([at("volume"), at("volume/..data")]);
        assert_eq!(folders_to(&at("volume/a.toml")), expected);
        // A folder that is a symlink, and a file that links into it.
        symlink(at("volume"), at("current")).unwrap();
        symlink(at("current/a.toml"), at("elsewhere/b.toml")).unwrap();
        let expected =
            BTreeSet::from([at("elsewhere"), at("current"), root.path().to_owned(), at("current/..data")]);
        let found = folders_to(&at("elsewhere/b.toml"));
        assert!(found.is_superset(&expected), "{found:?}");
        assert_eq!(folders_to(Path::new("nowhere.toml")), BTreeSet::from([PathBuf::from(".")]));
    }

    #[test]
    fn a_look_is_no_change() {
        let kinds =
            [AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read), AccessKind::Read];
        assert!(kinds.iter().all(|kind| !may_change_content(EventKind::Access(*kind))));
        assert!(may_change_content(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(may_change_content(EventKind::Any));
    }
}
