//! Which namespaces were pinned on this node, remembered over a restart.
//!
//! Lies in the directory of the cache, a line `organization/namespace` for each. It is only a hint: what is missing is
//! pinned when somebody uses it, and what is too much is looked at once.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::model::{NamespaceName, OrgId};

/// More names than fit into this many bytes are not remembered.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A namespace and whose it is.
pub(super) type Named = (OrgId, NamespaceName);

/// See the module.
#[derive(Default)]
pub(super) struct Remembered {
    /// `None` without a directory: nothing is remembered.
    file: Option<PathBuf>,
    /// Held to read or change it.
    names: Mutex<BTreeSet<Named>>,
    /// Held to write the file, so that the newest names are written last.
    writing: Mutex<()>,
}

impl Remembered {
    /// What an earlier run left in the directory of the cache.
    pub fn load(directory: Option<&Path>) -> Self {
        let Some(file) = directory.map(|d| d.join("pinned")) else {
            return Self::default();
        };
        let mut bytes = Vec::new();
        let opened = File::open(&file);
        let _ = opened.and_then(|f| f.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        Self {
            file: Some(file),
            names: Mutex::new(parse(&bytes)),
            writing: Mutex::default(),
        }
    }

    /// All of them, in order.
    pub fn names(&self) -> Vec<Named> {
        lock(&self.names).iter().cloned().collect()
    }

    /// Notes whether a namespace is pinned. Whether [`write`](Self::write) has something to write then.
    pub fn note(&self, name: &Named, pinned: bool) -> bool {
        if self.file.is_none() {
            return false;
        }
        let mut names = lock(&self.names);
        match pinned {
            true => names.insert(name.clone()),
            false => names.remove(name),
        }
    }

    /// Writes down what is known. Blocks; a failure is logged, and costs that some are not brought after a restart.
    pub fn write(&self) {
        let Some(file) = &self.file else { return };
        let _turn = lock(&self.writing);
        let lines: Vec<String> = self
            .names()
            .iter()
            .map(|(org, name)| format!("{org}/{name}\n"))
            .collect();
        let written = file.with_extension("new");
        let done = std::fs::write(&written, lines.concat()).and_then(|()| std::fs::rename(&written, file));
        if let Err(error) = done {
            tracing::warn!(%error, file = %file.display(), "what is pinned could not be written down");
        }
    }
}

/// Lines that are no names are left out, and so is the last one if it has no end.
fn parse(bytes: &[u8]) -> BTreeSet<Named> {
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|b| *b == b'\n');
    let named = lines.filter_map(|line| {
        let (org, name) = std::str::from_utf8(line).ok()?.split_once('/')?;
        Some((OrgId::parse(org).ok()?, NamespaceName::parse(name).ok()?))
    });
    named.collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(org: &str, name: &str) -> Named {
        let org = OrgId::parse(org).expect("valid");
        (org, NamespaceName::parse(name).expect("valid"))
    }

    #[test]
    fn names_are_found_again() {
        let dir = tempfile::tempdir().expect("room");
        let (one, other) = (named("a", "x.1"), named("b", "x.1"));
        let remembered = Remembered::load(Some(dir.path()));
        assert!(remembered.names().is_empty());
        assert!(remembered.note(&one, true) && !remembered.note(&one, true));
        assert!(remembered.note(&other, true));
        remembered.write();
        let again = Remembered::load(Some(dir.path()));
        assert_eq!(again.names(), [one.clone(), other.clone()]);
        assert!(again.note(&one, false) && !again.note(&one, false));
        again.write();
        assert_eq!(Remembered::load(Some(dir.path())).names(), [other]);
        // Nowhere to write to.
        let nowhere = Remembered::load(None);
        assert!(!nowhere.note(&one, true));
        nowhere.write();
        let gone = Remembered::load(Some(Path::new("/nowhere/at/all")));
        assert!(gone.note(&one, true));
        gone.write();
    }

    #[test]
    fn lines_that_are_no_names_are_left_out() {
        let bytes = b"a/x\n\n/\nA/x\nb/\nno\n\xff/x\nb/y\nc/cut off";
        assert_eq!(parse(bytes), [named("a", "x"), named("b", "y")].into());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            parse(&bytes);
        }
    }
}
