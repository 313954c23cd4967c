//! Namespaces that begin without rows.

use std::sync::Arc;

use bytes::Bytes;

use super::evaluate::What;
use super::{Engine, Metadata};
use crate::error::Result;
use crate::model::embed::Models;
use crate::model::{NamespaceName, OrgId, SettingsChange};

/// What a new namespace begins with.
#[derive(Clone, Debug, Default)]
pub struct Creation {
    /// What differs from the defaults.
    pub settings: SettingsChange,
    /// The JSON of a schema map, as [`Engine::update_schema`] takes it; bounded by the caller.
    pub schema: Option<Bytes>,
}

/// A creation that waits for its turn in the log.
pub(super) struct CreateRequest {
    pub settings: SettingsChange,
    pub schema: Option<Bytes>,
    /// What texts may be embedded with.
    pub models: Arc<Models>,
}

impl Engine {
    /// Creates a namespace without rows, and returns what is known of it. Of several who create one name at the
    /// same time, on any nodes, one succeeds.
    ///
    /// Costs what a first write costs: two PUTs in parallel, and a LIST when this node has not met the name before.
    ///
    /// # Errors
    ///
    /// 409 when it exists, 400 when schema or settings are wrong, 403 when the caller may not create it. After
    /// an outcome that is not known, a second try is answered 409 if the first one did it.
    pub async fn create(&self, org: &OrgId, name: &NamespaceName, creation: Creation) -> Result<Metadata> {
        let Creation { settings, schema } = creation;
        settings.check()?;
        let request = CreateRequest {
            settings,
            schema,
            models: self.inner.options.inference.models().clone(),
        };
        self.commit_and_describe(org, name, What::Create(request)).await
    }
}
