//! Namespaces as the control plane sees them: found by id, listed by group, deleted with their group.

use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use uuid::Uuid;

use super::Control;
use super::groups::{Group, default_group_id};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{NamespaceName, OrgId};
use crate::namespace::{Engine, Metadata};

/// Namespaces whose metadata are read at once.
const READS_AT_ONCE: usize = 16;
/// Names per LIST.
const PAGE: usize = 1000;
/// The most namespaces that one page of a list looks at, whatever is left out of it.
const LOOKED_AT_MAX: usize = 5000;

/// A namespace and what is known of it.
#[derive(Clone, Debug)]
pub struct Database {
    pub name: NamespaceName,
    pub known: Metadata,
}

/// Which databases are wanted; what is absent does not matter.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub group: Option<Uuid>,
    /// The name of the namespace that it was made from.
    pub parent: Option<String>,
}

impl Wanted {
    fn fits(&self, org: &OrgId, known: &Metadata) -> bool {
        let group = known.settings.group.unwrap_or_else(|| default_group_id(org));
        let parent = known.settings.parent.as_ref().map(NamespaceName::as_str);
        self.group.is_none_or(|wanted| wanted == group) && self.parent.as_deref().is_none_or(|p| Some(p) == parent)
    }
}

/// One page of databases by name, and where the next begins. A page may be shorter than `limit` although there are
/// more.
///
/// Costs one LIST and one GET per namespace looked at; opens each.
pub async fn list(
    engine: &Engine,
    org: &OrgId,
    wanted: &Wanted,
    cursor: Option<&str>,
    limit: usize,
) -> Result<(Vec<Database>, Option<String>)> {
    let mut found = Vec::new();
    let mut cursor = cursor.map(str::to_owned);
    let mut looked_at = 0;
    loop {
        // Never more than still fit, so that the engine's cursor is ours.
        let page_size = (limit - found.len()).min(PAGE);
        let page = engine.list(org, "", cursor.as_deref(), page_size).await?;
        looked_at += page.names.len();
        let databases = describe_all(engine, org, page.names).await?;
        found.extend(databases.into_iter().filter(|d| wanted.fits(org, &d.known)));
        match page.next_cursor {
            Some(next) if found.len() < limit && looked_at < LOOKED_AT_MAX => cursor = Some(next),
            next => return Ok((found, next)),
        }
    }
}

/// What is known of these; without those that are gone.
async fn describe_all(engine: &Engine, org: &OrgId, names: Vec<NamespaceName>) -> Result<Vec<Database>> {
    let describe = |name: NamespaceName| async move {
        match engine.metadata(org, &name).await {
            Ok(known) => Ok(Some(Database { name, known })),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    };
    let described: Vec<_> = stream::iter(names.into_iter().map(describe))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(described.into_iter().flatten().collect())
}

/// Every database that is wanted, page by page.
async fn all(engine: &Engine, org: &OrgId, wanted: &Wanted) -> Result<Vec<Database>> {
    let (mut found, mut cursor) = list(engine, org, wanted, None, PAGE).await?;
    while let Some(next) = cursor {
        let (more, after) = list(engine, org, wanted, Some(&next), PAGE).await?;
        found.extend(more);
        cursor = after;
    }
    Ok(found)
}

/// The database with that id; `None` when there is none.
///
/// Ids are derived, and nothing leads from them to names: costs as listing all until it is found.
pub async fn by_id(engine: &Engine, org: &OrgId, id: Uuid) -> Result<Option<Database>> {
    let mut cursor = None;
    loop {
        let (page, next) = list(engine, org, &Wanted::default(), cursor.as_deref(), 100).await?;
        if let Some(found) = page.into_iter().find(|d| d.known.id == id) {
            return Ok(Some(found));
        }
        match next {
            Some(_) => cursor = next,
            None => return Ok(None),
        }
    }
}

/// Whether a group has no databases. Costs as listing them.
pub async fn is_empty(engine: &Engine, org: &OrgId, group: Uuid) -> Result<bool> {
    let wanted = Wanted {
        group: Some(group),
        ..Wanted::default()
    };
    Ok(all(engine, org, &wanted).await?.is_empty())
}

/// Deletes a group with all its databases; the names of those. What a crash leaves is done by the next try.
///
/// # Errors
///
/// 409 when it or one of its databases is protected; nothing is deleted then, unless protection came meanwhile.
pub async fn delete_group(control: &Control, engine: &Engine, org: &OrgId, group: &Group) -> Result<Vec<String>> {
    let group = control.begin_group_deletion(org, group.id).await?;
    let deleted = delete_databases(engine, org, &group).await;
    match deleted {
        Ok(names) => {
            control.finish_group_deletion(org, &group).await?;
            Ok(names)
        }
        Err(error) => {
            if error.kind == ErrorKind::Conflict {
                control.abandon_group_deletion(org, group.id).await?;
            }
            Err(error)
        }
    }
}

async fn delete_databases(engine: &Engine, org: &OrgId, group: &Group) -> Result<Vec<String>> {
    let wanted = Wanted {
        group: Some(group.id),
        ..Wanted::default()
    };
    let databases = all(engine, org, &wanted).await?;
    if let Some(protected) = databases.iter().find(|d| d.known.settings.delete_protection) {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "database {} of group {} is protected from deletion",
                protected.name, group.name
            ),
        ));
    }
    let mut names = Vec::with_capacity(databases.len());
    for database in databases {
        match engine.delete(org, &database.name).await {
            Ok(_) => names.push(database.name.as_str().to_owned()),
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}
