//! From a search to queries of the engine. Pure.
//!
//! A search is tried at several levels until enough documents are found: as it was written, then with typos, then with
//! words left out from the right. At each level one filter says which documents match, so that hits, counts and
//! facets are about the same ones; a score ranks them.

use std::sync::Arc;

use super::highlight::typos;
use super::params::{QueryField, RESORTED_MAX, Search, SortKey, unknown};
use super::words::Words;
use crate::api::typesense::check_fields;
use crate::api::typesense::fields::UNDECLARED;
use crate::error::{Error, ErrorKind, Result};
use crate::model::filter::{CompareOptions, EditDistance, FuzzyOptions, Operand};
use crate::model::query::{
    Aggregate, Aggregation, Compute, GroupKey, LimitPer, Projection, RankBy, Score, TextQuery, VectorQuery,
};
use crate::model::{AttrType, Attribute, Direction, Filter, FilterOp, IdKind, Metric, Query, Scalar, Schema};

/// Hits that are sorted again by what comes after the text match.
const RESORTED_ROWS: usize = 250;
/// Groups that are counted.
const GROUPS_MAX: usize = 10_000;
/// Words that are left out at most.
const DROPPED_MAX: usize = 5;
/// The computed score of hits that are not ordered by it.
pub const TEXT_MATCH: &str = "$text_match";
/// Labels of aggregates.
pub const FOUND: &str = "found";
pub const TOP: &str = "top";
pub const DISTINCT: &str = "distinct";
pub const STATS: [&str; 4] = ["min", "max", "sum", "avg"];

/// How loosely a search is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Level {
    pub typos: bool,
    /// Words left out from the right.
    pub dropped: usize,
}

/// What hits are ordered by.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// By score; ties by these attributes, among the first hits.
    Text(Vec<(String, Direction)>),
    /// By attributes.
    Fields(Vec<(String, Direction)>),
    /// By distance.
    Vector,
    /// By ranks in text and distance.
    Hybrid,
}

/// A search that fits a schema.
#[derive(Debug)]
pub struct Plan {
    pub search: Search,
    pub words: Words,
    pub order: Order,
    pub schema: Arc<Schema>,
    /// `filter_by`, without hidden hits.
    filter: Vec<Filter>,
}

impl Plan {
    /// Checks a search against a schema.
    ///
    /// * `default_sort` — the collection's `default_sorting_field`
    ///
    /// # Errors
    ///
    /// 404 for fields that do not exist, 400 for those that cannot do what is asked; in Typesense's words.
    pub fn new(search: Search, words: Words, default_sort: Option<&str>, schema: Arc<Schema>) -> Result<Self> {
        let mut filter = Vec::new();
        if let Some(by) = &search.filter_by {
            check_fields(by, &schema)?;
            filter.push(by.compile(&schema)?);
        }
        if !words.is_empty() && search.query_by.is_empty() && search.vector.is_none() {
            return Err(Error::invalid("No search fields specified for the query."));
        }
        for field in &search.query_by {
            check_searched(&field.name, &schema)?;
        }
        for name in search.facet_by.iter().chain(&search.group_by) {
            let what = "Could not find a facet field named";
            let attribute = schema.get(name);
            let attribute = attribute.ok_or_else(|| unknown(format!("{what} `{name}` in the schema.")))?;
            if !attribute.ty.can_be_filterable() {
                return Err(Error::invalid(format!("Field `{name}` is not a facet field.")));
            }
        }
        if let Some((name, _)) = &search.facet_query
            && !search.facet_by.contains(name)
        {
            return Err(Error::invalid(
                "Facet query refers to a facet field that is not part of `facet_by` parameter.",
            ));
        }
        if let Some(vector) = &search.vector {
            check_vector(&vector.field, vector.vector.len(), &schema)?;
            if !search.group_by.is_empty() {
                return Err(Error::invalid("group_by and vector_query cannot be used together here"));
            }
        }
        let order = order(&search, &words, default_sort, &schema)?;
        // Hits that are sorted again are all held at the same time.
        if matches!(&order, Order::Text(keys) if !keys.is_empty())
            && search.offset.saturating_add(search.per_page) > RESORTED_MAX
        {
            return Err(Error::new(
                ErrorKind::Shape,
                format!(
                    "Only upto {RESORTED_MAX} hits can be fetched in this order; sort by fields alone, or narrow the search."
                ),
            ));
        }
        Ok(Self {
            search,
            words,
            order,
            schema,
            filter,
        })
    }

