//! What can be found, how bad it is, and what to do about it.

use crate::store::paths::NsKey;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that is needed is gone or wrong.
    Damage,
    /// Nothing that is needed now is wrong.
    Notice,
}

/// What is wrong. Decides how bad it is and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// Entries of the log are gone that are in no segment.
    LogGap,
    /// A log entry is there and is not what was written.
    EntryDamaged,
    /// Every entry is whole, and they do not follow one another.
    LogBroken,
    /// Operations of an entry that lie beside it are gone or damaged.
    BlobLost,
    /// A manifest is there and is not what was written.
    ManifestDamaged,
    /// Manifests do not follow one another, or the log does not continue them.
    ManifestsBroken,
    /// A segment that the newest manifest names does not exist.
    SegmentMissing,
    /// A segment is not what was written, and rows of it are lost.
    SegmentDamaged,
    /// What was derived from the rows of a segment is damaged or wrong; the rows are whole.
    IndexWrong,
    /// Which rows of a segment are deleted is not known.
    DeletionsLost,
    /// A row is there twice.
    IdTwice,
    /// The entries of the log cannot be applied to what the newest manifest says.
    NotReplayable,
    /// Nothing keeps garbage collection from deleting what a branch shares.
    HoldMissing,
    /// It is not known what a hold is for.
    HoldDamaged,
    /// Something was written by a newer version of this program.
    Newer,
    /// The hint at the newest manifest is of no use.
    HintWrong,
    /// A state of the past cannot be restored any more.
    PastIncomplete,
}

impl FindingKind {
    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::HintWrong | Self::PastIncomplete => Severity::Notice,
            Self::LogGap
            | Self::EntryDamaged
            | Self::LogBroken
            | Self::BlobLost
            | Self::ManifestDamaged
            | Self::ManifestsBroken
            | Self::SegmentMissing
            | Self::SegmentDamaged
            | Self::IndexWrong
            | Self::DeletionsLost
            | Self::IdTwice
            | Self::NotReplayable
            | Self::HoldMissing
            | Self::HoldDamaged
            | Self::Newer => Severity::Damage,
        }
    }

    /// Its name in machine-readable output; never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::LogGap => "log_gap",
            Self::EntryDamaged => "entry_damaged",
            Self::LogBroken => "log_broken",
            Self::BlobLost => "blob_lost",
            Self::ManifestDamaged => "manifest_damaged",
            Self::ManifestsBroken => "manifests_broken",
            Self::SegmentMissing => "segment_missing",
            Self::SegmentDamaged => "segment_damaged",
            Self::IndexWrong => "index_wrong",
            Self::DeletionsLost => "deletions_lost",
            Self::IdTwice => "id_twice",
            Self::NotReplayable => "not_replayable",
            Self::HoldMissing => "hold_missing",
            Self::HoldDamaged => "hold_damaged",
            Self::Newer => "newer",
            Self::HintWrong => "hint_wrong",
            Self::PastIncomplete => "past_incomplete",
        }
    }

    /// What an operator does about it, in a sentence.
    pub fn advice(self) -> &'static str {
        match self {
            Self::LogGap | Self::EntryDamaged | Self::LogBroken | Self::BlobLost => {
                "put the object back from a version or copy of the bucket, then restart the nodes; without one, restore \
                 the namespace to a time before it"
            }
            Self::ManifestDamaged => {
                "put the object back from a version or copy of the bucket; while the log after the manifest before it \
                 is whole, nodes use that one"
            }
            Self::ManifestsBroken => {
                "somebody has put back or replaced objects: put the newest manifest and the log of one time back"
            }
            Self::SegmentMissing | Self::SegmentDamaged | Self::DeletionsLost => {
                "put the object back from a version or copy of the bucket, then restart the nodes; without one, restore \
                 the namespace to a time before it was written"
            }
            Self::IndexWrong => {
                "the rows are whole: put the object back, or make a new namespace of them by `shoal restore` as of now, \
                 which writes rows and indexes anew"
            }
            Self::IdTwice => "write or delete the row: that replaces all of it; and report a bug, with this output",
            Self::NotReplayable => "mend what else is reported first; if nothing is, report a bug, with this output",
            Self::HoldMissing => {
                "stop garbage collection (gc.dry_run), copy the branch to a new name (copy_from_namespace), then delete it"
            }
            Self::HoldDamaged => {
                "put the object back, or delete it when no branch of this namespace is left; until then nothing here is \
                 collected"
            }
            Self::Newer => "look with the version of this program that wrote it",
            Self::HintWrong => "nothing: it is written again with the next manifest, and nodes do without it",
            Self::PastIncomplete => {
                "nothing: garbage collection removes the rest; only restoring to then is not possible"
            }
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    /// The key of the object, or of the directory where it is something missing among many.
    pub object: String,
    /// What is wrong with it, in a sentence.
    pub what: String,
}

/// What is known of a namespace after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub namespace: NsKey,
    /// Damage first.
    pub findings: Vec<Finding>,
    /// Whether there are more findings than are listed.
    pub is_cut: bool,
    /// How many objects lie in its directory, and their bytes.
    pub objects: u64,
    pub bytes: u64,
    pub manifests: u64,
    pub entries: u64,
    /// Of the newest manifest.
    pub segments: u64,
    /// Live rows: of the newest manifest; after a deep look, of all of the log.
    pub rows: u64,
    /// Segments and deletion bitmaps that nothing names, and after a deep look blobs: garbage collection's, or uploaded a
    /// moment ago.
    pub orphans: u64,
    pub orphan_bytes: u64,
    /// Objects that are not Shoal's.
    pub foreign: u64,
}

impl Report {
    /// Whether nothing is damaged.
    pub fn is_whole(&self) -> bool {
        self.damages() == 0
    }

    /// How many findings are damage.
    pub fn damages(&self) -> usize {
        let is_damage = |f: &&Finding| f.kind.severity() == Severity::Damage;
        self.findings.iter().filter(is_damage).count()
    }
}
