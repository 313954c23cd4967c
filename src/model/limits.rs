//! Every documented limit, in one table.

use std::time::Duration;

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
    /// Attributes of a namespace that models make vectors of.
    pub embedded_attributes_max: usize,
    /// Rows of one request that models make vectors of.
    pub embedded_rows_max: usize,
    /// Rows of a query's answer.
    pub rows_max: usize,
    /// Memory for the values of the rows of a request's answers, in bytes.
    pub answer_bytes_max: u64,
    /// How far `offset` and `limit` together may reach into an order.
    pub ranked_rows_max: usize,
    /// Groups of an aggregation's answer.
    pub groups_max: usize,
    /// Aggregates of a query.
    pub aggregates_max: usize,
    /// What an aggregation may group by, and what `limit.per` may name.
    pub group_keys_max: usize,
    /// Values of one `Top`.
    pub top_values_max: usize,
    /// Memory for the distinct values that the aggregates of a query count, in bytes: of each value in each group
    /// as many as it is long, and 64.
    pub distinct_bytes_max: usize,
    /// Groups that rows fall into, added up over the rows, where a query groups by the elements of several arrays.
    pub combinations_max: u64,
    /// Sub-queries of a multi-query.
    pub subqueries_max: usize,
    /// Characters of a full-text query.
    pub text_query_chars_max: usize,
    /// Values in the operands of one filter, the elements of lists counted one by one. Typed and
    /// hashed, a value takes up to 100 bytes of memory while the query runs.
    pub filter_values_max: usize,
    /// Bytes of a glob or regular expression.
    pub pattern_bytes_max: usize,
    /// Characters of a fuzzy query. Searching a text takes time in proportion to both.
    pub fuzzy_query_chars_max: usize,
    /// Keys of an attribute order.
    pub order_keys_max: usize,
    /// Rows that one `delete_by_filter` may delete.
    pub delete_by_filter_max: usize,
    /// Rows that one `patch_by_filter` may change.
    pub patch_by_filter_max: usize,
    /// Query slots of a namespace: how many queries run at once, heavy ones counting for more.
    pub query_slots_max: u32,
    /// How long a query waits for slots before it gets 429.
    pub query_wait_max: Duration,
    /// How long the queries of a request may take once they have slots.
    pub query_time_max: Duration,
    /// Queries of one measurement of recall.
    pub recall_queries_max: usize,
    /// Computed attributes of a query.
    pub computed_attributes_max: usize,
    /// Highlighted fragments of one value.
    pub fragments_max: usize,
    /// Nesting of a ranking expression, filters in it not counted.
    pub rank_depth_max: usize,
    /// Expressions in a ranking expression, with all conditions of filters in it.
    pub rank_nodes_max: usize,
    /// Vectors of a late-interaction query.
    pub query_vectors_max: usize,
    /// Elements of all vectors of a late-interaction query.
    pub query_vector_elements_max: usize,
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
            embedded_attributes_max: 4,
            embedded_rows_max: 30,
            rows_max: 10_000,
            answer_bytes_max: 256 * 1024 * 1024,
            ranked_rows_max: 100_000,
            groups_max: 10_000,
            aggregates_max: 32,
            group_keys_max: 8,
            top_values_max: 1000,
            distinct_bytes_max: 64 * 1024 * 1024,
            combinations_max: 100_000_000,
            subqueries_max: 16,
            text_query_chars_max: 8192,
            filter_values_max: 1_000_000,
            pattern_bytes_max: 4096,
            fuzzy_query_chars_max: 1024,
            order_keys_max: 8,
            delete_by_filter_max: 5_000_000,
            patch_by_filter_max: 50_000,
            query_slots_max: 16,
            query_wait_max: Duration::from_millis(800),
            query_time_max: Duration::from_secs(30),
            recall_queries_max: 1000,
            computed_attributes_max: 256,
            fragments_max: 1024,
            rank_depth_max: 32,
            rank_nodes_max: 1024,
            query_vectors_max: 1024,
            query_vector_elements_max: 131_072,
            unindexed_bytes_max: 2 * 1000 * 1000 * 1000,
        }
    }
}
