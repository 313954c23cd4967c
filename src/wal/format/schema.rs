//! Schema changes as messages. Shared with other formats that keep attributes.

use std::sync::Arc;

use super::{DecodeError, proto};
use crate::model::schema::{Embed, Language, SchemaChange, Tokenizer};
use crate::model::types::DIMS_MAX;
use crate::model::{AttrId, AttrType, Attribute, FullTextConfig, IdKind, Metric};

/// A schema change as a message.
pub fn change_to_proto(change: &SchemaChange) -> proto::SchemaChange {
    proto::SchemaChange {
        id_kind: change.id_kind.map_or(proto::IdKind::Unspecified, id_kind_to_proto) as i32,
        drops: change.drops.iter().map(|name| name.to_string()).collect(),
        puts: change.puts.iter().map(attribute_to_proto).collect(),
    }
}

/// The schema change of a message.
///
/// # Errors
///
/// [`DecodeError::Newer`] on names and numbers this version does not know.
pub fn change_from_proto(change: &proto::SchemaChange) -> Result<SchemaChange, DecodeError> {
    Ok(SchemaChange {
        id_kind: id_kind_from_proto(change.id_kind)?,
        drops: change.drops.iter().map(|name| name.as_str().into()).collect(),
        puts: change
            .puts
            .iter()
            .map(attribute_from_proto)
            .collect::<Result<Vec<_>, _>>()?,
    })
}

/// A kind of id as a message.
pub fn id_kind_to_proto(kind: IdKind) -> proto::IdKind {
    match kind {
        IdKind::UInt => proto::IdKind::Uint,
        IdKind::Uuid => proto::IdKind::Uuid,
        IdKind::String => proto::IdKind::String,
    }
}

/// The kind of id of a message; `None` when unspecified. Errors as for [`change_from_proto`].
pub fn id_kind_from_proto(kind: i32) -> Result<Option<IdKind>, DecodeError> {
    let kind = proto::IdKind::try_from(kind).map_err(|_| DecodeError::newer(format!("unknown id kind {kind}")))?;
    Ok(match kind {
        proto::IdKind::Unspecified => None,
        proto::IdKind::Uint => Some(IdKind::UInt),
        proto::IdKind::Uuid => Some(IdKind::Uuid),
        proto::IdKind::String => Some(IdKind::String),
    })
}

/// An attribute as a message.
pub fn attribute_to_proto(attribute: &Attribute) -> proto::Attribute {
    proto::Attribute {
        id: attribute.id.0,
        name: attribute.name.to_string(),
        r#type: attribute.ty.to_string(),
        filterable: attribute.filterable,
        full_text: attribute.full_text.as_ref().map(full_text_to_proto),
        regex: attribute.regex,
        glob: attribute.glob,
        fuzzy: attribute.fuzzy,
        ann: metric_to_proto(attribute.ann),
        metric: metric_to_proto(attribute.metric),
        late_interaction: attribute.late_interaction,
        sparse_knn: attribute.sparse_knn,
        embed: attribute.embed.as_ref().map(|embed| proto::Embed {
            model: embed.model.to_string(),
            target: embed.target.to_string(),
        }),
        nullable: attribute.nullable,
    }
}

/// The attribute of a message. Errors as for [`change_from_proto`].
pub fn attribute_from_proto(attribute: &proto::Attribute) -> Result<Attribute, DecodeError> {
    if AttrId(attribute.id) > AttrId::MAX {
        // The schema keeps the next free number, which must exist.
        return Err(DecodeError::corrupt(format!(
            "an attribute has the number {}",
            attribute.id
        )));
    }
    Ok(Attribute {
        id: AttrId(attribute.id),
        name: Arc::from(attribute.name.as_str()),
        ty: type_from_proto(&attribute.r#type)?,
        filterable: attribute.filterable,
        full_text: attribute.full_text.as_ref().map(full_text_from_proto).transpose()?,
        regex: attribute.regex,
        glob: attribute.glob,
        fuzzy: attribute.fuzzy,
        ann: metric_from_proto(attribute.ann)?,
        metric: metric_from_proto(attribute.metric)?,
        late_interaction: attribute.late_interaction,
        sparse_knn: attribute.sparse_knn,
        embed: attribute.embed.as_ref().map(|embed| Embed {
            model: embed.model.as_str().into(),
            target: embed.target.as_str().into(),
        }),
        nullable: attribute.nullable,
    })
}

/// The type of that name. A well-formed entry only has names that its writer knew, so an unknown
/// one comes from a newer version.
pub fn type_from_proto(name: &str) -> Result<AttrType, DecodeError> {
    AttrType::parse(name).map_err(|_| {
        let shown: String = name.chars().take(64).collect();
        DecodeError::newer(format!(
            "unknown attribute type {shown:?} (vectors have 1 to {DIMS_MAX} dimensions)"
        ))
    })
}

fn metric_to_proto(metric: Option<Metric>) -> i32 {
    let metric = match metric {
        None => proto::Metric::Unspecified,
        Some(Metric::CosineDistance) => proto::Metric::CosineDistance,
        Some(Metric::EuclideanSquared) => proto::Metric::EuclideanSquared,
    };
    metric as i32
}

fn metric_from_proto(metric: i32) -> Result<Option<Metric>, DecodeError> {
    let metric = proto::Metric::try_from(metric).map_err(|_| DecodeError::newer(format!("unknown metric {metric}")))?;
    Ok(match metric {
        proto::Metric::Unspecified => None,
        proto::Metric::CosineDistance => Some(Metric::CosineDistance),
        proto::Metric::EuclideanSquared => Some(Metric::EuclideanSquared),
    })
}

fn full_text_to_proto(config: &FullTextConfig) -> proto::FullText {
    proto::FullText {
        tokenizer: name_of(&Tokenizer::ALL, config.tokenizer).to_owned(),
        language: name_of(&Language::ALL, config.language).to_owned(),
        stemming: config.stemming,
        remove_stopwords: config.remove_stopwords,
        case_sensitive: config.case_sensitive,
        ascii_folding: config.ascii_folding,
        max_token_length: config.max_token_length,
        k1: config.k1,
        b: config.b,
        k3: config.k3,
    }
}

fn full_text_from_proto(config: &proto::FullText) -> Result<FullTextConfig, DecodeError> {
    let config = FullTextConfig {
        tokenizer: value_of(&Tokenizer::ALL, &config.tokenizer, "tokenizer")?,
        language: value_of(&Language::ALL, &config.language, "language")?,
        stemming: config.stemming,
        remove_stopwords: config.remove_stopwords,
        case_sensitive: config.case_sensitive,
        ascii_folding: config.ascii_folding,
        max_token_length: config.max_token_length,
        k1: config.k1,
        b: config.b,
        k3: config.k3,
    };
    match config.is_in_range() {
        true => Ok(config),
        false => Err(DecodeError::corrupt(
            "how texts are searched says numbers that cannot be",
        )),
    }
}

fn name_of<T: PartialEq>(table: &[(T, &'static str)], value: T) -> &'static str {
    table
        .iter()
        .find(|(v, _)| *v == value)
        .map(|(_, name)| *name)
        .expect("the table lists every value")
}

fn value_of<T: Copy>(table: &[(T, &'static str)], name: &str, what: &str) -> Result<T, DecodeError> {
    let found = table.iter().find(|(_, n)| *n == name).map(|(value, _)| *value);
    found.ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        DecodeError::newer(format!("unknown {what} {shown:?}"))
    })
}