    /// The levels at which this search may be tried, strictest first.
    pub fn levels(&self) -> Vec<Level> {
        let mut levels = vec![Level::default()];
        if self.words.own().is_empty() || self.search.query_by.is_empty() || self.search.vector.is_some() {
            return levels;
        }
        let typos = self.search.query_by.iter().any(|f| {
            let fuzzy = self.attribute(&f.name).is_some_and(|a| a.fuzzy);
            fuzzy && self.words.own().iter().any(|w| typos(w, f.num_typos) > 0)
        });
        if typos && self.search.typo_tokens_threshold > 0 {
            levels.push(Level { typos, dropped: 0 });
        }
        if self.search.drop_tokens_threshold > 0 {
            let most = (self.words.own().len() - 1).min(DROPPED_MAX);
            levels.extend((1..=most).map(|dropped| Level { typos, dropped }));
        }
        levels
    }

    /// How many documents are enough for this level, so that no looser one is tried.
    pub fn enough(&self, level: Level) -> u64 {
        match level {
            Level {
                dropped: 0,
                typos: false,
            } => self.search.typo_tokens_threshold.max(self.search.drop_tokens_threshold),
            _ => self.search.drop_tokens_threshold,
        }
    }

    /// The words that are looked for at a level.
    pub fn words_at(&self, level: Level) -> Words {
        match level.dropped {
            0 => self.words.clone(),
            dropped => self.words.without_last(dropped),
        }
    }

    /// The ids of hits that are not found but put or left out, as the namespace has them.
    fn curated(&self) -> Vec<serde_json::Value> {
        let pinned = self.search.pinned.iter().map(|(_, id)| id);
        self.ids(pinned.chain(&self.search.hidden))
    }

