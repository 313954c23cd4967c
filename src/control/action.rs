//! What may be allowed: one list for keys, tokens and roles (api-keys reference §8).

use std::fmt;

macro_rules! actions {
    ($($variant:ident = $name:literal,)*) => {
        /// One thing that a caller may be allowed to do, written `resource:operation`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $($variant,)* }

        impl Action {
            /// Every action there is.
            pub const ALL: &'static [Action] = &[$(Action::$variant,)*];

            /// The name in keys and answers.
            pub fn name(self) -> &'static str {
                match self { $(Action::$variant => $name,)* }
            }
        }
    };
}

actions! {
    DocumentsSearch = "documents:search",
    DocumentsGet = "documents:get",
    DocumentsCreate = "documents:create",
    DocumentsUpsert = "documents:upsert",
    DocumentsUpdate = "documents:update",
    DocumentsDelete = "documents:delete",
    DocumentsImport = "documents:import",
    DocumentsExport = "documents:export",
    CollectionsCreate = "collections:create",
    CollectionsGet = "collections:get",
    CollectionsList = "collections:list",
    CollectionsUpdate = "collections:update",
    CollectionsDelete = "collections:delete",
    KeysCreate = "keys:create",
    KeysList = "keys:list",
    KeysGet = "keys:get",
    KeysDelete = "keys:delete",
    SynonymSetsList = "synonym_sets:list",
    SynonymSetsGet = "synonym_sets:get",
    SynonymSetsUpsert = "synonym_sets:upsert",
    SynonymSetsDelete = "synonym_sets:delete",
    SynonymItemsList = "synonym_sets/items:list",
    SynonymItemsGet = "synonym_sets/items:get",
    SynonymItemsUpsert = "synonym_sets/items:upsert",
    SynonymItemsDelete = "synonym_sets/items:delete",
    PresetsList = "presets:list",
    PresetsGet = "presets:get",
    PresetsUpsert = "presets:upsert",
    PresetsDelete = "presets:delete",
    StopwordsList = "stopwords:list",
    StopwordsGet = "stopwords:get",
    StopwordsUpsert = "stopwords:upsert",
    StopwordsDelete = "stopwords:delete",
    MetricsList = "metrics.json:list",
    StatsList = "stats.json:list",
    DebugList = "debug:list",
    TokensCreate = "tokens:create",
    TokensList = "tokens:list",
    TokensRotate = "tokens:rotate",
    TokensDelete = "tokens:delete",
    AuditList = "audit:list",
    UsageGet = "usage:get",
    GroupsCreate = "groups:create",
    GroupsGet = "groups:get",
    GroupsList = "groups:list",
    GroupsUpdate = "groups:update",
    GroupsDelete = "groups:delete",
    MembersList = "members:list",
    MembersCreate = "members:create",
    MembersUpdate = "members:update",
    MembersDelete = "members:delete",
    OrganizationsGet = "organizations:get",
    OrganizationsUpdate = "organizations:update",
    OrganizationsDelete = "organizations:delete",
}

impl Action {
    /// The action of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|a| a.name() == name)
    }

    /// The part before the first `:`.
    pub fn resource(self) -> &'static str {
        self.name().split(':').next().unwrap_or_default()
    }

    fn bit(self) -> u64 {
        1 << (self as u32)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of actions. The empty set allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ActionSet(u64);

impl ActionSet {
    /// No action.
    pub const NONE: ActionSet = ActionSet(0);

    /// Every action: everything in an organization.
    pub fn all() -> Self {
        Action::ALL.iter().copied().collect()
    }

    /// The actions that the entries of a key cover: `*`, `resource:*`, or a name. Also the names of older
    /// versions: `synonyms:…` for both resources of synonym sets, `stopwords:create` for `stopwords:upsert`.
    ///
    /// # Errors
    ///
    /// The first entry that names nothing.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        entries.into_iter().try_fold(Self::NONE, |set, entry| {
            let found = Self::of_entry(entry);
            if found == Self::NONE {
                Err(entry)
            } else {
                Ok(set.union(found))
            }
        })
    }

    fn of_entry(entry: &str) -> Self {
        if entry == "*" {
            return Self::all();
        }
        let Some((resource, operation)) = entry.split_once(':') else {
            return Self::NONE;
        };
        let resources: &[&str] = match resource {
            "synonyms" => &["synonym_sets", "synonym_sets/items"],
            _ => &[resource],
        };
        let operation = match (resource, operation) {
            ("stopwords", "create") => "upsert",
            _ => operation,
        };
        let covers = |a: &Action| {
            let name = a.name().split_once(':').map_or("", |(_, operation)| operation);
            resources.contains(&a.resource()) && (operation == "*" || operation == name)
        };
        Action::ALL.iter().copied().filter(covers).collect()
    }

    /// Whether the action is in the set.
    pub fn contains(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// The actions of either.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The actions of both.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The actions of this set that the other lacks.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every action of this set is in the other.
    pub fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The actions, in the order of [`Action::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.iter().copied().filter(move |a| self.contains(*a))
    }
}

impl FromIterator<Action> for ActionSet {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |bits, a| bits | a.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_a_name_and_a_bit_of_its_own() {
        assert!(Action::ALL.len() <= 64);
        for action in Action::ALL {
            assert_eq!(Action::parse(action.name()), Some(*action));
        }
        assert_eq!(ActionSet::all().iter().count(), Action::ALL.len());
    }

    #[test]
    fn an_entry_covers_its_resource_and_no_other() {
        let parse = |entries: &[&'static str]| ActionSet::parse(entries.iter().copied());
        assert_eq!(parse(&["*"]), Ok(ActionSet::all()));
        let documents = parse(&["documents:*"]).expect("known");
        assert!(documents.contains(Action::DocumentsSearch) && documents.iter().count() == 8);
        let sets = parse(&["synonym_sets:*"]).expect("known");
        assert!(sets.contains(Action::SynonymSetsGet) && !sets.contains(Action::SynonymItemsUpsert));
        let both = parse(&["synonyms:*"]).expect("known");
        assert!(both.contains(Action::SynonymSetsGet) && both.contains(Action::SynonymItemsUpsert));
        let stopwords = parse(&["stopwords:create"]).expect("known");
        assert_eq!(stopwords, ActionSet::from_iter([Action::StopwordsUpsert]));
        for bad in [
            "",
            ":",
            "documents",
            "documents:",
            "documents:fly",
            "*:*",
            "aliases:list",
            "documents:search ",
        ] {
            assert_eq!(parse(&["documents:search", bad]), Err(bad), "{bad:?}");
        }
        assert_eq!(parse(&[]), Ok(ActionSet::NONE));
    }
}
