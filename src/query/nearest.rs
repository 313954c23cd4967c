//! Query vectors, typed against the column that they are compared with.

use std::ops::Range;

use arrow::array::{AsArray, LargeBinaryArray};

use crate::base::Bitset;
use crate::index::vector::{Cutoff, LatePart, LateQuery, Part, PreparedQuery, TopK, scan_late, scan_rows};
use crate::model::query::VectorQuery;
use crate::model::{AttrId, AttrType, Attribute, Column, Invalid, Limits, Metric, Schema};
use crate::tail::Chunk;

/// A vector, or several, to measure the rows of one column with.
pub struct BoundVectors {
    attribute: AttrId,
    metric: Metric,
    query: Prepared,
}

enum Prepared {
    One(PreparedQuery),
    Late(LateQuery),
}

/// Checks the vectors of a query against the column `name` and prepares them.
///
/// * `indexed` — whether the column must have an ANN index
/// * `metric` — instead of the column's own
///
/// # Errors
///
/// The sentence for the client: an unknown attribute, one that is not of vectors or not indexed,
/// vectors of another form or other dimensions, too many of them, no metric, or a text that was
/// not embedded.
pub fn bind(
    name: &str,
    query: &VectorQuery,
    indexed: bool,
    metric: Option<Metric>,
    schema: &Schema,
    limits: &Limits,
) -> Result<BoundVectors, Invalid> {
    let attribute = schema.require(name)?;
    let (AttrType::Vector { dims, .. } | AttrType::MultiVector { dims }) = attribute.ty else {
        return Err(Invalid::new(format!(
            "{name:?} is {}, and nearest neighbours need a vector attribute such as [768]f32 or [][128]f32",
            attribute.ty
        )));
    };
    if indexed && attribute.ann.is_none() {
        let how = match attribute.ty {
            AttrType::MultiVector { .. } => "\"ann\": {\"late_interaction\": true}",
            _ => "\"ann\"",
        };
        return Err(Invalid::new(format!(
            "{name:?} has no ANN index; set {how} for it in the schema, or use kNN with filters"
        )));
    }
    let vectors = vectors_of(attribute, query)?;
    check_vectors(name, vectors, dims as usize, limits)?;
    let metric = metric.or(attribute.ann).or(attribute.metric).ok_or_else(|| {
        Invalid::new(format!(
            "distance_metric is required, because {name:?} has none: cosine_distance or euclidean_squared"
        ))
    })?;
    Ok(BoundVectors {
        attribute: attribute.id,
        metric,
        query: match attribute.ty {
            AttrType::MultiVector { .. } => Prepared::Late(LateQuery::new(metric, vectors)),
            _ => Prepared::One(PreparedQuery::new(metric, &vectors[0])),
        },
    })
}

/// The vectors of a query, if their form is that of the attribute.
fn vectors_of<'a>(attribute: &Attribute, query: &'a VectorQuery) -> Result<&'a [Vec<f32>], Invalid> {
    let (name, ty) = (&attribute.name, attribute.ty);
    match (query, ty) {
        (VectorQuery::Embed { .. }, _) => Err(Invalid::new(
            "Embed: no embedding model configured on this server; send the vector instead",
        )),
        (VectorQuery::One(vector), AttrType::Vector { .. }) => Ok(std::slice::from_ref(vector)),
        (VectorQuery::Many(vectors), AttrType::MultiVector { .. }) => Ok(vectors),
        (VectorQuery::One(_), _) => Err(Invalid::new(format!(
            "{name:?} is {ty}, which is compared with an array of vectors, not with one vector"
        ))),
        (VectorQuery::Many(_), _) => Err(Invalid::new(format!(
            "{name:?} is {ty}, which is compared with one vector; several need an attribute such as [][128]f32"
        ))),
    }
}

fn check_vectors(name: &str, vectors: &[Vec<f32>], dims: usize, limits: &Limits) -> Result<(), Invalid> {
    if vectors.is_empty() {
        return Err(Invalid::new(format!("the query for {name:?} has no vectors")));
    }
    if let Some(vector) = vectors.iter().find(|v| v.len() != dims) {
        return Err(Invalid::new(format!(
            "the query vector has {} dimensions, and {name:?} has {dims}",
            vector.len()
        )));
    }
    if vectors.iter().flatten().any(|x| !x.is_finite()) {
        return Err(Invalid::new("the query vector has an element beyond the range of f32"));
    }
    // A single vector is bounded by the dimensions that columns can have.
    match vectors.len() == 1
        || vectors.len() <= limits.query_vectors_max && vectors.len() * dims <= limits.query_vector_elements_max
    {
        true => Ok(()),
        false => Err(too_many_vectors(limits)),
    }
}

/// What is said of queries with too many vectors.
fn too_many_vectors(limits: &Limits) -> Invalid {
    Invalid::new(format!(
        "a query can have at most {} vectors, with {} elements together",
        limits.query_vectors_max, limits.query_vector_elements_max
    ))
}

impl BoundVectors {
    /// The attribute that is searched.
    pub fn attribute(&self) -> AttrId {
        self.attribute
    }

    /// The metric that is used.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// How many vectors the query has, and their dimensions.
    pub fn shape(&self) -> (usize, usize) {
        match &self.query {
            Prepared::One(query) => (1, query.dims()),
            Prepared::Late(query) => (query.vectors(), query.dims()),
        }
    }

    /// The distance of one row; `None` when it has no vector.
    pub fn distance(&self, chunk: &Chunk, row: u32) -> Option<f32> {
        let row = row as usize;
        match (&self.query, chunk.column(self.attribute)?) {
            (Prepared::One(query), Column::Vectors(column)) if !column.is_null(row) => {
                Some(query.distance(column, row))
            }
            (Prepared::Late(query), Column::Values(_)) => query.distance(late_values(chunk, self.attribute)?, row),
            _ => None,
        }
    }

    /// Offers the eligible ones of some rows of a part to `best`. Rows without a vector are left
    /// out.
    ///
    /// * `eligible` — a bit per row of the chunk
    pub(super) fn scan<'a>(
        &self,
        number: u32,
        chunk: &'a Chunk,
        eligible: &'a Bitset,
        rows: Range<usize>,
        cutoff: &Cutoff,
        best: &mut TopK<'a>,
    ) {
        let ids = chunk.ids();
        match &self.query {
            Prepared::One(query) => {
                // Without a column, no row has a vector.
                if let Some(Column::Vectors(column)) = chunk.column(self.attribute) {
                    let part = Part {
                        number,
                        column,
                        ids,
                        eligible,
                    };
                    scan_rows(query, &part, rows, cutoff, best);
                }
            }
            Prepared::Late(query) => {
                if let Some(values) = late_values(chunk, self.attribute) {
                    let part = LatePart {
                        number,
                        values,
                        ids,
                        eligible,
                    };
                    scan_late(query, &part, rows, cutoff, best);
                }
            }
        }
    }
}

fn late_values(chunk: &Chunk, attribute: AttrId) -> Option<&LargeBinaryArray> {
    match chunk.column(attribute)? {
        Column::Values(array) => Some(array.as_binary::<i64>()),
        Column::Vectors(_) => None,
    }
}
