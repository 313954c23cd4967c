//! A schema while one request changes it: what may change, and into what.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::body;
use super::embed;
use super::entry::{EmbedEntry, Entry};
use crate::model::embed::Models;
use crate::model::names::check_attribute_name;
use crate::model::schema::SchemaChange;
use crate::model::{AttrType, Attribute, IdKind, Invalid, Limits, Metric, Scalar, Schema};

/// The longest schema text; about four times what 1,024 fully spelled out entries need. It is the
/// one part of a write that becomes a tree of values, which takes some ten times its text.
const SCHEMA_BYTES_MAX: usize = 4 << 20;

/// A schema while one request changes it.
pub(super) struct Draft<'a> {
    pub(super) base: &'a Schema,
    pub(super) limits: &'a Limits,
    /// The models that texts may be embedded with.
    pub(super) models: &'a Models,
    pub schema: Schema,
    pub(super) drops: Vec<Arc<str>>,
    /// What is declared about embedding, to be settled when every attribute is known.
    pub(super) embeds: Vec<(Arc<str>, EmbedEntry)>,
    /// Declared, but without a type so far: the rows will tell.
    untyped: BTreeMap<Arc<str>, Entry>,
    /// The request's `distance_metric`.
    pub(super) metric: Option<Metric>,
    /// The columns whose metric the request spells out.
    own_metric: Vec<Arc<str>>,
    /// Every name in the declared schema.
    pub declared: Vec<Arc<str>>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(base: &'a Schema, limits: &'a Limits, models: &'a Models, metric: Option<Metric>) -> Self {
        Self {
            base,
            limits,
            models,
            schema: base.clone(),
            drops: Vec::new(),
            embeds: Vec::new(),
            untyped: BTreeMap::new(),
            metric,
            own_metric: Vec::new(),
            declared: Vec::new(),
        }
    }

    /// Applies a schema's text: an object of entries.
    pub(super) fn declare(&mut self, text: &str) -> Result<(), Invalid> {
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(Invalid::new(format!(
                "schema may have at most {SCHEMA_BYTES_MAX} bytes"
            )));
        }
        let entries: Map<String, Value> = serde_json::from_str(text).map_err(|e| body::invalid_json("schema", &e))?;
        for (name, value) in entries {
            self.declare_one(&name, value)
                .map_err(|e| prefix(&format!("schema of attribute {name:?}"), e))?;
        }
        embed::settle(self)
    }

    fn declare_one(&mut self, name: &str, value: Value) -> Result<(), Invalid> {
        if name == "id" {
            return self.declare_id(value);
        }
        // Whether a column of that name may exist is settled with the embedded attributes.
        if !embed::is_generated(name) {
            check_attribute_name(name)?;
        }
        let entry = Entry::parse(value)?;
        let name: Arc<str> = name.into();
        self.declared.push(name.clone());
        if entry.drop {
            if self.schema.get(&name).is_none() {
                return Err(Invalid::new("attribute not found, so it cannot be dropped"));
            }
            self.schema.drop_attribute(&name);
            self.drops.push(name);
            return Ok(());
        }
        if entry.ann.is_some_and(|ann| ann.metric.is_some()) {
            self.own_metric.push(name.clone());
        }
        let known = entry.ty.or(self.schema.get(&name).map(|a| a.ty));
        let embedded = matches!(entry.embed, Some(EmbedEntry::On { .. }));
        if let Some(embed) = &entry.embed {
            self.embeds.push((name.clone(), embed.clone()));
        }
        match known.or(embedded.then_some(AttrType::Scalar(Scalar::String))) {
            Some(ty) => self.put(&name, ty, &entry),
            None => {
                self.untyped.insert(name, entry);
                Ok(())
            }
        }
    }

    fn declare_id(&mut self, value: Value) -> Result<(), Invalid> {
        let name = match &value {
            Value::String(name) => name,
            Value::Object(map) => {
                // A schema as we print it may come back: nulls say nothing.
                if let Some((key, _)) = map.iter().find(|(k, v)| *k != "type" && !v.is_null()) {
                    return Err(Invalid::new(format!("the id can have a type only, not {key}")));
                }
                match map.get("type") {
                    Some(Value::String(name)) => name,
                    _ => return Err(Invalid::new("type must be uint, uuid or string")),
                }
            }
            _ => return Err(Invalid::shape("expected a type name or an object")),
        };
        let kind = IdKind::parse(name)
            .ok_or_else(|| Invalid::new(format!("type must be uint, uuid or string, got {name:?}")))?;
        self.set_id_kind(kind)
    }

    /// Sets the kind of the ids, or checks that it is the one the namespace has.
    pub(super) fn set_id_kind(&mut self, kind: IdKind) -> Result<(), Invalid> {
        match self.schema.id_kind {
            Some(current) if current != kind => Err(Invalid::new(format!(
                "the id type cannot change from {} to {}",
                current.name(),
                kind.name()
            ))),
            _ => {
                self.schema.id_kind = Some(kind);
                Ok(())
            }
        }
    }

    /// Adds an attribute whose type the rows have shown.
    pub(super) fn infer(&mut self, name: &Arc<str>, ty: AttrType) -> Result<(), Invalid> {
        let entry = self.untyped.remove(name).unwrap_or_default();
        self.put(name, ty, &entry)
            .map_err(|e| prefix(&format!("attribute {name:?}"), e))
    }

    fn put(&mut self, name: &Arc<str>, ty: AttrType, entry: &Entry) -> Result<(), Invalid> {
        let existing = self.schema.get(name);
        if let Some(existing) = existing.filter(|a| a.ty != ty) {
            return Err(Invalid::new(format!(
                "the type cannot change from {} to {ty}",
                existing.ty
            )));
        }
        if existing.is_none() {
            // A kind of id means that something was written: §6.4, vector columns are chosen at creation.
            if ty.is_vector() && self.base.id_kind.is_some() {
                return Err(Invalid::new(
                    "vector columns can only be added when the namespace is created",
                ));
            }
            self.check_room(ty)?;
        }
        let is_new = existing.is_none();
        let mut attribute = match existing {
            Some(existing) => existing.clone(),
            None => Attribute::new(self.schema.next_attribute_id(), name.clone(), ty),
        };
        entry.apply_options(&mut attribute, is_new)?;
        entry.apply_ann(&mut attribute, is_new, self.metric)?;
        self.schema.put(attribute);
        Ok(())
    }

    /// Whether one more attribute of that type may exist.
    pub(super) fn check_room(&self, ty: AttrType) -> Result<(), Invalid> {
        if self.schema.len() >= self.limits.attributes_max {
            let max = self.limits.attributes_max;
            return Err(Invalid::new(format!("a namespace may have at most {max} attributes")));
        }
        if !self.schema.has_numbers_for(1) {
            return Err(Invalid::new(
                "the namespace has had so many attributes that no number is left for a new one",
            ));
        }
        if !ty.is_vector() {
            return Ok(());
        }
        let max = self.limits.vector_columns_max;
        if self.schema.vectors().count() >= max {
            return Err(Invalid::new(format!(
                "a namespace may have at most {max} vector columns"
            )));
        }
        Ok(())
    }

    /// Checks the request's `distance_metric` against the columns that were there before. A column
    /// whose metric the same request spells out goes by that.
    pub(super) fn check_metric(&self) -> Result<(), Invalid> {
        let Some(metric) = self.metric else { return Ok(()) };
        let mut others = self
            .base
            .vectors()
            .filter(|a| !self.own_metric.contains(&a.name))
            .peekable();
        let Some(first) = others.peek().copied() else {
            return Ok(());
        };
        if others.any(|a| a.metric == Some(metric)) {
            return Ok(());
        }
        let current = first.metric.map_or("none", Metric::name);
        Err(Invalid::new(format!(
            "distance_metric cannot change: attribute {:?} has {current}, got {}",
            first.name,
            metric.name()
        )))
    }

    /// The whole change.
    ///
    /// # Errors
    ///
    /// When a declared attribute has no type still.
    pub(super) fn finish(self) -> Result<(SchemaChange, Schema), Invalid> {
        if let Some(name) = self.untyped.keys().next() {
            return Err(Invalid::new(format!(
                "schema of attribute {name:?}: type is missing and cannot be inferred"
            )));
        }
        let puts = self.schema.attributes().filter(|a| self.base.get(&a.name) != Some(*a));
        let change = SchemaChange {
            id_kind: self.schema.id_kind.filter(|_| self.base.id_kind.is_none()),
            puts: puts.cloned().collect(),
            drops: self.drops,
        };
        Ok((change, self.schema))
    }
}

/// The same error, saying where.
pub(super) fn prefix(place: &str, e: Invalid) -> Invalid {
    Invalid {
        kind: e.kind,
        message: format!("{place}: {}", e.message),
    }
}
