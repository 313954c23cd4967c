//! Every documented limit, in one table.

/// Limits on what clients may send. The defaults are the documented values
/// (docs/limits.md); tests override those that are too large to reach.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A request body, before and after decompression.
    pub body_bytes_max: u64,
    /// A query body, before and after decompression.
    pub query_body_bytes_max: u64,
    /// Attributes per namespace.
    pub attributes_max: usize,
    /// Dense vector columns per namespace.
    pub vector_columns_max: usize,
    /// One attribute value.
    pub value_bytes_max: usize,
    /// One filterable attribute value, or one element of a filterable array.
    pub filterable_bytes_max: usize,
    /// One row.
    pub row_bytes_max: usize,
    /// A string id.
    pub id_bytes_max: usize,
    /// Entries of a sparse vector.
    pub sparse_entries_max: usize,
    /// Rows of a query's answer.
    pub rows_max: usize,
    /// Sub-queries of a multi-query.
    pub subqueries_max: usize,
    /// Characters of a full-text query.
    pub text_query_chars_max: usize,
    /// Keys of an attribute order.
    pub order_keys_max: usize,
    /// Unindexed bytes of a namespace above which writes get 429.
    pub unindexed_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 512 * 1000 * 1000,
            query_body_bytes_max: 16 * 1024 * 1024,
            attributes_max: 1024,
            vector_columns_max: 8,
            value_bytes_max: 8 * 1024 * 1024,
            filterable_bytes_max: 4096,
            row_bytes_max: 64 * 1024 * 1024,
            id_bytes_max: 64,
            sparse_entries_max: 1024,
            rows_max: 10_000,
            subqueries_max: 16,
            text_query_chars_max: 8192,
            order_keys_max: 8,
            unindexed_bytes_max: 2 * 1000 * 1000 * 1000,
        }
    }
}