    fn ids<'a>(&self, ids: impl Iterator<Item = &'a String>) -> Vec<serde_json::Value> {
        ids.filter_map(|id| match self.schema.id_kind {
            Some(IdKind::UInt) => id.parse::<u64>().ok().map(Into::into),
            Some(IdKind::Uuid) => uuid::Uuid::parse_str(id).ok().map(|_| id.as_str().into()),
            Some(IdKind::String) | None => Some(id.as_str().into()),
        })
        .collect()
    }

    /// Which documents match at a level; `None`: all.
    pub fn filter(&self, level: Level) -> Option<Filter> {
        let mut all = self.filter.clone();
        let curated = self.curated();
        if !curated.is_empty() {
            all.push(Filter::compare("id", FilterOp::NotIn, curated));
        }
        if !self.search.query_by.is_empty() && self.search.vector.is_none() {
            all.extend(self.matching(level));
        }
        (!all.is_empty()).then_some(Filter::And(all))
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.schema.get(name)
    }

    /// What the words of the query ask for.
    fn matching(&self, level: Level) -> Option<Filter> {
        let words = self.words_at(level);
        let fields = &self.search.query_by;
        let in_any = |test: &dyn Fn(&QueryField) -> Vec<Filter>| Filter::Or(fields.iter().flat_map(test).collect());
        let mut all = Vec::new();
        let mut said = Vec::new();
        for (i, variant) in words.variants.iter().enumerate() {
            let last = variant.len().saturating_sub(1);
            let each = variant.iter().enumerate().map(|(at, word)| {
                in_any(&|field| {
                    let prefix = field.prefix && at == last && i == 0;
                    let mut tests = vec![tokens(&field.name, FilterOp::ContainsAllTokens, word, prefix)];
                    if level.typos {
                        tests.extend(self.fuzzy(field, word));
                    }
                    tests
                })
            });
            said.push(Filter::And(each.collect()));
        }
        match (said.len(), said.pop()) {
            (1, Some(only)) => all.push(only),
            (_, last) => {
                said.extend(last);
                if !said.is_empty() {
                    all.push(Filter::Or(said));
                }
            }
        }
        for phrase in &words.phrases {
            all.push(in_any(&|f| {
                vec![tokens(&f.name, FilterOp::ContainsTokenSequence, phrase, false)]
            }));
        }
        for word in &words.excluded {
            let any = in_any(&|f| vec![tokens(&f.name, FilterOp::ContainsAllTokens, word, false)]);
            all.push(Filter::Not(Box::new(any)));
        }
        (!all.is_empty()).then_some(Filter::And(all))
    }

    fn fuzzy(&self, field: &QueryField, word: &str) -> Option<Filter> {
        let fuzzy = self.attribute(&field.name).is_some_and(|a| a.fuzzy);
        if !fuzzy || typos(word, field.num_typos) == 0 {
            return None;
        }
        let entry = |min_query_chars, distance| EditDistance {
            min_query_chars,
            distance,
        };
        let mut max_edit_distance = vec![entry(6, 1)];
        if field.num_typos > 1 {
            max_edit_distance.push(entry(9, 2));
        }
        Some(Filter::Compare {
            attribute: field.name.clone(),
            op: FilterOp::Fuzzy,
            operand: Operand::Value(word.into()),
            options: CompareOptions::Fuzzy(FuzzyOptions {
                max_edit_distance,
                case_sensitive: false,
            }),
        })
    }

    /// How well documents match at a level; `None` when there are no words to match.
    fn score(&self, level: Level) -> Option<Score> {
        let words = self.words_at(level);
        if words.is_empty() || self.search.query_by.is_empty() {
            return None;
        }
        let mut sum = Vec::new();
        let variants = if words.variants.is_empty() {
            vec![Vec::new()]
        } else {
            words.variants.clone()
        };
        for (i, variant) in variants.iter().enumerate() {
            for field in &self.search.query_by {
                let tokens: Vec<String> = words.phrases.iter().chain(variant).cloned().collect();
                let text = Score::Text {
                    attribute: field.name.clone(),
                    query: TextQuery::Tokens(tokens),
                    last_as_prefix: field.prefix && i == 0 && !variant.is_empty(),
                };
                sum.push((field.weight, text));
                if level.typos {
                    let fuzzy = variant.iter().filter_map(|word| self.fuzzy(field, word));
                    sum.extend(fuzzy.map(|f| (field.weight * 0.05, Score::Filter(f))));
                }
            }
        }
        if let [(weight, _)] = sum.as_slice()
            && *weight > 0.0
        {
            return sum.pop().map(|(_, text)| text);
        }
        let weighted = |(weight, of)| Score::Product {
            weight,
            of: Box::new(of),
        };
        let mut sum: Vec<Score> = sum.into_iter().map(weighted).collect();
        // Every document that matches has a score above 0, whatever the weights.
        sum.push(weighted((1e-9, Score::Filter(Filter::And(Vec::new())))));
        Some(Score::Sum(sum))
    }

    /// The attributes that hits need: those that are shown, highlighted and sorted by.
    fn projection(&self, highlighted: &[String]) -> Projection {
        let needed = |name: &str| {
            name == UNDECLARED
                || self.search.shown.shows(name)
                || highlighted.iter().any(|h| h == name)
                || self.search.group_by.iter().any(|g| g == name)
                || matches!(&self.order, Order::Text(keys) if keys.iter().any(|(k, _)| k == name))
        };
        let names = self.schema.attributes().map(|a| a.name.to_string());
        Projection::Only(names.filter(|n| needed(n)).collect())
    }

    /// Whether the hits of a window are found by sorting more of them again.
    pub fn resorts(&self) -> bool {
        matches!(&self.order, Order::Text(keys) if !keys.is_empty())
    }

    /// The hits from `offset` on.
    pub fn hits(&self, level: Level, offset: usize, limit: usize, highlighted: &[String]) -> Query {
        let score = self.score(level);
        let mut compute = Vec::new();
        let rank_by = match (&self.order, score) {
            (Order::Fields(keys), score) => {
                compute.extend(score.map(|s| (Arc::from(TEXT_MATCH), Compute::Score(s))));
                RankBy::Order(keys.clone())
            }
            (_, Some(score)) => RankBy::Score(score),
            (_, None) => by_id(),
        };
        let (offset, limit) = match self.resorts() {
            true => (0, (offset + limit).max(RESORTED_ROWS)),
            false => (offset, limit),
        };
        Query {
            rank_by: Some(rank_by),
            limit,
            offset,
            filter: self.filter(level),
            include: self.projection(highlighted),
            compute,
            ..Query::default()
        }
    }

    /// The nearest documents; all that the answer is made of.
    pub fn nearest(&self, highlighted: &[String]) -> Option<Query> {
        let by = self.search.vector.as_ref()?;
        let page = self.search.offset.saturating_add(self.search.per_page);
        Some(Query {
            rank_by: Some(RankBy::Nearest {
                attribute: by.field.clone(),
                query: VectorQuery::One(by.vector.clone()),
                exact: false,
            }),
            limit: by.k.unwrap_or(page.max(100)).min(GROUPS_MAX),
            filter: self.filter(Level::default()),
            include: self.projection(highlighted),
            distance_metric: self
                .attribute(&by.field)
                .is_some_and(|a| a.metric.is_none() && a.ann.is_none())
                .then_some(Metric::CosineDistance),
            ..Query::default()
        })
    }

    /// The text side of a hybrid search.
    pub fn hybrid_text(&self, highlighted: &[String]) -> Option<Query> {
        let mut filter = self.filter.clone();
        filter.extend(self.matching(Level::default()));
        let score = self.score(Level::default())?;
        Some(Query {
            rank_by: Some(RankBy::Score(score)),
            limit: RESORTED_ROWS,
            filter: Some(Filter::And(filter)),
            include: self.projection(highlighted),
            ..Query::default()
        })
    }

    /// The documents that are pinned, of those that exist.
    pub fn pinned(&self, highlighted: &[String]) -> Option<Query> {
        let ids = self.ids(self.search.pinned.iter().map(|(_, id)| id));
        (!ids.is_empty()).then(|| Query {
            rank_by: Some(by_id()),
            limit: ids.len(),
            filter: Some(Filter::compare("id", FilterOp::In, ids)),
            include: self.projection(highlighted),
            ..Query::default()
        })
    }

    /// The first document of each group, from `offset` on.
    pub fn leaders(&self, level: Level, offset: usize, limit: usize, highlighted: &[String]) -> Query {
        let mut query = self.hits(level, offset, limit, highlighted);
        (query.offset, query.limit) = (offset, limit);
        query.per = Some(self.per(1));
        query
    }

    /// The first documents of groups that their leaders stand for.
    pub fn members(&self, level: Level, keys: Vec<Filter>, highlighted: &[String]) -> Query {
        let limit = keys.len() * self.search.group_limit;
        let mut query = self.hits(level, 0, limit, highlighted);
        (query.offset, query.limit) = (0, limit.min(GROUPS_MAX));
        query.filter = Some(Filter::And(
            query.filter.into_iter().chain([Filter::Or(keys)]).collect(),
        ));
        query.per = Some(self.per(self.search.group_limit));
        query
    }

    fn per(&self, limit: usize) -> LimitPer {
        LimitPer {
            attributes: self.search.group_by.clone(),
            limit,
        }
    }

    /// The groups and how many documents each has.
    pub fn groups(&self, level: Level) -> Query {
        let keys = self.search.group_by.iter().cloned().map(GroupKey::Attribute);
        aggregation(self.filter(level), vec![(FOUND, Aggregate::Count)], keys.collect())
    }

    /// How many documents match.
    pub fn count(&self, level: Level) -> Query {
        aggregation(self.filter(level), vec![(FOUND, Aggregate::Count)], Vec::new())
    }

    /// How many documents there are for the caller.
    pub fn out_of() -> Query {
        aggregation(None, vec![(FOUND, Aggregate::Count)], Vec::new())
    }

    /// The values of each facet field with their counts.
    pub fn facets(&self, level: Level) -> Vec<Query> {
        let of = |name: &String| {
            let asked = self.search.facet_query.as_ref().is_some_and(|(field, _)| field == name);
            let limit = if asked {
                1000
            } else {
                self.search.max_facet_values.max(1)
            };
            let mut aggregates = vec![
                (
                    TOP,
                    Aggregate::Top {
                        attribute: name.clone(),
                        limit,
                    },
                ),
                (DISTINCT, Aggregate::CountDistinct(name.clone())),
            ];
            if self.attribute(name).is_some_and(is_number) {
                let [min, max, sum, avg] = STATS;
                aggregates.extend([
                    (min, Aggregate::Min(name.clone())),
                    (max, Aggregate::Max(name.clone())),
                    (sum, Aggregate::Sum(name.clone())),
                    (avg, Aggregate::Avg(name.clone())),
                ]);
            }
            aggregation(self.filter(level), aggregates, Vec::new())
        };
        self.search.facet_by.iter().map(of).collect()
    }
}

