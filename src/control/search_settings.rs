//! What Typesense's clients keep beside documents: details of collections, synonym sets, presets, stop words.
//!
//! Each is a record of the organization. Searches read them through the node's memory of the control plane, so
//! that a warm search asks the store for none of them; changes are announced, so that every node has them
//! within its revalidation interval.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use super::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::paths::control::{self as paths, Named};

/// The largest record, in bytes of JSON.
pub const SETTING_BYTES_MAX: usize = 1 << 20;
/// The most bytes of records that a list reads.
const LISTED_BYTES_MAX: usize = 32 << 20;
/// The longest name of one, in bytes.
pub const SETTING_NAME_BYTES_MAX: usize = 256;

/// A record that has a name in its organization.
pub trait Setting: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Where its records are.
    const KIND: Named;
    /// What it is called in sentences.
    const WHAT: &'static str;
}

/// What a collection's maker said that the schema of its namespace has no place for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collection {
    /// The namespace that it describes; another one may have the name by now.
    pub namespace: Uuid,
    pub fields: Vec<Field>,
    #[serde(default)]
    pub default_sorting_field: String,
    #[serde(default)]
    pub enable_nested_fields: bool,
    #[serde(default)]
    pub token_separators: Vec<String>,
    #[serde(default)]
    pub symbols_to_index: Vec<String>,
    #[serde(default)]
    pub synonym_sets: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
}

/// One declared field, as Typesense prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: String,
    #[serde(default)]
    pub facet: bool,
    #[serde(default)]
    pub optional: bool,
    #[serde(default = "yes")]
    pub index: bool,
    #[serde(default)]
    pub sort: bool,
    #[serde(default)]
    pub infix: bool,
    #[serde(default)]
    pub locale: String,
    #[serde(default)]
    pub stem: bool,
    #[serde(default = "yes")]
    pub store: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_dim: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vec_dist: Option<String>,
}

fn yes() -> bool {
    true
}

/// Words that stand for each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SynonymSet {
    pub name: String,
    pub items: Vec<Synonym>,
}

/// One group of synonyms: of each other, or of `root` alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Synonym {
    pub id: String,
    pub synonyms: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols_to_index: Option<Vec<String>>,
}

/// Parameters of searches under a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    pub name: String,
    pub value: Json,
}

/// Words to leave out of queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopwordSet {
    pub id: String,
    pub stopwords: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
}

impl Setting for Collection {
    const KIND: Named = Named::Collection;
    const WHAT: &'static str = "collection";
}

impl Setting for SynonymSet {
    const KIND: Named = Named::SynonymSet;
    const WHAT: &'static str = "synonym set";
}

impl Setting for Preset {
    const KIND: Named = Named::Preset;
    const WHAT: &'static str = "preset";
}

impl Setting for StopwordSet {
    const KIND: Named = Named::StopwordSet;
    const WHAT: &'static str = "stopwords set";
}

impl Control {
    /// The record of that name; `None` when there is none. Remembered.
    ///
    /// Costs nothing warm; one LIST and one GET cold.
    pub async fn setting<T: Setting>(&self, org: &OrgId, name: &str) -> Result<Option<Arc<T>>> {
        if check_name::<T>(name).is_err() {
            // There cannot be one, and the store need not hear of names that it could not take.
            return Ok(None);
        }
        let record = paths::named(org, T::KIND, name);
        self.cache()
            .get(org, record.as_ref(), || async {
                Ok(self.records().get::<T>(&record).await?)
            })
            .await
    }

    /// All records of a kind, by name. Costs one LIST per thousand and one GET each.
    pub async fn settings<T: Setting>(&self, org: &OrgId) -> Result<Vec<T>> {
        let directory = paths::all_named(org, T::KIND);
        let found = self.records().values_within::<T>(&directory, LISTED_BYTES_MAX).await?;
        let found = found.ok_or_else(|| {
            Error::invalid(format!(
                "the {}s have more than {} MB together and cannot be listed; ask for them by their names",
                T::WHAT,
                LISTED_BYTES_MAX >> 20
            ))
        })?;
        let mut named: Vec<(String, T)> = found
            .into_iter()
            .filter_map(|(revision, value)| Some((paths::parse_named(&revision)?, value)))
            .collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(named.into_iter().map(|(_, value)| value).collect())
    }

    /// Changes a record, or makes one: `change` is given what is there and says what shall be, `None` to remove it.
    /// It may be called several times.
    ///
    /// Costs two LISTs, two GETs and two PUTs.
    ///
    /// # Errors
    ///
    /// `change`'s own; 400 when the record is too large.
    pub async fn change_setting<T: Setting>(
        &self,
        org: &OrgId,
        name: &str,
        mut change: impl FnMut(Option<T>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        check_name::<T>(name)?;
        let record = paths::named(org, T::KIND, name);
        let bounded = |before: Option<T>| {
            let after = change(before)?;
            let bytes = after.as_ref().map(serde_json::to_vec).transpose();
            let bytes = bytes.map_err(|e| Error::new(ErrorKind::Internal, "internal error").because(e))?;
            match bytes.is_some_and(|b| b.len() > SETTING_BYTES_MAX) {
                true => Err(Error::invalid(format!(
                    "a {} can have at most {SETTING_BYTES_MAX} bytes of JSON",
                    T::WHAT
                ))),
                false => Ok(after),
            }
        };
        let written = self.records().update(&record, bounded).await?;
        self.cache().changed(org).await?;
        Ok(written.value)
    }

    /// Makes or replaces a record. Costs as [`Control::change_setting`].
    ///
    /// # Errors
    ///
    /// 400 when the name or the record is too large.
    pub async fn put_setting<T: Setting>(&self, org: &OrgId, name: &str, value: T) -> Result<()> {
        self.change_setting(org, name, |_| Ok(Some(value.clone()))).await?;
        Ok(())
    }

    /// Removes a record and returns it; `None` when there was none. Costs as [`Control::change_setting`].
    pub async fn remove_setting<T: Setting>(&self, org: &OrgId, name: &str) -> Result<Option<T>> {
        let mut removed = None;
        let take = |before: Option<T>| {
            removed = before;
            match removed {
                Some(_) => Ok(None),
                None => Err(Error::new(ErrorKind::NotFound, format!("there is no such {}", T::WHAT))),
            }
        };
        match self.change_setting(org, name, take).await {
            Ok(_) => Ok(removed),
            Err(error) if error.kind == ErrorKind::NotFound && removed.is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn check_name<T: Setting>(name: &str) -> Result<()> {
    match (1..=SETTING_NAME_BYTES_MAX).contains(&name.len()) {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "the name of a {} must have 1 to {SETTING_NAME_BYTES_MAX} bytes",
            T::WHAT
        ))),
    }
}