fn by_id() -> RankBy {
    RankBy::Order(vec![("id".to_owned(), Direction::Asc)])
}

fn is_number(attribute: &Attribute) -> bool {
    matches!(
        attribute.ty,
        AttrType::Scalar(Scalar::Int | Scalar::UInt | Scalar::Float)
    )
}

fn aggregation(filter: Option<Filter>, aggregates: Vec<(&str, Aggregate)>, group_by: Vec<GroupKey>) -> Query {
    Query {
        limit: GROUPS_MAX,
        filter,
        aggregation: Some(Aggregation {
            aggregates: aggregates.into_iter().map(|(label, a)| (Arc::from(label), a)).collect(),
            group_by,
        }),
        ..Query::default()
    }
}

fn tokens(attribute: &str, op: FilterOp, text: &str, prefix: bool) -> Filter {
    Filter::Compare {
        attribute: attribute.to_owned(),
        op,
        operand: Operand::Value(text.into()),
        options: match prefix {
            true => CompareOptions::LastAsPrefix,
            false => CompareOptions::None,
        },
    }
}

fn check_searched(name: &str, schema: &Schema) -> Result<()> {
    let attribute = schema.get(name);
    let attribute =
        attribute.ok_or_else(|| unknown(format!("Could not find a field named `{name}` in the schema.")))?;
    match (attribute.ty.can_be_searched(), attribute.full_text) {
        (false, _) => Err(Error::invalid(format!(
            "Field `{name}` should be a string or a string array."
        ))),
        (true, None) => Err(Error::invalid(format!(
            "Field `{name}` is marked as a non-indexed field in the schema."
        ))),
        (true, Some(_)) => Ok(()),
    }
}

fn check_vector(name: &str, dims: usize, schema: &Schema) -> Result<()> {
    let attribute = schema.get(name);
    let attribute = attribute.ok_or_else(|| unknown(format!("Field `{name}` does not have a vector query index.")))?;
    match attribute.ty {
        AttrType::Vector { dims: has, .. } if has as usize == dims => Ok(()),
        AttrType::Vector { dims: has, .. } => Err(Error::invalid(format!(
            "Query field `{name}` must have {has} dimensions."
        ))),
        _ => Err(Error::invalid(format!(
            "Field `{name}` does not have a vector query index."
        ))),
    }
}

fn order(search: &Search, words: &Words, default_sort: Option<&str>, schema: &Schema) -> Result<Order> {
    let has_text = !words.is_empty() && !search.query_by.is_empty();
    let mut fields = Vec::new();
    for (key, direction) in &search.sort_by {
        let SortKey::Field(name) = key else { continue };
        let sortable = name == "id" || schema.get(name).is_some_and(|a| matches!(a.ty, AttrType::Scalar(_)));
        if !sortable {
            return Err(unknown(format!(
                "Could not find a field named `{name}` in the schema for sorting."
            )));
        }
        fields.push((name.clone(), *direction));
    }
    let default = default_sort.filter(|name| schema.get(name).is_some());
    let default = || default.map(|name| (name.to_owned(), Direction::Desc));
    let first = search.sort_by.first();
    match (&search.vector, first) {
        (Some(_), None | Some((SortKey::VectorDistance | SortKey::TextMatch, _))) => {
            return Ok(if has_text { Order::Hybrid } else { Order::Vector });
        }
        (Some(_), Some(_)) => {
            return Err(Error::invalid(
                "a search by vector_query cannot be sorted by fields here; use _vector_distance",
            ));
        }
        (None, Some((SortKey::TextMatch, Direction::Asc))) => {
            return Err(Error::invalid("sort_by: `_text_match` can only be sorted `desc` here"));
        }
        _ => {}
    }
    Ok(match first {
        None if has_text => Order::Text(default().into_iter().collect()),
        Some((SortKey::TextMatch, _)) if has_text => Order::Text(fields),
        _ => {
            if fields.is_empty() {
                fields.extend(default());
            }
            if fields.is_empty() {
                fields.push(("id".to_owned(), Direction::Asc));
            }
            Order::Fields(fields)
        }
    })
}
